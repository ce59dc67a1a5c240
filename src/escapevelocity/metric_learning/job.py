"""Adaptive sampling as a job of the engine: a population of embeddings, each with a controller of its own.

A period is what lies between two decisions of the controller: `every` training steps with one sampling distribution,
then a measurement on the validation set, which pays the controller and lets it decide anew. The first period uses the
start of the distribution as it is. Nothing but the seed and the period's number decides which images are drawn, so a
segment depends on its number and the state alone.
"""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool
from threadpoolctl import threadpool_limits

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.batches import require_batch
from escapevelocity.metric_learning.config import ASRSpec, DataConfig
from escapevelocity.metric_learning.controller import Controller, make_controller
from escapevelocity.metric_learning.images import digest
from escapevelocity.metric_learning.learner import Learner, make_learner
from escapevelocity.metric_learning.period import PeriodRow, run_period
from escapevelocity.metric_learning.splits import Split, load_split
from escapevelocity.metric_learning.starts import start_masses
from escapevelocity.runs import Emit, RunFailed

_LEARNER, _CONTROLLER = 0, 1  # Streams of a member's random numbers, beside those of its periods.
_STARTS_READ = {"adaptive": ("init",), "curriculum": ("init", "then")}


class MemberState(NamedTuple):
    """All that one member needs to go on."""

    learner: Learner
    """Embedding network, boundaries, moments."""
    controller: Controller | None
    """The agent; None where the sampler is fixed."""


class TrainingState(NamedTuple):
    """All that training needs to go on from a boundary."""

    members: tuple[MemberState, ...]
    """In the order of the seeds."""
    active: Bool[Array, " members"]
    """False for members that failed and are frozen."""


class ASRJob:
    """Deep metric learning whose negatives a policy chooses (Dou et al. 2022, arXiv 2208.08056)."""

    name = "asr"

    def inputs(self, spec: ASRSpec) -> dict[str, str]:
        """The images, by number and checksum: MNIST's test files alone are MNIST as well, but another data set. And the
        weights that the embedding begins with; a branch has its parent's.
        """
        found = {"images": _described(*_split_key(spec))}
        if spec.learner.weights is not None and spec.branch is None:
            found["weights"] = f"sha256 {_file_digest(spec.learner.weights)}"
        return found

    def segments(self, spec: ASRSpec) -> int:
        """Number of segments."""
        return spec.num_segments

    def step(self, spec: ASRSpec, k: int) -> int:
        """Training steps per member when `k` segments are done."""
        return spec.boundary(k) * spec.controller.every

    def initial_state(self, spec: ASRSpec) -> TrainingState:
        """Fresh networks and the start of the distribution."""
        split = split_of(spec)
        members = tuple(_initial_member(spec, split, seed) for seed in spec.seeds)
        return TrainingState(members, jnp.ones(len(members), bool))

    def template(self, spec: ASRSpec) -> TrainingState:
        """A state of the right shapes, to load a checkpoint into: the file of weights need not be there any more."""
        return self.initial_state(
            dataclasses.replace(spec, learner=dataclasses.replace(spec.learner, weights=None))
        )

    def segment(self, spec: ASRSpec, state: TrainingState, k: int, emit: Emit) -> TrainingState:
        """Train from boundary `k` to boundary `k + 1`."""
        split = split_of(spec)
        members, active = list(state.members), np.array(state.active)
        if k == 0:
            _snapshot(spec, members, 0, emit)
        # One for the whole population: it is a limit of the process, and members would lift it for one another.
        one_each = threadpool_limits(1, user_api="blas") if len(members) > 1 else nullcontext()
        with one_each, ThreadPoolExecutor(min(len(members), os.cpu_count() or 1)) as pool:
            for period in range(spec.boundary(k), spec.boundary(k + 1)):
                running = [index for index in range(len(members)) if active[index]]
                # Compiling the same program in two threads would only take twice the memory.
                side_by_side = map if period == spec.boundary(k) else pool.map
                done = list(
                    side_by_side(
                        run_period,
                        *zip(
                            *((spec, split, members[i], spec.seeds[i], period) for i in running), strict=True
                        ),
                    )
                )
                for index, (member, _) in zip(running, done, strict=True):
                    members[index] = member
                rows = [row for _, row in done]
                answers = [emit(row.columns) for row in rows]
                if not all(answers):
                    break
                active[running] = [row.fault is None for row in rows]
                _keep_faults(rows, bool(active.any()), emit)
                _snapshot(spec, members, period + 1, emit)
        return TrainingState(tuple(members), jnp.asarray(active))


