"""Untrained agents of every kind that can be exported; weights and statistics leave nothing at its default."""

from __future__ import annotations

import dataclasses
import zlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from escapevelocity.envs import BoxActions, DiscreteActions, ObservationStatistics, Task
from escapevelocity.ppo.agent import TrainedAgent
from escapevelocity.ppo.config import NetworkConfig
from escapevelocity.ppo.initialization import initial_agent
from escapevelocity.ppo.presets import preset_spec
from escapevelocity.ppo.programs import action_distribution, input_shape

HOPPER = Task("Hopper-v4", "gymnasium", (11,), BoxActions((-1.0, -2.0, 0.0), (1.0, 3.0, 0.5)), 1000)
PENDULUM = Task("Pendulum-v1", "gymnasium", (3,), BoxActions((-2.0,), (2.0,)), 200)
UNBOUNDED = Task("Far-v0", "gymnasium", (3,), BoxActions((-np.inf, -1.0), (np.inf, np.inf)), None)
CARTPOLE = Task("CartPole-v1", "gymnasium", (4,), DiscreteActions(5, start=3), 500)
PHOENIX = Task("ALE/Phoenix-v5", "ale", (84, 84, 4), DiscreteActions(8), 36000, pixels=True, frame_skip=3)
MINATAR = Task("gymnax:Breakout-MinAtar", "gymnax", (10, 10, 4), DiscreteActions(3), 1000)

KINDS: dict[str, tuple[Task, str, dict]] = {
    "hopper": (HOPPER, "mujoco", {}),
    "hopper-norms": (
        HOPPER,
        "mujoco",
        {"layer_norm": True, "spectral_norm": "all", "activation": "gelu", "head": "normal"},
    ),
    "pendulum": (PENDULUM, "classic", {"activation": "leaky_relu"}),
    "unbounded": (UNBOUNDED, "classic", {"activation": "relu"}),
    "cartpole": (CARTPOLE, "classic", {"trunk": "shared"}),
    "escort": (
        CARTPOLE,
        "classic",
        {"head": "escort", "escort_p": 3.0, "activation": "crelu", "layer_norm": True},
    ),
    "atari": (PHOENIX, "atari", {}),
    "minatar": (
        MINATAR,
        "minatar",
        {"activation": "crelu", "layer_norm": True, "spectral_norm": "last", "hidden": (16,)},
    ),
    "minatar-flat": (MINATAR, "minatar", {"convolutions": "none", "hidden": (16,), "activation": "tanh"}),
}
"""Task, preset, and what differs from it in the network."""


@cache
def random_agent(kind: str, gain: float = 1.0) -> TrainedAgent:
    """An agent whose parameters are all random, its biases, layer norms and log-stds too.

    Args:
        kind: one of `KINDS`.
        gain: multiplies the weights; large ones are those of a sick network.
    """
    task, preset, changes = KINDS[kind]
    spec = preset_spec(preset, task.name, isinstance(task.actions, DiscreteActions))
    network: NetworkConfig = dataclasses.replace(spec.network, **changes)
    spec = dataclasses.replace(spec, network=network)
    outputs = action_distribution(spec, task).num_outputs
    shapes = jax.eval_shape(
        lambda key: initial_agent(key, network, input_shape(spec, task), outputs), jax.random.key(0)
    )
    rng = np.random.default_rng(zlib.crc32(kind.encode()))

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        scale = gain * leaf.shape[-1] ** -0.5 if len(leaf.shape) == 2 else 0.3
        return jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32)

    actor = jax.tree.map(draw, shapes.actor)
    # A head with large outputs reaches every action, both bounds, and the tails of both normals.
    weights = actor.network.weights
    widened = dataclasses.replace(actor.network, weights=(*weights[:-1], 3.0 * weights[-1]))
    actor = dataclasses.replace(actor, network=widened)
    size = task.observation_size
    statistics = ObservationStatistics(rng.normal(size=(1, size)), rng.uniform(0.1, 3.0, (1, size)))
    if spec.environment.normalization == "none":
        statistics = ObservationStatistics.identity(1, 0 if task.pixels else size)
    return TrainedAgent(spec, task, 2, 4096, actor, statistics)


def observations_for(agent: TrainedAgent, count: int, seed: int = 7) -> np.ndarray:
    """Observations as its environment would give them, (count, …)."""
    rng = np.random.default_rng(seed)
    shape = (count, *agent.task.observation_shape)
    if agent.task.pixels:
        return rng.integers(0, 256, shape).astype(np.uint8)
    if len(shape) > 2:
        return rng.integers(0, 2, shape).astype(np.float32)
    return 2.0 * rng.normal(size=shape)
