"""When does the agent's policy leave its start? The law of the accumulated gap, tried on the agent itself.

The law (`health.accumulated_gap_needed`): softmax leaves a corner when η·∫ gap dt = 1/(2·π₁), so with one agent from
one start the *gap summed over decisions* until the escape is a constant A, whatever the gap. Here η cannot be read off:
the agent steps with Adam on a network, and is paid by signs. So A is measured: the agent's own code, from its own
start, is paid signs whose mean prefers one third of the bins by a known gap, until it has escaped. Whether A is the
same for all gaps tests the law on this agent; and the gaps of `gaps.py`, put into the same simulation, predict what
real runs do.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.metric_learning.config import ControllerConfig, SamplerConfig
from escapevelocity.metric_learning.controller import Controller, decide, learn, make_controller
from escapevelocity.metric_learning.policy_network import action_family, forward
from escapevelocity.metric_learning.state import controller_state, observe
from studies.asr.gaps import thirds

ESCAPED = 0.5
"""Mean probability of raising the bins of the best third at which the policy counts as escaped: odds of 1. A fresh
agent has 1/3, which is no corner: the law's own 0.1 is passed from the start."""
_METRICS = (0.5, 0.6, 0.7, 0.8, 0.7, 0.3, 0.9)
"""What the simulated agent sees, always: the state must not tell it anything."""


AGENTS = 400
"""Simulated agents under a measured gap: a share of 2 % is then known to within 1.4 points (two standard errors)."""


class Escapes(NamedTuple):
    """Simulated agents under given gaps.

    Attributes:
        decisions: until the escape, one per agent; inf where it did not escape.
        probs: mean probability of raising the third's bins, by agent and decision.
    """

    decisions: Float[np.ndarray, " agents"]
    probs: Float[np.ndarray, "agents decisions"]

    def share(self, within: int) -> float:
        """The share of agents that escaped within so many decisions."""
        return float(np.mean(self.decisions <= within))

    def seen(self, decisions: Sequence[int]) -> float:
        """The share of agents beyond `ESCAPED` at one of these decisions: what looking at checkpoints shows."""
        return float(np.mean((self.probs[:, np.asarray(decisions) - 1] > ESCAPED).any(axis=1)))

    @property
    def median(self) -> float:
        """Of the decisions until the escape; inf where fewer than half have escaped."""
        return float(np.sort(self.decisions)[len(self.decisions) // 2])


def simulated_escapes(
    config: ControllerConfig,
    sampler: SamplerConfig,
    gaps: Float[np.ndarray, " decisions"],
    third: int,
    agents: int = 64,
) -> Escapes:
    """Let fresh agents learn from signs that prefer raising a third by a gap.

    A reward is +1 with probability ½ + x·gap/2 and else −1, x = the share of the third's bins that were raised minus
    the share that were lowered: raising all of them pays `gap` more than holding them, in the mean.

    Args:
        config: the agent.
        sampler: its bins and start.
        gaps: in [−1, 1], one per decision.
        third: which third of the bins.
        agents: how many, with seeds 0, 1, ….
    """
    keys = jax.vmap(jax.random.key)(jnp.arange(agents))
    made = [make_controller(config, sampler, key) for key in keys]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)
    probs = np.asarray(
        _probs(config, sampler, third, stacked, keys, jnp.asarray(gaps, jnp.float32)), np.float64
    )
    escaped = probs > ESCAPED
    return Escapes(np.where(escaped.any(axis=1), escaped.argmax(axis=1) + 1.0, np.inf), probs)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _probs(
    config: ControllerConfig, sampler: SamplerConfig, third: int, agents: Controller, keys: Array, gaps: Array
) -> Array:
    metrics, best = jnp.asarray(_METRICS, jnp.float32), thirds(sampler.bins)[third]
    family = action_family(config)

    def one(agent: Controller, key: Array) -> Array:
        masses = agent.masses

        def turn(
            carry: tuple[Controller, Array], now: tuple[Array, Array]
        ) -> tuple[tuple[Controller, Array], Array]:
            (agent, reward), (number, gap) = carry, now
            # The masses stay as they are: the state must not tell the agent anything.
            agent = agent._replace(masses=masses, history=observe(agent.history, metrics))
            state = controller_state(agent.history, masses, jnp.float32(0.5))
            agent, _ = learn(config, agent, reward, state, jnp.float32(0.5))
            drawn = jax.random.fold_in(key, number)
            agent, decision = decide(config, agent, state, drawn)
            moves = jnp.mean((decision.actions[best] - 1).astype(jnp.float32))
            won = jax.random.uniform(jax.random.fold_in(drawn, 1)) < 0.5 + gap * moves / 2
            outputs, _ = forward(agent.network, state)
            prob = jnp.mean(family.probs(family.params(outputs))[best, 2])
            return (agent, jnp.where(won, 1.0, -1.0).astype(jnp.float32)), prob

        return jax.lax.scan(turn, (agent, jnp.float32(0)), (jnp.arange(len(gaps)), gaps))[1]

    return jax.vmap(one)(agents, keys)


def predicted_escape(gaps: Float[np.ndarray, " decisions"], needed: float) -> float:
    """First decision at which the accumulated gap reaches what is needed.

    Args:
        gaps: gap at every decision, of either sign.
        needed: A.

    Returns:
        Decisions; inf where the record ends before.

    Example:
        >>> predicted_escape([0.0] * 10 + [0.5] * 50, needed=10.0)
        30.0
    """
    clock = np.maximum.accumulate(np.concatenate([[0.0], np.cumsum(gaps)]))
    reached = int(np.searchsorted(clock, needed * (1 - 1e-12)))
    return float(reached) if reached < len(clock) else np.inf


def gap_at_decisions(
    points: Float[np.ndarray, " points"], gaps: Float[np.ndarray, " points"], decisions: int
) -> np.ndarray:
    """The gap at every decision: on the straight line that least squares fit through the measured points."""
    places = np.asarray(points, np.float64)
    if len(places) < 2:
        return np.full(decisions, float(np.mean(gaps)))
    slope, start = np.polyfit(places, np.asarray(gaps, np.float64), 1)
    return start + slope * np.arange(decisions)
