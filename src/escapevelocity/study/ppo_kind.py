"""PPO runs in a study: presets, settings and remedies as `ev train` would take them."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from escapevelocity.envs import Task, describe_task
from escapevelocity.errors import UserError, require
from escapevelocity.ppo.config import OptimizerConfig, PPOSpec
from escapevelocity.ppo.job import PPOJob, task_of
from escapevelocity.ppo.remedies import apply_remedies, remedy_class, remedy_types
from escapevelocity.ppo.remedy import Remedy
from escapevelocity.ppo.training import default_spec, resume_training, run_path, train
from escapevelocity.runs import Observer, Status, canonical_json, spec_from_json
from escapevelocity.runs.spec import SPEC_FILE
from escapevelocity.study.settings import setting_names, typed_values, with_settings
from escapevelocity.study.standing import finished_status

NONE = "none"
"""Stands for no remedy at all."""
_FIXED = ("seeds", "remedies", "branch")  # Not settings of a cell.


class PPOKind:
    """The trainer of `escapevelocity.ppo`."""

    name = PPOJob.name

    def spec(self, settings: Mapping[str, Any], seeds: tuple[int, ...]) -> PPOSpec:
        """Lay settings over the preset's defaults for the task, then apply the remedies.

        Args:
            settings: by name; `task` is needed, `preset` follows from it.
            seeds: the population.

        Raises:
            UserError: an unknown setting, task, remedy or field of one, a value that is not accepted, or settings that
                do not go together.
        """
        given = dict(settings)
        remedies = _remedies(given.pop("remedy", NONE), {n: given.pop(n) for n in list(given) if "." in n})
        which = {name: given.pop(name) for name in ("task", "preset") if name in given}
        require(
            "task" in which, "task", None, "given in [base] or on an axis: an environment, such as Hopper-v4"
        )
        typed = typed_values(PPOSpec, which)
        spec = with_settings(_defaults(**typed), given, fixed=_FIXED)
        spec = apply_remedies(dataclasses.replace(spec, seeds=seeds), remedies)
        _require_fitting(spec)
        return spec

    def folder(self, spec: PPOSpec) -> str:
        """The name that `ev train` gives a run of this spec."""
        return run_path(spec).name

    def spec_text(self, spec: PPOSpec) -> str:
        """Canonical JSON."""
        return canonical_json(spec, self.name)

    def steps(self, spec: PPOSpec) -> int:
        """Environment steps (frames, for games) per seed, in whole batches."""
        return spec.num_batches * spec.batch_steps

    def run(self, spec_text: str, path: Path, observers: Sequence[Observer]) -> Status:
        """Train, or go on with what is there.

        Raises:
            UserError: it has come to its end, and its spec.json has been edited since.
            KeyboardInterrupt, SystemExit: a signal came; the run has been left in order.
        """
        spec = spec_from_json(PPOSpec, json.loads(spec_text)["spec"], remedy_types())
        if not (path / SPEC_FILE).exists():
            return train(spec, path.parent, path.name, observers).status
        return finished_status(path, spec, spec_text) or resume_training(path, observers).status


@functools.lru_cache(maxsize=256)
def _defaults(task: str, preset: str | None = None) -> PPOSpec:
    """The preset's settings; looking a task up may start a game."""
    return default_spec(task, preset, (0,))


@functools.lru_cache(maxsize=256)
def _describe(task: str, *environment: Any) -> Task:
    backend, episode_limit, frame_skip, sticky_actions = environment
    return describe_task(task, backend, episode_limit, frame_skip, sticky_actions)


@functools.lru_cache(maxsize=256)
def _require_fitting_task(bare: PPOSpec) -> None:
    task_of(bare)


def _require_fitting(spec: PPOSpec) -> None:
    """What `task_of` checks, but each task and network once: a grid of a thousand cells has few of them."""
    env = spec.environment
    task = _describe(spec.task, env.backend, env.episode_limit, env.frame_skip, env.sticky_actions)
    for remedy in spec.remedies:
        remedy.check(spec, task)
    one = OptimizerConfig(minibatch_size=spec.batch_size)  # One minibatch, whatever the batch's size.
    _require_fitting_task(
        PPOSpec(
            spec.task,
            seeds=(0,),
            steps=spec.batch_steps,
            environment=env,
            network=spec.network,
            optimizer=one,
        )
    )


def _remedies(given: Any, fields: Mapping[str, Any]) -> list[Remedy]:
    """Make the remedies of a cell.

    Args:
        given: a name, a list of names, a table of names with their fields, or "none".
        fields: values by `NAME.field`, which go before those of the table.
    """
    tables = _tables(given)
    for key, value in fields.items():
        name, _, field = key.partition(".")
        if name not in tables:
            asked = f"the remedies are {', '.join(tables)}" if tables else "no remedy is asked for"
            _require_remedy(key, value)
            raise UserError(
                f"{key} = {value!r}: {asked}; add remedy = {name!r}, or set it by a [[when]] rule"
            )
        tables[name][field] = value
    return [_remedy(name, table) for name, table in tables.items()]


def _require_remedy(key: str, value: Any) -> None:
    """Refuse a name with a dot that is no remedy's: someone may have written `optimizer.epochs` for `epochs`."""
    name, _, field = key.partition(".")
    try:
        remedy_class(name)
    except UserError as error:
        short = field in setting_names(PPOSpec)
        hint = f"did you mean {field}?" if short else f"before the dot stands a remedy: {error}"
        raise UserError(f"{key} = {value!r}: unknown setting; {hint}") from error


def _tables(given: Any) -> dict[str, dict[str, Any]]:
    """The fields of each remedy."""
    if isinstance(given, Mapping):
        for name, table in given.items():
            require(
                isinstance(table, Mapping), f"remedy {name}", table, "a table of fields, such as {coef = 10}"
            )
        return {name: dict(table) for name, table in given.items()}
    names = [given] if isinstance(given, str) else given
    accepted = "a name, a list of names, a table of names with their fields, or 'none'"
    words = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    require(words, "remedy", given, accepted)
    for name in names:
        require(names.count(name) == 1, "remedy", name, "given once")
    if NONE in names:
        require(len(names) == 1, "remedy", given, "'none' alone, or without it")
        return {}
    return {name: {} for name in names}


def _remedy(name: str, table: Mapping[str, Any]) -> Remedy:
    cls = remedy_class(name)
    known = {field.name: field for field in dataclasses.fields(cls)}
    return cls(**typed_values(cls, table, f"{name}.")) if known or table else cls()
