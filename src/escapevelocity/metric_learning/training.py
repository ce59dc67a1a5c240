"""Start and resume runs of adaptive sampling: what `ev asr train` and Python share."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from escapevelocity.errors import require
from escapevelocity.metric_learning.branching import origin_of
from escapevelocity.metric_learning.config import ASRSpec
from escapevelocity.metric_learning.embedding import EmbeddingNetwork
from escapevelocity.metric_learning.job import ASRJob, require_trainable
from escapevelocity.runs import Observer, Run, load_spec, open_run, resume, run_directory, spec_hash, start
from escapevelocity.runs.branch_points import placed
from escapevelocity.runs.ended import ended_run, pass_signal_on
from escapevelocity.runs.process import trainer_process


def run_path(spec: ASRSpec, out: str | os.PathLike[str] = "runs", name: str | None = None) -> Path:
    """The folder that a run of `spec` is written to."""
    return run_directory(out, name, f"asr-{spec.data.data}-{spec_hash(spec, ASRJob.name)}")


def train(
    spec: ASRSpec,
    out: str | os.PathLike[str] = "runs",
    name: str | None = None,
    observers: Sequence[Observer] = (),
) -> Run:
    """Train a population of embeddings and write its run directory.

    Args:
        spec: everything the run depends on; `presets.preset_spec` makes one, `dataclasses.replace` changes it.
        out: folder that holds runs.
        name: the run's name; by default the data set and the spec's hash.
        observers: told about every record as it happens.

    Returns:
        The run; its `status` says whether it finished, failed or was interrupted, and why.

    Raises:
        UserError: images that are missing or too few, or a folder that holds another run.
        KeyboardInterrupt, SystemExit: a signal came; the run has been left in order.

    Example:
        >>> run = train(preset_spec("digits", seeds=(1, 2)), out="runs")  # doctest: +SKIP
        >>> run.records()["validation/recall_at_1"]  # doctest: +SKIP
    """
    if spec.data_dir is not None:  # The run may go on from another folder.
        spec = dataclasses.replace(spec, data_dir=spec.data_dir.expanduser().absolute())
    require_trainable(spec)
    path = run_path(spec, out, name)
    spec = placed(spec, path)
    with trainer_process(give_memory_back=False):
        status = start(ASRJob(), spec, path, observers, origin_of(spec, path))
    pass_signal_on(status)
    return ended_run(spec, path, ASRJob.name, status)


def resume_training(path: str | os.PathLike[str], observers: Sequence[Observer] = ()) -> Run:
    """Go on with an unfinished run from its last committed segment.

    Raises:
        UserError: not such a run, or one that is finished or being trained.
    """
    spec = saved_spec(path)
    require_trainable(spec)
    with trainer_process(give_memory_back=False):
        status = resume(ASRJob(), spec, path, observers, origin_of(spec, Path(path)))
    pass_signal_on(status)
    return dataclasses.replace(open_run(path), status=status)


def saved_spec(path: str | os.PathLike[str]) -> ASRSpec:
    """Read the settings of a run of adaptive sampling.

    Images that are no longer where the run had them are looked for where EV_DATA_DIR says; a run does not go on from
    other images.

    Raises:
        UserError: not the settings of such a run.
    """
    spec = load_spec(ASRSpec, path, ASRJob.name)
    is_gone = spec.data_dir is not None and not spec.data_dir.expanduser().is_dir()
    return dataclasses.replace(spec, data_dir=None) if is_gone else spec


def load_network(
    path: str | os.PathLike[str], seed: int | None = None
) -> tuple[ASRSpec, EmbeddingNetwork, int]:
    """Load the embedding of one member as it was at the last whole checkpoint.

    Args:
        path: the run's folder.
        seed: which member; by default the first.

    Returns:
        The run's settings, the network, and the training steps it was trained for.

    Raises:
        UserError: not such a run, no whole checkpoint, or no such seed.
    """
    run, spec = open_run(path), saved_spec(path)
    seed = spec.seeds[0] if seed is None else seed
    require(seed in spec.seeds, "seed", seed, f"one of {' '.join(map(str, spec.seeds))}")
    number, _ = run.latest_checkpoint()
    state = run.load_checkpoint(number, ASRJob().template(spec))
    return spec, state.members[spec.seeds.index(seed)].learner.network, ASRJob().step(spec, number)
