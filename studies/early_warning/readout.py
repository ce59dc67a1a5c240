"""What can still be read off an actor's features: the part of the truth that no warning sign looks at.

A linear probe (Alain & Bengio 2016, arXiv 1610.01644) with the observation itself as target, on states that are the
same for every run of a task: those of a uniform policy, where every agent begins. It asks what the features are good
for, and counts neither units nor directions.
"""

import json

import jax
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.envs import (
    BoxActions,
    ObservationStatistics,
    Observer,
    Purpose,
    Task,
    environment_seeds,
    make_environments,
)
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.job import state_template, task_of
from escapevelocity.ppo.networks import Actor
from escapevelocity.ppo.saved import saved_spec
from escapevelocity.runs import Run
from escapevelocity.runs.atomic import write_json

NUM_STATES, NUM_ENVIRONMENTS = 2_000, 20
"""Half of the states serve to fit a readout of 64 features, and half to test it."""
RIDGE = 1e-6
"""Relative to the mean variance of the features: enough to invert, too little to bend the answer."""


def readable_share(features: np.ndarray, targets: np.ndarray) -> float:
    """Share of the targets' variance that a linear readout of the features explains on states it was not fitted to.

    Args:
        features: (states, units).
        targets: (states, entries); entries that do not vary are left out, the others count alike.

    Returns:
        The mean over entries of R², none below 0: 1 when all can be read off, 0 when nothing can.

    Example:
        >>> states = np.random.default_rng(0).normal(size=(200, 3))
        >>> round(readable_share(states @ np.ones((3, 1)), states), 1)
        0.3
    """
    half = len(features) // 2
    varies = (targets[:half].std(axis=0) > 0) & (targets[half:].std(axis=0) > 0)
    targets = targets[:, varies] - targets[:half, varies].mean(axis=0)
    features = features - features[:half].mean(axis=0)
    gram = features[:half].T @ features[:half]
    scale = np.trace(gram) / len(gram)
    if not varies.any() or scale == 0 or not np.isfinite(scale):
        return 0.0
    weights = np.linalg.solve(gram + RIDGE * scale * np.eye(len(gram)), features[:half].T @ targets[:half])
    rest = targets[half:]
    explained = 1 - ((rest - features[half:] @ weights) ** 2).sum(axis=0) / (rest**2).sum(axis=0)
    return float(np.clip(explained, 0, 1).mean())


def readable_shares(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Measure the readable share of every member's actor at every snapshot of a run, once: it is kept beside the run.

    Returns:
        Steps (snapshots,) and shares (members, snapshots) float64.
    """
    path = run.path.with_name(f"{run.path.name}.readable.json")
    if not path.exists():
        steps, shares = _measure(run)
        write_json(path, {"steps": steps.tolist(), "shares": shares.tolist()})
    kept = json.loads(path.read_text(encoding="utf-8"))
    return np.array(kept["steps"]), np.array(kept["shares"])


def _measure(run: Run) -> tuple[np.ndarray, np.ndarray]:
    spec = saved_spec(run.path)
    state, snapshots = run.load_checkpoint(0, state_template(spec)), run.snapshots()
    observations, elapsed = task_states(task_of(spec))
    statistics = [np.asarray(x, np.float64) for x in (state.mean, state.std)]
    inputs = np.stack(
        [_inputs(spec, observations, elapsed, mean, std) for mean, std in zip(*statistics, strict=True)]
    )
    targets = inputs[:, :, : observations.shape[1]].astype(np.float64)  # Without the time.
    shares = []
    for saved in snapshots:
        actors = run.load_snapshot(saved.number, state.learner.agent).actor
        features = np.asarray(_features(actors, inputs), np.float64)
        shares.append([readable_share(phi, seen) for phi, seen in zip(features, targets, strict=True)])
    return np.array([saved.step for saved in snapshots]), np.transpose(shares)


@jax.jit
def _features(actors: Actor, inputs: Float[Array, "members states inputs"]) -> Array:
    return jax.vmap(lambda actor, rows: actor.network.trace(rows).features)(actors, inputs)


def task_states(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Meet the states that every run of a task is tested on: those of a uniform policy.

    Returns:
        Observations (NUM_STATES, observation_size) in random order, and steps (NUM_STATES,) since their episodes began.
    """
    generator = np.random.default_rng(0)
    host = make_environments(task, environment_seeds([0], NUM_ENVIRONMENTS, purpose=Purpose.EVALUATION))
    observations, elapsed = [], []
    current, age = np.array(host.reset()), np.zeros(NUM_ENVIRONMENTS, np.int64)
    for _ in range(NUM_STATES // NUM_ENVIRONMENTS):
        observations.append(current)
        elapsed.append(age)
        host.send(_uniform_actions(task, generator))
        outcome = host.receive()
        current, age = np.array(outcome.next_observations), age + 1
        ended = np.flatnonzero(outcome.terminated | outcome.truncated)
        if len(ended):
            current[ended], age[ended] = host.reset(ended), 0
    host.close()
    order = generator.permutation(NUM_STATES)
    return np.concatenate(observations)[order], np.concatenate(elapsed)[order]


def _uniform_actions(task: Task, generator: np.random.Generator) -> np.ndarray:
    if isinstance(task.actions, BoxActions):
        return generator.uniform(task.actions.low, task.actions.high, (NUM_ENVIRONMENTS, task.actions.size))
    return generator.integers(task.actions.size, size=NUM_ENVIRONMENTS)


def _inputs(
    spec: PPOSpec, observations: np.ndarray, elapsed: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> np.ndarray:
    """Give network inputs (states, inputs) float32, as a member with these statistics sees the states."""
    limit = task_of(spec).episode_limit if spec.environment.append_time else None
    statistics = ObservationStatistics(*(np.tile(x, (len(observations), 1)) for x in (mean, std)))
    observer = Observer(statistics, limit)
    inputs = np.empty((len(observations), observer.output_size), np.float32)
    observer.write(observations, elapsed, inputs)
    return inputs
