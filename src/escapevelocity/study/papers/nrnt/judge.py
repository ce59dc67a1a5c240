"""From paired numbers to a judgement: confirmed, not confirmed, or cannot be told at this scale.

The rule. A claim is broken into checks, each a difference with a direction, paired over runs of the same epochs and
seed. A check is *confirmed* when the 95 % interval of its mean lies on the claimed side of 0, *not confirmed* when it
lies on the other side, or holds 0 although every run of the paper's scale is there and has ended. In all other cases
(fewer than three pairs, a column that is missing, an interval that holds 0 in a smaller experiment) it *cannot be
told*. A figure's claim is confirmed when all its checks are, not confirmed when one is not, and otherwise cannot be
told.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from escapevelocity.study.bootstrap import bootstrap_interval
from escapevelocity.study.statistics import iqm, mean

Outcome = Literal["confirmed", "not confirmed", "cannot be told at this scale"]
FEWEST_PAIRS = 3
"""With two pairs an interval cannot tell luck from effect."""
REPETITIONS = 2000
"""Resamples per interval: its ends are then good to ±0.35 % in probability, little against what few runs leave open."""


@dataclass(frozen=True)
class Check:
    """One part of a claim, held against numbers.

    Attributes:
        what: what is compared with what, in words.
        differences: one number per pair; what is claimed is that their mean is above (below) 0.
        claimed: "above" or "below".
        as_factor: whether they are differences of natural logarithms, to be read as a factor.
        quantity: what the mean of the differences is called.
        each: what each difference comes from.
    """

    what: str
    differences: tuple[float, ...]
    claimed: Literal["above", "below"]
    as_factor: bool = False
    quantity: str = "mean difference"
    each: str = "pair"

    def interval(self) -> tuple[float, float, float]:
        """Mean of the differences and its 95 % bootstrap interval; NaN where there are no pairs."""
        return mean_interval(self.differences)

    def outcome(self, complete: bool) -> Outcome:
        """The rule above; `complete`: whether all runs of the paper's scale are there and have ended."""
        _, low, high = self.interval()
        if len(self.differences) < FEWEST_PAIRS or math.isnan(low):
            return "cannot be told at this scale"
        on_side, off_side = (low > 0, high < 0) if self.claimed == "above" else (high < 0, low > 0)
        if on_side:
            return "confirmed"
        return "not confirmed" if off_side or complete else "cannot be told at this scale"

    def sentence(self, complete: bool) -> str:
        """The numbers and the outcome."""
        if not self.differences:
            return f"{self.what}: not measured; cannot be told at this scale."
        numbers = self.interval()
        if self.as_factor:
            middle, low, high = (number(math.exp(min(value, 700.0))) for value in numbers)
            shown = f"factor {middle} [{low}, {high}]"
        else:
            middle, low, high = map(number, numbers)
            shown = f"{self.quantity} {middle} [{low}, {high}]"
        pairs = f"{len(self.differences)} {self.each}{'s' if len(self.differences) > 1 else ''}"
        claimed = f"claimed: {self.claimed} {1 if self.as_factor else 0}"
        return f"{self.what} ({claimed}): {shown} over {pairs}; {self.outcome(complete)}."


def judgement(checks: Sequence[Check], complete: bool) -> Outcome:
    """The outcome of a claim that holds when all its checks do."""
    outcomes = [check.outcome(complete) for check in checks]
    if outcomes and all(outcome == "confirmed" for outcome in outcomes):
        return "confirmed"
    return "not confirmed" if "not confirmed" in outcomes else "cannot be told at this scale"


def paired(first: Mapping[Any, float], second: Mapping[Any, float], log: bool = False) -> tuple[float, ...]:
    """first − second (or of their logarithms) for every key in both where both are finite (and above 0)."""
    found = []
    for key in sorted(set(first) & set(second), key=str):
        pair = np.array([first[key], second[key]], float)
        if np.isfinite(pair).all() and (not log or (pair > 0).all()):
            a, b = np.log(pair) if log else pair
            found.append(float(a - b))
    return tuple(found)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with its 95 % bootstrap interval, the same each time."""
    return _interval(values, mean)


def interval_text(values: Sequence[float]) -> str:
    """Interquartile mean with its 95 % bootstrap interval, as text."""
    if not values:
        return "not measured"
    middle, low, high = _interval(values, iqm)
    return f"{number(middle)} [{number(low)}, {number(high)}]"


def _interval(values: Sequence[float], statistic: Callable[..., Any]) -> tuple[float, float, float]:
    """Estimate and ends; NaN for the ends of a single value."""
    if not len(values):
        return math.nan, math.nan, math.nan
    found = bootstrap_interval(np.asarray(values, float), statistic, seed=0, repetitions=REPETITIONS)
    return found.estimate, found.low, found.high


def number(value: float) -> str:
    """Three digits, thousands set apart, a true minus."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")
