"""Does an exported policy act as its agent does? Their outputs are compared, observation by observation."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from escapevelocity.policy import ActionDistribution, Categorical
from escapevelocity.ppo.agent import TrainedAgent
from escapevelocity.ppo.networks import Actor
from escapevelocity.ppo.programs import action_distribution

Outputs = dict[str, np.ndarray]
"""The action and the parameters of its distribution, by the names that the description gives them."""
Policy = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]
"""(observations, elapsed) -> outputs."""

OBSERVATIONS = 1000
CHUNK = 100
"""Rows at a time: the float64 activations of a thousand images would not fit everywhere."""
_LIMIT = 1000  # Of an episode, where a task has none.
_PATCH = 12  # Pixels of one grey in an image, besides the noise.

FLOOR = 1e-5
"""Two float32 evaluations of a healthy network differ by less, relative to values above 1."""
TIE = 1e-6
"""Actions whose probabilities are as close as this may be exchanged."""
SPREAD = 10.0
"""… and by less than so many times the agent's own rounding error."""


class MismatchError(Exception):
    """An exported policy does not act as the agent it was made from: a bug, never the user's mistake."""


class Reference(NamedTuple):
    """What the agent does, and how far float32 leaves that open."""

    observations: np.ndarray
    """(OBSERVATIONS, …), as the environment would give them."""
    elapsed: np.ndarray
    """(OBSERVATIONS,) int64, steps since the start of the episode."""
    outputs: Outputs
    """The agent's own."""
    allowed: Outputs
    """How far another's outputs may be from them; of a discrete action, by how much its probability may be lower than
    the largest."""


class Agreement(NamedTuple):
    """How close an exported policy is to its agent."""

    observations: int
    """How many both were shown."""
    ties: int
    """Discrete actions that differ because two are equally likely, to float32's precision."""
    difference: float
    """The largest difference in a continuous action; 0 where actions are discrete."""
    allowed: float
    """What that may be at most; more where the agent's own float32 is coarse, as in networks with huge activations."""
    parameters: float
    """The largest difference in a parameter of the distributions: mean, std or probability."""

    def __str__(self) -> str:
        """In words, for one line."""
        within = f"actions within {self.difference:.1e} ({self.allowed:.0e} allowed)"
        close = within if self.difference else "the same actions"
        ties = f" but for {self.ties} tie{'s' * (self.ties > 1)}" if self.ties else ""
        return f"{close} on {self.observations:,} observations{ties}"


