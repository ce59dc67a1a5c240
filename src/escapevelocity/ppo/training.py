"""Start and resume PPO runs: what `ev train` and `escapevelocity.train` share."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from escapevelocity.ppo.best import BestKeeper
from escapevelocity.ppo.branching import origin_of
from escapevelocity.ppo.capacity import require_minibatch
from escapevelocity.ppo.capacity_run import CapacityJob, has_capacity
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.job import PPOJob, state_template, task_of
from escapevelocity.ppo.presets import preset_spec
from escapevelocity.ppo.saved import saved_spec
from escapevelocity.runs import (
    Observer,
    Run,
    open_run,
    resume,
    run_directory,
    spec_hash,
    start,
)
from escapevelocity.runs.best import has_best
from escapevelocity.runs.branch_points import placed
from escapevelocity.runs.ended import ended_run, pass_signal_on
from escapevelocity.runs.process import trainer_process


def default_spec(task: str, preset: str | None = None, seeds: Sequence[int] = (1,)) -> PPOSpec:
    """The preset's settings for `task`; without `preset`, the one of the task's family.

    Args:
        task: environment id, such as "Hopper-v4".
        preset: one of `presets.PRESETS`.
        seeds: seeds of the population.

    Raises:
        UserError: unknown task or unsupported spaces.
    """
    from escapevelocity.envs import BoxActions, describe_task, task_family

    discrete = not isinstance(describe_task(task).actions, BoxActions)
    return preset_spec(preset or task_family(task), task, discrete, seeds)


def run_path(spec: PPOSpec, out: str | os.PathLike[str] = "runs", name: str | None = None) -> Path:
    """The folder that a run of `spec` is written to."""
    return run_directory(out, name, f"{spec.task}-{spec_hash(spec, PPOJob.name)}")


def train(
    spec: PPOSpec,
    out: str | os.PathLike[str] = "runs",
    name: str | None = None,
    observers: Sequence[Observer] = (),
    keep_best: bool = False,
    capacity: bool = False,
) -> Run:
    """Train a population and write its run directory.

    Args:
        spec: everything the run depends on; `default_spec` makes one, `dataclasses.replace` changes it, and
            `branching.branch_spec` makes that of a branch.
        out: folder that holds runs.
        name: the run's name; by default the task and the spec's hash.
        observers: told about every record as it happens (a live table, a tracker, a rule that stops the run).
        keep_best: keep each member's parameters of its best batches, which `load(path, best=True)` gives.
        capacity: measure the capacity loss of each snapshot as it is taken, as `ev capacity` does afterwards.

    Returns:
        The run; its `status` says whether it finished, failed or was interrupted, and why.

    Raises:
        UserError: a setting that does not fit the task, or a folder that holds another run.
        KeyboardInterrupt, SystemExit: the user pressed Ctrl-C or the process was told to end (SIGTERM). The run
            has been left in order by then; a loop over runs ends too.
    """
    task_of(spec)
    if capacity:
        require_minibatch(spec)
    path = run_path(spec, out, name)
    spec = placed(spec, path)
    with trainer_process(give_memory_back=_gives_memory_back(spec)):
        keeper = BestKeeper(path, spec.seeds) if keep_best else None
        job = CapacityJob(path, keeper) if capacity else PPOJob(keeper)
        status = start(job, spec, path, observers, origin_of(spec, path))
    pass_signal_on(status)
    return ended_run(spec, path, PPOJob.name, status)


def resume_training(
    path: str | os.PathLike[str], observers: Sequence[Observer] = (), keep_best: bool = False
) -> Run:
    """Go on with an unfinished run from its last committed segment.

    A best that was kept before is kept on, and where snapshots were measured (`has_capacity`), the new ones are too;
    a run that ended before its first measurement is resumed without, and `capacity` measures afterwards.

    Raises:
        UserError: not a PPO run, or one that is finished or being trained.
    """
    spec = saved_spec(path)
    with trainer_process(give_memory_back=_gives_memory_back(spec)):
        keeper = BestKeeper(Path(path), spec.seeds) if keep_best or has_best(Path(path)) else None
        if keeper is not None:
            keeper.restore(state_template(spec).learner.agent)
        job = CapacityJob(Path(path), keeper) if has_capacity(Path(path)) else PPOJob(keeper)
        status = resume(job, spec, path, observers, origin_of(spec, Path(path)))
    pass_signal_on(status)
    return dataclasses.replace(open_run(path), status=status)


def _gives_memory_back(spec: PPOSpec) -> bool:
    """Without convolutions alone: with them, every step allocates large arrays, which the system would hand out and
    clear each time."""
    return spec.network.convolutions == "none"
