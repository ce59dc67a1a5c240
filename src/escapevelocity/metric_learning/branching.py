"""Branches of runs of adaptive sampling: from a checkpoint of one run on, with other settings."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp

from escapevelocity.branch_point import BranchPoint, pace_of
from escapevelocity.errors import UserError, require
from escapevelocity.metric_learning.config import ASRSpec
from escapevelocity.metric_learning.controller import Controller
from escapevelocity.metric_learning.job import ASRJob, MemberState, TrainingState
from escapevelocity.metric_learning.rewards import reward_metric
from escapevelocity.metric_learning.starts import start_masses
from escapevelocity.runs import Origin, Run, load_spec, open_parent, parent_at
from escapevelocity.runs.branch_points import branch_points, parent_of, points_of, require_unchanged
from escapevelocity.runs.inputs import require_inputs

_SHARED = {
    "learner": ("backbone", "weights", "embedding_dim", "loss", "beta", "batch_size", "per_class"),
    "sampler": ("bins", "low", "high"),
    "controller": ("every",),
}
"""Settings that the shared past has decided: shapes, where the embedding began, and how periods are counted."""
_OF_POLICY = ("method", "head", "hidden", "weight_std")
"""Settings of the controller whose change asks for a new policy network."""


def branch_spec(run: Run, number: int, spec: ASRSpec) -> ASRSpec:
    """Settings of a branch, which `train` then runs.

    Args:
        run: the parent.
        number: the checkpoint that the branch begins at; see `branch_points`.
        spec: the parent's settings with all that shall change.

    Raises:
        UserError: no such checkpoint, nothing left to train, or a setting that the shared past has decided.
    """
    old = load_spec(ASRSpec, run.path, ASRJob.name)
    known = [point.number for point in branch_points(run)]
    require(number in known, "checkpoint", number, f"one of {' '.join(map(str, known))}, those of {run.path}")
    require(spec.seeds == old.seeds, "seeds", spec.seeds, f"the parent's, {old.seeds}: the past is shared")
    require(
        spec.data == old.data, "data", spec.data.data, "the parent's images and split: the past is shared"
    )
    for section, names in _SHARED.items():
        for name in names:
            given, was = (getattr(getattr(each, section), name) for each in (spec, old))
            accepted = f"the parent's, {was!r}: the past is shared"
            require(given == was, name.replace("_", "-"), given, accepted)
    parent = parent_at(run, number)
    least = parent.step + spec.controller.every
    if spec.num_periods * spec.controller.every < least:
        raise UserError(
            f"steps = {spec.steps}: must be at least {least}, one decision more than the past that is shared with "
            f"checkpoint {number} of {run.path}; {points_of(run, branch_points(run))}"
        )
    batches, segments = pace_of(old.branch, number, old.num_periods, old.num_segments)
    point = BranchPoint(
        parent=parent.spec_hash,
        checkpoint=number,
        step=parent.step,
        sha256=parent.sha256,
        batches=batches,
        segments=segments,
        path=parent.path,
    )
    return dataclasses.replace(spec, branch=point)


def origin_of(spec: ASRSpec, run_dir: Path) -> Origin | None:
    """Where the engine begins a branch; None for a run that begins at the beginning."""
    if (point := spec.branch) is None:
        return None
    return Origin(parent_of(point), lambda: branch_state(spec, point, open_parent(run_dir, parent_of(point))))


def branch_state(spec: ASRSpec, point: BranchPoint, parent: Run) -> TrainingState:
    """The state that a branch begins with: the parent's, but for what the changed settings ask to begin anew.

    The embedding goes on as it is. Another `init` puts its masses in the place of the parent's; another method, head,
    size or initial weights of the policy begin with a new policy network, which keeps masses and history; a sampler
    that was fixed and becomes adaptive begins with a new controller.

    Raises:
        UserError: the parent's checkpoint is damaged, or no longer the one that the branch was made for; or it has
            learned from other images.
    """
    old = load_spec(ASRSpec, parent.path, ASRJob.name)
    require_unchanged(parent, point)
    require_inputs(parent.path, ASRJob(), spec)
    # The images are where the branch has them; the embedding is the parent's.
    like = ASRJob().template(dataclasses.replace(old, data_dir=spec.data_dir))
    state: TrainingState = parent.load_checkpoint(point.checkpoint, like)
    fresh = ASRJob().template(spec)
    members = tuple(
        MemberState(kept.learner, _controller(spec, old, kept.controller, new.controller))
        for kept, new in zip(state.members, fresh.members, strict=True)
    )
    return TrainingState(members, state.active)


def _controller(
    spec: ASRSpec, old: ASRSpec, kept: Controller | None, new: Controller | None
) -> Controller | None:
    if kept is None or new is None:
        return new
    masses = kept.masses
    if spec.sampler.init != old.sampler.init:
        masses = jnp.asarray(
            start_masses(spec.sampler.init, spec.sampler, spec.learner.embedding_dim), jnp.float32
        )
    kept = _paid_anew(spec, old, kept)
    same = all(getattr(spec.controller, name) == getattr(old.controller, name) for name in _OF_POLICY)
    if same and spec.controller.escort_p == old.controller.escort_p:
        return kept._replace(masses=masses)
    return new._replace(masses=masses, history=kept.history, metric=kept.metric)


def _paid_anew(spec: ASRSpec, old: ASRSpec, kept: Controller) -> Controller:
    """Let a branch that is paid by another measure compare its first metric with the same measure of the parent's last
    one, and begin REINFORCE's mean of rewards anew.
    """
    weights = spec.controller.reward_weights
    if weights != old.controller.reward_weights and int(kept.history.measured) > 0:
        kept = kept._replace(metric=reward_metric(kept.history.values[-1], weights))
    if (weights, spec.controller.reward) != (old.controller.reward_weights, old.controller.reward):
        kept = kept._replace(baseline=jnp.zeros_like(kept.baseline))
    return kept
