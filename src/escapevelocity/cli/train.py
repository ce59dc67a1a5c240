"""`ev train`: train PPO on a task."""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from escapevelocity.cli._parse import parse
from escapevelocity.errors import UserError
from escapevelocity.ppo.config import PPOSpec


@dataclasses.dataclass(frozen=True)
class Train:
    """Train PPO on a task, with the health of its representation measured on every batch.

    The preset follows from the task's family: mujoco (Moalla et al. 2024) for Gymnasium's MuJoCo tasks, classic
    (CleanRL) for all others. `ev train TASK --help` shows the defaults for TASK. Records, checkpoints and settings
    land in OUT/NAME.

    Sources of the settings: [M] Moalla et al. 2024 (arXiv 2405.00662), [S] Schulman et al. 2017 (arXiv 1707.06347),
    [G] Schulman et al. 2016 (arXiv 1506.02438), [C] CleanRL's ppo.py.
    """

    spec: PPOSpec = dataclasses.field(default_factory=PPOSpec)
    """What is trained, and how."""
    config: Path | None = None
    """Take all settings from a saved spec.json (or the run that holds it); options given here still override it."""
    out: Path = Path("runs")
    """Folder that holds runs."""
    name: str | None = None
    """Name of the run; by default the task and the hash of its settings."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also write the records for these trackers (pip install 'escapevelocity[track]'); wandb works offline."""
    dry_run: bool = False
    """Print the resolved settings and the planned segments, and stop."""


def main(argv: Sequence[str]) -> int:
    """Run `ev train`; returns the exit code."""
    arguments = expand_ranges(argv)
    help_only = any(a in ("-h", "--help") for a in arguments)
    command = parse(Train, arguments, "ev train", default=Train(spec=_defaults(arguments, help_only)))
    from escapevelocity.ppo.training import run_path, train

    spec, path = command.spec, run_path(command.spec, command.out, command.name)
    _say_rounding(spec)
    if command.dry_run:
        print(_plan(spec, path))
        return 0
    from escapevelocity.report.table import terminal_observer
    from escapevelocity.report.trackers import make_trackers

    observers = [terminal_observer(), *make_trackers(command.track, path)]
    return train(spec, command.out, command.name, observers).status.exit_code


def expand_ranges(argv: Sequence[str]) -> list[str]:
    """Write inclusive ranges after --seeds out: `--seeds 1:3 7` becomes `--seeds 1 2 3 7`."""
    expanded: list[str] = []
    in_seeds = False
    for argument in argv:
        if argument.startswith("-"):
            in_seeds = argument == "--seeds"
        match = re.fullmatch(r"(\d+):(\d+)", argument) if in_seeds else None
        if match is None:
            expanded.append(argument)
            continue
        first, last = int(match[1]), int(match[2])
        if not first <= last < first + 100_000:
            raise UserError(f"seeds = {argument}: a range a:b needs a ≤ b, and at most 100000 seeds")
        expanded += map(str, range(first, last + 1))
    return expanded


def _defaults(arguments: list[str], help_only: bool) -> PPOSpec:
    """The settings that the options are laid over: those of --config, or of the preset that fits the task."""
    config, preset = _option(arguments, "--config"), _option(arguments, "--preset")
    named = [a for a in arguments if re.fullmatch(r"[\w./:]+-v\d+", a)]
    task = named[0] if named else (arguments[0] if arguments and not arguments[0].startswith("-") else None)
    if config is not None:
        if preset is not None:
            raise UserError(
                f"preset = {preset!r}: --config {config} already says every setting; leave one of the two out"
            )
        from escapevelocity.runs import load_spec

        return load_spec(PPOSpec, config, "ppo")
    if task is None:
        if help_only:
            return PPOSpec()
        raise UserError("task: missing; name an environment, such as ev train Hopper-v4")
    from escapevelocity.ppo.presets import PRESETS
    from escapevelocity.ppo.training import default_spec

    if preset not in (None, *PRESETS):
        raise UserError(f"preset = {preset!r}: must be one of {', '.join(PRESETS)}")
    return default_spec(task, preset)


def _option(arguments: list[str], name: str) -> str | None:
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(name + "="):
            return argument.split("=", 1)[1]
    return None


def _say_rounding(spec: PPOSpec) -> None:
    steps = spec.num_batches * spec.batch_size
    if steps != spec.steps:
        print(
            f"ev: --steps {spec.steps} rounded down to {steps}: {spec.num_batches} whole batches of {spec.batch_size}",
            file=sys.stderr,
        )


def _plan(spec: PPOSpec, path: Path) -> str:
    from escapevelocity.ppo.job import PPOJob
    from escapevelocity.runs import canonical_json

    job = PPOJob()
    count = job.segments(spec)
    lines = [canonical_json(spec, job.name).rstrip(), "", f"run directory  {path}"]
    lines.append(f"members        {len(spec.seeds)} (seeds {' '.join(map(str, spec.seeds))})")
    lines.append(f"batches        {spec.num_batches} of {spec.batch_size} steps per member")
    lines.append(f"segments       {count}, each from fresh environments to a checkpoint:")
    lines += [
        f"  {k + 1:>3}  steps {job.step(spec, k) + 1:>11,} – {job.step(spec, k + 1):>11,}"
        for k in range(count)
    ]
    return "\n".join(lines)