def split_of(spec: ASRSpec) -> Split:
    """The images of a run and their split, checked against the batches.

    Raises:
        UserError: images that are missing or damaged, or too few classes or images for a batch.
    """
    return _split(*_split_key(spec))


def require_trainable(spec: ASRSpec) -> None:
    """Find what is wrong before anything is written.

    Raises:
        UserError: images that are missing or too few, starts that cannot be read, or weights that do not fit.
    """
    split = split_of(spec)
    for field in _STARTS_READ.get(spec.sampler.sampler, ()):
        start_masses(getattr(spec.sampler, field), spec.sampler, spec.learner.embedding_dim, field)
    # They are read once more when the run begins; it is a few seconds at most. A branch has its parent's.
    if spec.learner.weights is not None and spec.branch is None:
        make_learner(spec.learner, split.train.images.shape, len(split.train.classes), jax.random.key(0))


def _file_digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"weights = {path!r}: {error.strerror}") from error


def _split_key(spec: ASRSpec) -> tuple[DataConfig, Path | None, int, int]:
    return spec.data, spec.data_dir, spec.learner.batch_classes, spec.learner.per_class


@lru_cache(maxsize=4)
def _described(data: DataConfig, data_dir: Path | None, batch_classes: int, per_class: int) -> str:
    split = _split(data, data_dir, batch_classes, per_class)
    checksum = hashlib.sha256("".join(digest(part) for part in split).encode()).hexdigest()
    return f"{' + '.join(f'{len(part.images):,}' for part in split)}, sha256 {checksum[:16]}"


@lru_cache(maxsize=4)
def _split(data: DataConfig, data_dir: Path | None, batch_classes: int, per_class: int) -> Split:
    split = load_split(data, data_dir)
    require_batch(split.train, batch_classes, per_class)
    return split


def _initial_member(spec: ASRSpec, split: Split, seed: int) -> MemberState:
    root = jax.random.key(seed)
    shape, classes = split.train.images.shape, len(split.train.classes)
    learner = make_learner(spec.learner, shape, classes, jax.random.fold_in(root, _LEARNER))
    controller = None
    if spec.sampler.sampler == "adaptive":
        key = jax.random.fold_in(root, _CONTROLLER)
        controller = make_controller(spec.controller, spec.sampler, key, spec.learner.embedding_dim)
    return MemberState(learner, controller)


def _snapshot(spec: ASRSpec, members: Sequence[MemberState], done: int, emit: Emit) -> None:
    """Save the networks of all members, members first, where one is due."""
    index = spec.snapshot_index(done)
    if index is not None:
        networks = [member.learner.network for member in members]
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *networks)
        emit.snapshot(index, done * spec.controller.every, stacked)


def _keep_faults(rows: Sequence[PeriodRow], any_left: bool, emit: Emit) -> None:
    """Save the last good state and the offending batch of each member that just failed; without one left, end."""
    failed = [row for row in rows if row.fault is not None]
    if not failed:
        return
    arrays = {f"{what}-seed-{row.seed}": tree for row in failed for what, tree in (row.fault or {}).items()}
    reason = "; ".join(row.columns["fault"] for row in failed)
    if not any_left:
        raise RunFailed(reason, arrays)
    emit.fault("-".join(["seed", *(str(row.seed) for row in failed)]), reason, arrays)
