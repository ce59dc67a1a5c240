"""Trackers: a run's numbers in TensorBoard or Weights & Biases."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer, RunInfo, Status
from escapevelocity.runs.atomic import write_bytes


class TensorBoardTracker(Observer):
    """Writes every numeric column as a scalar against `env_steps`, one sub-folder `seed-S` per member.

    TensorBoard knows no undefined value: NaN and infinite numbers are left out (the run's records keep them).
    After a resume, points of the uncommitted segment are hidden.

    Args:
        log_dir: the folder for `tensorboard --logdir`.

    Raises:
        UserError: when tensorboardX is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str]) -> None:
        self._module = _import("tensorboardX", "tensorboard")
        self._proto = _import("tensorboardX.proto.summary_pb2", "tensorboard")
        self._log_dir = Path(log_dir)
        self._writers: dict[int, Any] = {}
        self._purge_step: int | None = None

    def on_start(self, info: RunInfo) -> None:
        """Remember where a resumed run goes on."""
        self._purge_step = info.steps_done + 1 if info.segments_done else None

    def on_row(self, row: Mapping[str, Any]) -> None:
        """Write one event with all scalars of the row."""
        seed = row.get("seed", 0)
        if seed not in self._writers:
            folder = str(self._log_dir / f"seed-{seed}")
            self._writers[seed] = self._module.SummaryWriter(folder, purge_step=self._purge_step)
        # One event for the row: an `add_scalar` for each of its ~80 columns takes some 6 ms.
        Summary = self._proto.Summary
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in _scalars(row).items()]
        self._writers[seed].file_writer.add_summary(Summary(value=values), row.get("env_steps"))

    def on_end(self, status: Status) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()


class WandbTracker(Observer):
    """Logs to one Weights & Biases run: keys `seed-S/column`, each against `env_steps`.

    Offline (files below RUN/wandb, sent later by `wandb sync`) unless WANDB_MODE says otherwise or
    WANDB_API_KEY is set. A resumed run continues the same W&B run, whose id is kept in RUN/wandb/ev-id.

    Args:
        run_dir: the run's folder.

    Raises:
        UserError: when wandb is not installed.
    """

    def __init__(self, run_dir: str | os.PathLike[str]) -> None:
        self._module = _import("wandb", "wandb")
        self._run_dir = Path(run_dir)
        self._run: Any = None

    def on_start(self, info: RunInfo) -> None:
        """Open the W&B run."""
        mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
        self._run = self._module.init(
            project=os.environ.get("WANDB_PROJECT", "escapevelocity"),
            name=self._run_dir.name,
            id=_identity(self._run_dir),
            resume="allow",
            dir=str(self._run_dir),
            mode=mode,
            config={"job": info.job, **_settings(info.spec)},
            # wandb must not capture the terminal: the live table draws there.
            settings=self._module.Settings(console="off", silent=True),
        )
        self._run.define_metric("env_steps", hidden=True)
        self._run.define_metric("*", step_metric="env_steps")

    def on_row(self, row: Mapping[str, Any]) -> None:
        """Log one row."""
        prefix = f"seed-{row.get('seed', 0)}/"
        scalars = {prefix + name: value for name, value in _scalars(row).items()}
        self._run.log({"env_steps": row.get("env_steps"), **scalars})

    def on_end(self, status: Status) -> None:
        """Close the W&B run."""
        if self._run is not None:
            self._run.summary["status"] = status.state
            self._run.finish(exit_code=status.exit_code)


_TRACKERS: dict[str, Callable[[Path], Observer]] = {
    "tensorboard": lambda run_dir: TensorBoardTracker(run_dir / "tensorboard"),
    "wandb": WandbTracker,
}
TRACKERS = tuple(_TRACKERS)
"""Names that `make_trackers` knows."""


def make_trackers(names: Sequence[str], run_dir: str | os.PathLike[str]) -> list[Observer]:
    """Make the trackers of the given names.

    Args:
        names: of `TRACKERS`.
        run_dir: the run's folder.

    Raises:
        UserError: for an unknown or repeated name, or a package that is not installed.

    Example:
        >>> make_trackers([], "runs/demo")
        []
    """
    for name in names:
        if name not in _TRACKERS:
            raise UserError(f"track = {name!r}: must be one of {', '.join(TRACKERS)}")
        if list(names).count(name) > 1:
            raise UserError(f"track = {' '.join(names)}: {name} stands there more than once; name it once")
    return [_TRACKERS[name](Path(run_dir)) for name in names]


def _import(package: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(
            f"track = {name!r}: needs the package {package.split('.')[0]}; pip install 'escapevelocity[track]'"
        ) from error


def _scalars(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in row.items()
        if name not in ("seed", "env_steps")
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def _settings(spec: Any) -> dict[str, Any]:
    return dataclasses.asdict(spec) if dataclasses.is_dataclass(spec) and not isinstance(spec, type) else {}


def _identity(run_dir: Path) -> str:
    """Give the id of the run's W&B run: made by chance when it first starts, read ever after.

    What the folder holds at the start (its path, the times of its files) is no id: a new run in the same place would go
    on with the old one.
    """
    path = run_dir / "wandb" / "ev-id"
    if not path.exists():
        write_bytes(path, secrets.token_hex(6).encode())
    return path.read_text(encoding="ascii")
