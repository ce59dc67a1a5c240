"""What `p-study` measures about one exponent: the deep well, random bandits at many rates, sampled actions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from escapevelocity.lab import (
    Bandit,
    Method,
    corner_starts,
    epg,
    escape_time,
    predicted_escape_time,
    sampled,
    spg,
    trajectory,
    wilson_interval,
)
from escapevelocity.lab.experiments._bootstrap import mean_interval
from escapevelocity.lab.experiments._settling import random_rewards, settle, within_one_percent

SOFTMAX = float("inf")
"""Softmax is listed as the exponent ∞, its limit."""

WRONG = 0.01
"""A sampled run has ended on a wrong action when π(a*) is below this, as in `lab.commitment`."""

Row = dict[str, Any]


def with_exponent(p: float) -> Callable[[Any], Method]:
    """Return rate -> EPG(p) with the rate η‖θ‖²/p², or SPG for p = ∞."""
    return spg if p == SOFTMAX else lambda rate: epg(rate, p)


def corner_rows(
    method: Method, p: float, bandit: Bandit, best_probs: Sequence[float], rate: float, max_steps: int
) -> list[Row]:
    """Escape times from a wrong corner with exact gradients, beside the law of the gradient flow."""
    starts = corner_starts(len(bandit.rewards), len(bandit.rewards) - 1, best_probs)
    times = escape_time(bandit, method, starts, 0.9 * float(bandit.gap), max_steps)
    name, exponent = ("SPG", None) if p == SOFTMAX else ("EPG", p)
    law = predicted_escape_time(name, best_probs, float(bandit.gap), rate, exponent)
    return [
        {
            "p": float(p),
            "best_prob": best_prob,
            "steps": int(times.steps[i]),
            "censored": bool(times.censored[i]),
            "predicted_steps": float(law[i]),
            "sign_flips": int(times.sign_flips[i]),
        }
        for i, best_prob in enumerate(best_probs)
    ]


def random_bandits(
    seed: int, num_actions: int, count: int
) -> tuple[np.ndarray, Mapping[str, Float[np.ndarray, "actions bandits"]]]:
    """Rewards U[0, 1] and two kinds of starts: uniform over actions, and uniform over the simplex."""
    generator = np.random.default_rng([seed, 1])
    rewards = random_rewards(generator, num_actions, count)
    anywhere = generator.dirichlet(np.ones(num_actions), count).T
    return rewards, {"uniform": np.full(rewards.shape, 1 / num_actions), "anywhere": anywhere}


def rate_rows(
    p: float,
    rewards: np.ndarray,
    starts: Mapping[str, np.ndarray],
    rates: Sequence[float],
    steps: int,
    seed: int,
) -> tuple[list[Row], list[Row]]:
    """Run every rate on every bandit.

    Returns:
        One row per kind of start and rate; and one per kind, at the rate that is the quickest on the first half of
        the bandits, measured on the second half.
    """
    count, kinds = rewards.shape[1], list(starts)
    each = len(rates) * len(kinds)
    lanes = np.concatenate([np.tile(starts[kind], (1, len(rates))) for kind in kinds], axis=1)
    lane_rates = np.tile(np.repeat(np.asarray(rates), count), len(kinds))
    found = settle(
        with_exponent(p)(lane_rates), np.tile(rewards, (1, each)), lanes, within_one_percent, steps
    )
    shape = (len(kinds), len(rates), count)
    settled_at, settled = found.settled_at.reshape(shape), found.has_settled.reshape(shape)
    late, flips = found.worst_late.reshape(shape), found.late_flips.reshape(shape) / (steps // 10)
    rows, at_best, half = [], [], count // 2
    for i, kind in enumerate(kinds):
        for j, rate in enumerate(rates):
            low, high = wilson_interval(int(settled[i, j].sum()), count)
            mean, mean_low, mean_high = mean_interval(settled_at[i, j], seed)
            rows.append(
                {"p": float(p), "start": kind, "rate": rate, "mean_steps": mean, "mean_low": mean_low}
                | {"mean_high": mean_high, "median_steps": float(np.median(settled_at[i, j]))}
                | {"settled": float(settled[i, j].mean()), "settled_low": low, "settled_high": high}
                | {"late_regret": float(np.quantile(late[i, j], 0.95))}
                | {"late_flips": float(flips[i, j].mean())}
            )
        best = int(settled_at[i, :, :half].mean(axis=1).argmin())
        mean, mean_low, mean_high = mean_interval(settled_at[i, best, half:], seed)
        at_best.append(
            {"p": float(p), "start": kind, "rate": rates[best], "at_edge": best in (0, len(rates) - 1)}
            | {"mean_steps": mean, "mean_low": mean_low, "mean_high": mean_high}
            | {"settled": float(settled[i, best, half:].mean())}
        )
    return rows, at_best


def sampled_rows(
    p: float,
    bandit: Bandit,
    rates: Sequence[float],
    runs: int,
    horizons: Sequence[int],
    seed: int,
) -> list[Row]:
    """Sample one action per step from uniform starts and count the runs that end on a wrong action."""
    actions = len(bandit.rewards)
    method = sampled(with_exponent(p)(np.repeat(np.asarray(rates), runs)))
    starts = np.full((actions, runs * len(rates)), 1 / actions)
    found = trajectory(bandit, method, starts, horizons, jax.random.key(seed))
    best_prob = found.probs[:, 0].reshape(len(horizons), len(rates), runs)
    regret = found.suboptimality.reshape(best_prob.shape)
    rows = []
    for i, horizon in enumerate(horizons):
        for j, rate in enumerate(rates):
            wrong = int((best_prob[i, j] < WRONG).sum())
            low, high = wilson_interval(wrong, runs)
            mean, mean_low, mean_high = mean_interval(regret[i, j], seed)
            rows.append(
                {"p": float(p), "rate": rate, "steps": horizon, "wrong": wrong / runs, "wrong_low": low}
                | {"wrong_high": high, "regret": mean, "regret_low": mean_low, "regret_high": mean_high}
            )
    return rows
