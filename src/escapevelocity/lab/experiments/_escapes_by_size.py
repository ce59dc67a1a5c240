"""Escape times from equal wrong rewards against the number of actions, beside the laws."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from escapevelocity.lab import (
    Bandit,
    Method,
    corner_starts,
    epg,
    escape_time,
    npg,
    predicted_escape_time,
    spg,
)
from escapevelocity.lab.methods import StepSize


class Contender(NamedTuple):
    """A method that can be given any rate.

    Attributes:
        name: as in tables.
        p: exponent of the escort transform, or None.
        law: name in `predicted_escape_time`.
        exponent: e in the law of uniform starts, see `uniform_escape_time`.
    """

    name: str
    p: float | int | None
    law: str
    exponent: float | int

    def method(self, rate: StepSize) -> Method:
        """The update rule with this rate."""
        if self.p is not None:
            return epg(rate, self.p)
        return spg(rate) if self.name == "SPG" else npg(rate)


def contenders(escort_powers: Sequence[float | int]) -> list[Contender]:
    """SPG, EPG(p) and NPG."""
    escorts = (Contender(f"EPG({p:g})", p, "EPG", 1 - 2 / p) for p in escort_powers)
    return [Contender("SPG", None, "SPG", 1.0), *escorts, Contender("NPG", None, "NPG", 0.0)]


def escapes(
    contender: Contender, num_actions: int, base_reward: float, gap: float, rate: float, corner_prob: float
) -> list[dict[str, Any]]:
    """Measure one method at one K: from the uniform policy until π(a*) > 1/2, and from the corner.

    Args:
        contender: the method.
        num_actions: K.
        base_reward: b of the rewards (b + Δ, b, …, b).
        gap: Δ.
        rate: η.
        corner_prob: π₁ at the corner's start.

    Returns:
        Two rows with start, method, num_actions, steps, censored (after ten times the law) and law.
    """
    bandit = Bandit([base_reward + gap] + [base_reward] * (num_actions - 1))
    method = contender.method(rate)
    uniform = uniform_escape_time(num_actions, gap, rate, contender.exponent)
    corner = float(predicted_escape_time(contender.law, corner_prob, gap, rate, contender.p))
    situations = (
        ("uniform", np.full((num_actions, 1), 1 / num_actions), 0.5, uniform),
        ("corner", corner_starts(num_actions, num_actions - 1, [corner_prob]), 0.9, corner),
    )
    rows = []
    for start, probs, share, law in situations:
        times = escape_time(bandit, method, probs, share * gap, math.ceil(10 * law + 1000))
        rows.append(
            {
                "start": start,
                "method": contender.name,
                "num_actions": num_actions,
                "steps": int(times.steps[0]),
                "censored": bool(times.censored[0]),
                "law": law,
            }
        )
    return rows


def uniform_escape_time(num_actions: int, gap: float, rate: float, exponent: float | int) -> float:
    """The gradient flow's time from the uniform policy to π(a*) = 1/2, rewards (b + Δ, b, …, b).

    The others stay equal, π_j = (1 − π₁)/(K − 1), and with e = `exponent`
    d logit π₁/dt = ηΔ(π₁^e (1 − π₁) + π_j^e π₁): e = 1 for SPG, 1 − 2/p for EPG with rate η‖θ‖_p²/p², 0 for NPG.

    Args:
        num_actions: K ≥ 2.
        gap: Δ.
        rate: η.
        exponent: e.

    Returns:
        Updates: (K − 1)/(ηΔ) to leading order for SPG, ln(K − 1)/(ηΔ) exactly for EPG(2) and NPG.

    Example:
        >>> round(uniform_escape_time(1000, gap=0.5, rate=0.4, exponent=0), 2)
        34.53
    """
    logit = np.linspace(-math.log(num_actions - 1), 0, 20_001)
    best = 1 / (1 + np.exp(-logit))
    other = (1 - best) / (num_actions - 1)
    speed = best**exponent * (1 - best) + other**exponent * best
    return float(np.trapezoid(1 / speed, logit)) / (rate * gap)


def growth(rows: list[dict[str, Any]]) -> float:
    """Least-squares slope of log T against log K; NaN where a run was censored or took no step."""
    steps = np.array([row["steps"] for row in rows], np.float64)
    if any(row["censored"] for row in rows) or (steps < 1).any():
        return math.nan
    slope = np.polyfit(np.log([row["num_actions"] for row in rows]), np.log(steps), 1)[0]
    return round(float(slope), 3) + 0.0  # equal times: 0, not the fit's −4e-17


def escape_answers(rows: Sequence[dict[str, Any]], rate: float, corner_prob: float) -> list[str]:
    """Say how the times grow from the least to the most actions, and how well the laws are met."""
    answers = []
    sizes = [row["num_actions"] for row in rows]
    least, most = min(sizes), max(sizes)
    for start, what in (("uniform", "From the uniform policy"), ("corner", f"From π₁ = {corner_prob:g}")):
        here = [row for row in rows if row["start"] == start]
        steps = {(row["method"], row["num_actions"]): row["steps"] for row in here}
        said = [f"SPG {steps['SPG', least]} → {steps['SPG', most]}"]
        said += [
            f"{name} {steps[name, least]} → {steps[name, most]} "
            f"(SPG takes {_times(steps['SPG', least], steps[name, least])} → "
            f"{_times(steps['SPG', most], steps[name, most])} as long)"
            for name in dict.fromkeys(row["method"] for row in here)
            if name != "SPG"
        ]
        off = max((abs(row["steps"] / row["law"] - 1) for row in here if row["law"] >= 20), default=0)
        answers.append(
            f"{what}, η = {rate:g}, updates at K = {least} → {most}: {'; '.join(said)}. "
            f"Laws of 20 updates or more are met within {off:.0%}."
        )
    return answers


def _times(softmax: int, other: int) -> str:
    return f"{softmax / max(other, 1):.3g} ×"
