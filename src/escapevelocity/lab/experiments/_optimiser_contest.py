"""Who competes in `optimisers`, and the steps of the contest: a rate for each, then a report on other bandits."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from escapevelocity.lab import Method, epg, spg
from escapevelocity.lab.experiments._settling import (
    Settling,
    out_of_every_well,
    random_rewards,
    settle,
    wrong_corners,
)

SCALED = "SGD, η‖θ‖²/p²"
"""Plain ascent with the escort paper's rate, under which the length of θ does not matter."""

OPTIMISERS: Mapping[str, Callable[[], optax.GradientTransformation]] = {
    "SGD": lambda: optax.inject_hyperparams(optax.sgd)(1.0),
    "momentum": lambda: optax.inject_hyperparams(optax.sgd, static_args="momentum")(1.0, momentum=0.9),
    "Adam": lambda: _adam(1e-8),
    "Adam-1e-300": lambda: _adam(1e-300),
}
"""Optimisers whose learning rate is part of their state, so that every start can have its own. Momentum is 0.9; Adam
has β₁ = 0.9, β₂ = 0.999 and ε = 1e-8, or none that matters."""


class Contestant(NamedTuple):
    """A policy gradient with an optimiser.

    Attributes:
        method: "SPG" or "EPG(p)".
        optimiser: a name of `OPTIMISERS`, or `SCALED`.
        build: learning rates (B,), one per start -> the update rule.
    """

    method: str
    optimiser: str
    build: Callable[[np.ndarray], Method]

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.method} {self.optimiser}"


class Field(NamedTuple):
    """Bandits and the starts on them.

    Attributes:
        rewards: (K, N).
        starts: policies (K, N) by name of the kind of start.
    """

    rewards: np.ndarray
    starts: Mapping[str, np.ndarray]


def contestants(escort_powers: tuple[float, ...], optimisers: tuple[str, ...]) -> list[Contestant]:
    """SPG and every EPG(p) under every optimiser, and EPG(p) with the paper's rate."""
    found = [_through(optimiser, "SPG", spg) for optimiser in optimisers]
    for p in escort_powers:
        name = f"EPG({p:g})"
        found.append(Contestant(name, SCALED, lambda rates, p=p: epg(rates, p)))
        found += [_through(optimiser, name, lambda made, p=p: epg(made, p)) for optimiser in optimisers]
    return found


def make_field(
    generator: np.random.Generator, num_actions: int, count: int, best_probs: tuple[float, ...]
) -> Field:
    """Draw bandits with rewards U[0, 1]; start uniformly, and on a random wrong action at every π₁."""
    rewards = random_rewards(generator, num_actions, count)
    starts = {"uniform": np.full(rewards.shape, 1 / num_actions)}
    for best_prob in best_probs:
        starts[f"π₁ = {best_prob:g}"] = wrong_corners(generator, rewards, best_prob)
    return Field(rewards, starts)


def run_grid(
    contestant: Contestant, field: Field, rates: tuple[float, ...], steps: int
) -> dict[str, Settling]:
    """Run every rate on every bandit; its fields become (rates, bandits), and `probs` (K, rates, bandits)."""
    count = field.rewards.shape[1]
    per_bandit = np.repeat(np.asarray(rates), count)
    repeated = Field(
        np.tile(field.rewards, (1, len(rates))),
        {kind: np.tile(starts, (1, len(rates))) for kind, starts in field.starts.items()},
    )
    found = run_at(contestant, repeated, dict.fromkeys(field.starts, per_bandit), steps)
    shape = (len(rates), count)
    return {kind: Settling(*(v.reshape(*v.shape[:-1], *shape) for v in one)) for kind, one in found.items()}


def run_at(
    contestant: Contestant, field: Field, rates: Mapping[str, np.ndarray], steps: int
) -> dict[str, Settling]:
    """Run every kind of start at its own rates (N,), all in one compiled loop."""
    kinds = list(field.starts)
    rewards = np.tile(field.rewards, (1, len(kinds)))
    method = contestant.build(np.concatenate([rates[kind] for kind in kinds]))
    starts = np.concatenate([field.starts[kind] for kind in kinds], axis=1)
    found = settle(method, rewards, starts, out_of_every_well, steps)
    split = [np.split(values, len(kinds), axis=-1) for values in found]
    return {kind: Settling(*(values[i] for values in split)) for i, kind in enumerate(kinds)}


def best_rate(settled_at: np.ndarray) -> int:
    """Index of the rate with the smallest mean settling time; ties go to the smaller rate.

    Runs that never settle count with the length of the run, so that no rate is excused; where none settled at
    any rate, the largest is as good a guess as there is.

    Args:
        settled_at: (rates, bandits), rates in increasing order.
    """
    means = settled_at.mean(axis=1)
    return len(means) - 1 if (means == means[0]).all() else int(means.argmin())


def edge(index: int, count: int) -> str:
    """Say whether the best rate is the grid's smallest or largest: then a better one may lie outside."""
    return "lower" if index == 0 else "upper" if index == count - 1 else ""


def _through(optimiser: str, name: str, make: Callable[[Any], Method]) -> Contestant:
    def build(rates: np.ndarray) -> Method:
        method = make(OPTIMISERS[optimiser]())

        def init(probs: Array) -> Any:
            state = method.init(probs)
            inner = state.optimiser
            hyperparams = inner.hyperparams | {"learning_rate": jnp.asarray(rates)}
            return state._replace(optimiser=inner._replace(hyperparams=hyperparams))

        return method._replace(init=init)

    return Contestant(name, optimiser, build)


def _adam(eps: float) -> optax.GradientTransformation:
    static = ("b1", "b2", "eps", "eps_root")
    return optax.inject_hyperparams(optax.adam, static_args=static)(1.0, b1=0.9, b2=0.999, eps=eps)


def is_increasing(rates: tuple[float, ...]) -> bool:
    """Whether the rates are positive, finite and in increasing order."""
    inside = all(0 < rate < math.inf for rate in rates)
    return len(rates) > 0 and inside and bool((np.diff(rates) > 0).all())
