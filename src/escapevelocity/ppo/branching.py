"""Branches of PPO runs: from a checkpoint of one run on, with other settings."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from escapevelocity.branch_point import BranchPoint, pace_of
from escapevelocity.errors import UserError, require
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.job import TrainingState, state_template, task_of
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.programs import build_programs, make_treatment
from escapevelocity.ppo.saved import saved_spec
from escapevelocity.runs import Origin, Run, open_parent, parent_at
from escapevelocity.runs.branch_points import branch_points, parent_of, points_of, require_unchanged

_OF_THE_PAST = ("normalization", "normalization_steps")
"""Settings of the environment that the observation statistics were made with."""


def branch_spec(run: Run, number: int, spec: PPOSpec) -> PPOSpec:
    """Settings of a branch, which `train` then runs.

    Args:
        run: the parent.
        number: the checkpoint that the branch begins at; see `branch_points`.
        spec: the parent's settings (`saved_spec`) with all that shall change.

    Raises:
        UserError: no such checkpoint, nothing left to train, or a setting that the shared past has decided: the task,
            the seeds, the size of batches, the shape of networks, and how observations are normalised.

    Example:
        >>> run = open_run("runs/sick")  # doctest: +SKIP
        >>> changed = apply_remedies(saved_spec(run.path), [PFO(coef=10.0)])  # doctest: +SKIP
        >>> train(branch_spec(run, 2, changed), name="sick-pfo")  # doctest: +SKIP
    """
    old = saved_spec(run.path)
    known = [point.number for point in branch_points(run)]
    require(number in known, "checkpoint", number, f"one of {' '.join(map(str, known))}, those of {run.path}")
    _require_same_past(spec, old)
    _require_same_shapes(spec, old)
    parent = parent_at(run, number)
    segments = old.num_segments(task_of(old).episode_limit)
    batches, segments = pace_of(old.branch, number, old.num_batches, segments)
    point = BranchPoint(
        parent=parent.spec_hash,
        checkpoint=number,
        step=parent.step,
        sha256=parent.sha256,
        batches=batches,
        segments=segments,
        path=parent.path,
    )
    least = parent.step + spec.batch_steps
    if spec.num_batches * spec.batch_steps < least:
        raise UserError(
            f"steps = {spec.steps}: must be at least {least}, one batch more than the past that is shared with "
            f"checkpoint {number} of {run.path}; {points_of(run, branch_points(run))}"
        )
    return dataclasses.replace(spec, branch=point)


def origin_of(spec: PPOSpec, run_dir: Path) -> Origin | None:
    """Where the engine begins a branch; None for a run that begins at the beginning."""
    if (point := spec.branch) is None:
        return None
    return Origin(parent_of(point), lambda: branch_state(spec, point, open_parent(run_dir, parent_of(point))))


def branch_state(spec: PPOSpec, point: BranchPoint, parent: Run) -> TrainingState:
    """The state that a branch of settings `spec` begins with at a point of `parent`.

    Parameters, moments, observation statistics and frozen members are the parent's. A remedy that parent and branch
    have with equal settings keeps its state; any other begins with what `Remedy.at_branch` makes of the state that it
    would have at the start of a run.

    Raises:
        UserError: the parent's checkpoint is damaged, or no longer the one that the branch was made for.
    """
    old = saved_spec(parent.path)
    require_unchanged(parent, point)
    state: TrainingState = parent.load_checkpoint(point.checkpoint, state_template(old))
    like = state_template(spec).learner
    agent, moments = _as(like.agent, state.learner.agent), _as(like.moments, state.learner.moments)
    remedies = _remedy_states(spec, old, state.learner.remedies, agent)
    # A remedy's state may hold networks too.
    remedies = tuple(_as(new, kept) for new, kept in zip(like.remedies, remedies, strict=True))
    return state._replace(learner=state.learner._replace(agent=agent, moments=moments, remedies=remedies))


def _as(like: Any, kept: Any) -> Any:
    """What is kept, in the branch's structure: settings of networks, such as the activation, are part of it."""
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(kept))


def _remedy_states(spec: PPOSpec, old: PPOSpec, states: tuple, agent: Agent) -> tuple:
    task = task_of(spec)
    kept = dict(zip(make_treatment(old, task_of(old)).remedies, states, strict=True))
    remedies = make_treatment(spec, task).remedies
    if all(remedy in kept for remedy in remedies):
        return tuple(kept[remedy] for remedy in remedies)
    fresh = build_programs(spec, task).initialize(jnp.asarray(spec.seeds, jnp.uint32)).remedies
    begun = [jax.vmap(remedy.at_branch)(agent, new) for remedy, new in zip(remedies, fresh, strict=True)]
    return tuple(kept.get(remedy, new) for remedy, new in zip(remedies, begun, strict=True))


def _require_same_past(spec: PPOSpec, old: PPOSpec) -> None:
    given, was = spec.network.head, old.network.head
    accepted = f"the parent's, {was!r}: under another head its parameters are another policy"
    require(given == was, "head", given, accepted)
    if was == "escort":
        given, was = spec.network.escort_p, old.network.escort_p
        accepted = f"the parent's, {was:g}: under another power its parameters are another policy"
        require(given == was, "escort-p", given, accepted)
    for name in ("task", "seeds"):
        given, was = getattr(spec, name), getattr(old, name)
        require(given == was, name, given, f"the parent's, {was!r}: the past is shared")
    for name in _OF_THE_PAST:
        given, was = getattr(spec.environment, name), getattr(old.environment, name)
        accepted = f"the parent's, {was!r}: its observations were normalised so"
        require(given == was, name.replace("_", "-"), given, accepted)
    if spec.batch_steps != old.batch_steps:
        factors = "num-envs × rollout-length" + (" × frame-skip" if old.environment.frame_skip > 1 else "")
        raise UserError(
            f"{factors} = {spec.batch_steps}: must be the parent's, {old.batch_steps}: a branch counts its batches on"
        )


def _require_same_shapes(spec: PPOSpec, old: PPOSpec) -> None:
    """Refuse what the parent's parameters and moments do not fit into, naming the setting."""
    new, kept = (state_template(each).learner for each in (spec, old))
    shapes, were = (
        [[leaf.shape for leaf in jax.tree.leaves(part)] for part in (learner.agent, learner.moments)]
        for learner in (new, kept)
    )
    if shapes == were:
        return
    for section in ("network", "environment"):
        mine, parents = getattr(spec, section), getattr(old, section)
        for item in dataclasses.fields(mine):
            given, was = getattr(mine, item.name), getattr(parents, item.name)
            if given != was:
                accepted = f"the parent's, {was!r}: its parameters have another shape"
                raise UserError(f"{item.name.replace('_', '-')} = {given!r}: must be {accepted}")
    raise UserError("the parent's parameters have another shape than the branch's")
