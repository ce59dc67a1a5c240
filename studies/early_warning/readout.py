"""What can still be read off an actor's features: the part of the truth that no warning sign looks at.

A linear probe (Alain & Bengio 2016, arXiv 1610.01644) with the observation itself as target, on states that the agent
meets in fresh episodes. It asks what the features are good for, and counts neither units nor directions.
"""

import json
import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.envs import (
    ObservationStatistics,
    Observer,
    Purpose,
    environment_seeds,
    make_environments,
)
from escapevelocity.policy import ActionDistribution
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.job import state_template, task_of
from escapevelocity.ppo.networks import Actor
from escapevelocity.ppo.programs import action_distribution
from escapevelocity.ppo.saved import saved_spec
from escapevelocity.runs import Run
from escapevelocity.runs.atomic import write_json

NUM_ENVIRONMENTS, NUM_STEPS = 2, 500
"""Per agent: 1,000 states, half of them to fit a readout of 64 features and half to test it."""
RIDGE = 1e-6
"""Relative to the mean variance of the features: enough to invert, too little to bend the answer."""
LEAST_STD = 0.01
"""An entry of the observation that varies less, in units of a uniform policy's std, is constant."""


def readable_share(features: np.ndarray, targets: np.ndarray) -> float:
    """Share of the targets' variance that a linear readout of the features explains on states it was not fitted to.

    Args:
        features: (states, units).
        targets: (states, entries); entries with a std below `LEAST_STD` are left out, the others count alike.

    Returns:
        The mean over entries of R², none below 0: 1 when all can be read off, 0 when nothing can.

    Example:
        >>> states = np.random.default_rng(0).normal(size=(200, 3))
        >>> round(readable_share(states @ np.ones((3, 1)), states), 1)
        0.3
    """
    half = len(features) // 2
    varies = (targets[:half].std(axis=0) > LEAST_STD) & (targets[half:].std(axis=0) > LEAST_STD)
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
    loaded = [run.load_snapshot(saved.number, state.learner.agent).actor for saved in snapshots]
    actors: Actor = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *loaded)  # Snapshots, then members.
    mean, std = (np.tile(np.asarray(x, np.float64), (len(snapshots), 1)) for x in (state.mean, state.std))
    inputs = _meet_states(spec, actors, ObservationStatistics(mean, std))
    features = np.asarray(_features(actors, inputs), np.float64)
    targets = inputs[:, :, : task_of(spec).observation_size].astype(np.float64)  # Without the time.
    shares = [readable_share(phi, seen) for phi, seen in zip(features, targets, strict=True)]
    return np.array([saved.step for saved in snapshots]), np.reshape(shares, (len(snapshots), -1)).T


def _meet_states(spec: PPOSpec, actors: Actor, statistics: ObservationStatistics) -> np.ndarray:
    """Let every agent act as in training, and give what it saw: (agents, states, inputs) float32, in random order."""
    task, agents = task_of(spec), len(statistics.mean)
    # The same start states and the same noise for every agent.
    seeds = environment_seeds([0], NUM_ENVIRONMENTS, purpose=Purpose.EVALUATION) * agents
    host = make_environments(task, seeds, os.cpu_count() or 1)
    repeated = ObservationStatistics(*(np.repeat(x, NUM_ENVIRONMENTS, axis=0) for x in statistics))
    observer = Observer(repeated, task.episode_limit if spec.environment.append_time else None)
    seen = np.empty((NUM_STEPS, agents, NUM_ENVIRONMENTS, observer.output_size), np.float32)
    current, age = np.array(host.reset()), np.zeros(len(seeds), np.int64)
    distribution, key = action_distribution(spec, task), jax.random.key(0)
    for step, inputs in enumerate(seen):
        observer.write(current, age, inputs.reshape(len(seeds), -1))
        actions = np.asarray(_act(actors, inputs, jax.random.fold_in(key, step), distribution))
        host.send(actions.reshape(len(seeds), *actions.shape[2:]))
        outcome = host.receive()
        current, age = np.array(outcome.next_observations), age + 1
        ended = np.flatnonzero(outcome.terminated | outcome.truncated)
        if len(ended):
            current[ended], age[ended] = host.reset(ended), 0
    host.close()
    states = np.moveaxis(seen, 0, 1).reshape(agents, NUM_STEPS * NUM_ENVIRONMENTS, -1)
    return states[:, np.random.default_rng(0).permutation(states.shape[1])]


@partial(jax.jit, static_argnames="distribution")
def _act(
    actors: Actor, inputs: Float[Array, "agents rows inputs"], key: Array, distribution: ActionDistribution
) -> Array:
    noise = distribution.draw_noise(key, inputs.shape[1:2])

    def act(actor: Actor, rows: Array) -> Array:
        params = distribution.params(actor.outputs(actor.mlp.trace(rows)))
        return distribution.to_environment(distribution.sample(params, noise))

    return jax.vmap(act)(actors, inputs)


@jax.jit
def _features(actors: Actor, inputs: Float[Array, "agents states inputs"]) -> Array:
    return jax.vmap(lambda actor, rows: actor.mlp.trace(rows).features)(actors, inputs)