def random_observations(agent: TrainedAgent, generator: np.random.Generator) -> np.ndarray:
    """Observations with the mean and std of those that normalise the agent's; images are grey patches with noise."""
    shape = (OBSERVATIONS, *agent.task.observation_shape)
    if agent.task.pixels:
        noise = generator.integers(0, 256, shape)
        patches = generator.integers(0, 256, (OBSERVATIONS, *(-(-n // _PATCH) for n in shape[1:3]), shape[3]))
        patches = patches.repeat(_PATCH, 1).repeat(_PATCH, 2)[:, : shape[1], : shape[2]]
        return ((3 * patches + noise) // 4).astype(np.uint8)
    drawn = generator.standard_normal(shape)
    if len(shape) > 2:
        return (drawn > 1).astype(np.float32)  # MinAtar's planes are zeros and a few ones.
    return agent.statistics.mean + agent.statistics.std * drawn


def reference(agent: TrainedAgent, seed: int = 0) -> Reference:
    """Let the agent act on random observations, at random times of an episode.

    Args:
        agent: the agent.
        seed: decides the observations.
    """
    generator = np.random.default_rng(seed)
    observations = random_observations(agent, generator)
    elapsed = generator.integers(0, agent.task.episode_limit or _LIMIT, OBSERVATIONS)
    distribution = action_distribution(agent.spec, agent.task)
    discrete = isinstance(distribution, Categorical)
    parts = [
        _chunk(agent, distribution, observations[i : i + CHUNK], elapsed[i : i + CHUNK])
        for i in range(0, OBSERVATIONS, CHUNK)
    ]
    outputs, exact = (
        {name: np.concatenate([part[k][name] for part in parts]) for name in parts[0][k]} for k in (0, 1)
    )
    allowed = {}
    for name, values in exact.items():
        rounding = np.abs(outputs[name] - values).max(axis=0, keepdims=True)
        allowed[name] = FLOOR * np.maximum(1.0, np.abs(outputs[name])) + SPREAD * rounding
    if discrete:
        rounding = np.abs(outputs["probabilities"] - exact["probabilities"]).max()
        allowed["action"] = np.full(OBSERVATIONS, TIE + SPREAD * rounding)
    return Reference(observations, elapsed, outputs, allowed)


def compare(agent: TrainedAgent, expected: Reference, policy: Policy, name: str) -> Agreement:
    """Hold a policy against the agent.

    Args:
        agent: the agent.
        expected: its `reference`.
        policy: what was exported.
        name: of the file, for the message.

    Raises:
        MismatchError: an action, or a parameter of its distribution, is further off than float32 explains.
    """
    parts = [
        policy(expected.observations[i : i + CHUNK], expected.elapsed[i : i + CHUNK])
        for i in range(0, len(expected.observations), CHUNK)
    ]
    found = {key: np.concatenate([np.asarray(part[key]) for part in parts]) for key in expected.outputs}
    discrete = "probabilities" in expected.outputs
    largest = {}
    for key, values in expected.outputs.items():
        if found[key].shape != values.shape:
            raise MismatchError(f"{name}: {key} has shape {found[key].shape}, not {values.shape}")
        difference = np.abs(found[key] - values)
        off = _lost(agent, expected, found[key]) if discrete and key == "action" else difference
        largest[key] = float(difference.max())
        # Written so that a NaN is a mismatch.
        if not np.all(off <= expected.allowed[key]):
            worst = int(np.argmax(np.max((off / expected.allowed[key]).reshape(len(off), -1), axis=1)))
            raise MismatchError(
                f"{name}: {key} of observation {worst} is {found[key][worst]}, the agent's is {values[worst]}"
            )
    ties = int(np.sum(found["action"] != expected.outputs["action"])) if discrete else 0
    return Agreement(
        observations=len(expected.observations),
        ties=ties,
        difference=0.0 if discrete else largest["action"],
        allowed=float(expected.allowed["action"].max()),
        parameters=max(value for key, value in largest.items() if key != "action"),
    )


def _lost(agent: TrainedAgent, expected: Reference, actions: np.ndarray) -> np.ndarray:
    """(OBSERVATIONS,) by how much the agent's most likely action is more likely than the one given."""
    probabilities = expected.outputs["probabilities"]
    index = actions - getattr(agent.task.actions, "start", 0)
    valid = (index >= 0) & (index < probabilities.shape[1])
    chosen = np.take_along_axis(probabilities, np.where(valid, index, 0)[:, None], axis=1)[:, 0]
    return np.where(valid, probabilities.max(axis=1) - chosen, np.inf)


def _chunk(
    agent: TrainedAgent, distribution: ActionDistribution, observations: np.ndarray, elapsed: np.ndarray
) -> tuple[Outputs, Outputs]:
    """The agent's outputs in float32, and the same in float64."""
    inputs = agent._inputs(observations, elapsed)
    outputs = _named(_evaluate(agent.actor, inputs, distribution), distribution)
    outputs["action"] = np.asarray(agent.act(observations, elapsed))
    scaled = inputs / 255.0 if agent.task.pixels else inputs.astype(np.float64)
    with jax.enable_x64(True):
        actor = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), agent.actor)
        exact = _named(_evaluate(actor, scaled, distribution), distribution)
    return outputs, exact


@partial(jax.jit, static_argnames="distribution")
def _evaluate(
    actor: Actor, inputs: jax.Array, distribution: ActionDistribution
) -> tuple[jax.Array, jax.Array]:
    """Environment actions and what decides them: mean and std side by side, or probabilities."""
    with jax.default_matmul_precision("float32"):  # As in training: accelerators would round to 10 bits.
        params = distribution.params(actor.outputs(actor.network.trace(inputs)))
    action = distribution.to_environment(distribution.mode(params))
    return action, distribution.probs(params) if isinstance(distribution, Categorical) else params


def _named(evaluated: tuple[jax.Array, jax.Array], distribution: ActionDistribution) -> Outputs:
    action, params = map(np.asarray, evaluated)
    if isinstance(distribution, Categorical):
        return {"probabilities": params}
    mean, std = np.split(params, 2, axis=1)
    return {"action": action, "mean": mean, "std": std}
