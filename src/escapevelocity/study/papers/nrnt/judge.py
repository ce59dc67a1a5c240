"""From paired numbers to a judgement: confirmed, not confirmed, or cannot be told at this scale.

The rule. A claim is broken into checks, each the mean of numbers per run or pair with a side of a level (0, if nothing
else is said) on which it is claimed to lie. Pairs are of runs of the same epochs and seed, and those of one seed count
as one: they are averaged before the 95 % interval is taken over seeds, by the bootstrap, or Student's where there are
fewer than five seeds (`FEWEST_TO_RESAMPLE`). A check is *confirmed* when its interval lies on the claimed side, *not
confirmed* when it lies on the other side, or holds the level although every run of the paper's scale is there and has
ended. It *cannot be told* in all other cases: fewer than three seeds, a column that is missing, an interval that holds
the level in a smaller experiment, runs that are not at their end yet (5 % may lack), or a condition of the claim that
did not occur, such as a collapse. A figure's claim is confirmed when all its checks are, not confirmed when one is not,
and otherwise cannot be told.

A member whose numbers became non-finite has ended: it is read where it ended, as in the paper's code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from escapevelocity.study.bootstrap import REPETITIONS, bootstrap_interval
from escapevelocity.study.papers.nrnt.members import Member
from escapevelocity.study.statistics import iqm, mean
from escapevelocity.study.student import student_interval

Outcome = Literal["confirmed", "not confirmed", "cannot be told at this scale"]
Numbers: TypeAlias = Mapping[Member, float]
"""A number for each run or pair of runs."""
FEWEST_SEEDS = 3
"""With two seeds an interval cannot tell luck from effect."""
FEWEST_TO_RESAMPLE = 5
"""Of fewer seeds a mean's bootstrap interval is their range or little less: three lie on one side by chance in a
quarter of studies, four in an eighth."""
FLOOR = 1e-12
"""Least value that a logarithm is taken of: a variance that underflows to 0 is the strongest collapse there is."""


@dataclass(frozen=True)
class Check:
    """One part of a claim, held against numbers.

    Attributes:
        what: what is compared with what, in words.
        differences: one number per pair; what is claimed is that their mean is above (below) `level`.
        claimed: "above" or "below"; None: nothing is claimed, the numbers are told alone.
        level: what the mean is held against, in the units of the differences.
        as_factor: whether they are differences of natural logarithms, to be read as a factor.
        quantity: what the mean of the differences is called.
        each: what each difference comes from.
        untold: why the check cannot be told, whatever its numbers are; "" where nothing stands against it.
    """

    what: str
    differences: Numbers
    claimed: Literal["above", "below"] | None
    level: float = 0.0
    as_factor: bool = False
    quantity: str = "mean difference"
    each: str = "pair"
    untold: str = ""

    @cached_property
    def interval(self) -> tuple[float, float, float]:
        """Mean of the differences and its 95 % interval (`mean_interval`); NaN where there are no pairs."""
        return mean_interval(self.differences)

    @property
    def can_tell(self) -> bool:
        """Whether there are seeds enough, and nothing stands against it."""
        return not self.untold and len(per_seed(self.differences)) >= FEWEST_SEEDS

    @property
    def side(self) -> int:
        """1 where the interval lies above the level, −1 below; 0 where it holds it, or nothing can be told."""
        _, low, high = self.interval
        return (int(low > self.level) - int(high < self.level)) if self.can_tell else 0

    def outcome(self, complete: bool) -> Outcome:
        """The rule above; `complete`: whether all runs of the paper's scale are there and have ended."""
        if self.claimed is None or not self.can_tell or (self.side == 0 and not complete):
            return "cannot be told at this scale"
        return "confirmed" if self.side == (1 if self.claimed == "above" else -1) else "not confirmed"

    def sentence(self, complete: bool) -> str:
        """The numbers and the outcome."""
        told = f"cannot be told: {self.untold}" if self.untold else self.outcome(complete)
        if not self.differences:
            return f"{self.what}: {'' if self.untold else 'not measured; '}{told}."
        shown = f"{self.what}{self._claim()}: {self.numbers()}"
        return f"{shown}." if self.claimed is None else f"{shown}; {told}."

    def sentences(self, complete: bool) -> list[str]:
        """The numbers and the outcome, and what to think of it where that is less than it seems."""
        hint = self.hint(complete)
        return [self.sentence(complete), *([hint] if hint else [])]

    def hint(self, complete: bool) -> str:
        """What makes an outcome a hint only: Student's interval, wider than a bootstrap of five seeds, holds the level,
        and the outcome would be another. Empty where it would not."""
        if self.claimed is None or self.side == 0:
            return ""
        found = student_interval(list(per_seed(self.differences).values()))
        by_student: Outcome = "not confirmed" if complete else "cannot be told at this scale"
        if not found.low <= self.level <= found.high or self.outcome(complete) == by_student:
            return ""
        middle, low, high = (number(self._read(end)) for end in (found.estimate, found.low, found.high))
        told = "is not confirmed" if complete else "cannot be told"
        return f"A hint only: by Student's interval that is {middle} [{low}, {high}], and the claim {told}."

    def numbers(self) -> str:
        """The mean with its interval, and what it is over."""
        if not self.differences:
            return "not measured"
        middle, low, high = (number(self._read(value)) for value in self.interval)
        seeds = len(per_seed(self.differences))
        pairs = _count(len(self.differences), self.each)
        of = f" of {_count(seeds, 'seed')}" if seeds != len(self.differences) else ""
        return f"{'factor' if self.as_factor else self.quantity} {middle} [{low}, {high}] over {pairs}{of}"

    def _claim(self) -> str:
        return f" (claimed: {self.claimed} {number(self._read(self.level))})" if self.claimed else ""

    def _read(self, value: float) -> float:
        return math.exp(min(value, 700.0)) if self.as_factor else value


def judgement(checks: Sequence[Check], complete: bool) -> Outcome:
    """The outcome of a claim that holds when all its checks do."""
    outcomes = [check.outcome(complete) for check in checks]
    if outcomes and all(outcome == "confirmed" for outcome in outcomes):
        return "confirmed"
    return "not confirmed" if "not confirmed" in outcomes else "cannot be told at this scale"


def paired(first: Numbers, second: Numbers, log: bool = False) -> dict[Member, float]:
    """first − second (or of their logarithms, of `FLOOR` at least) for every member in both where both are finite."""
    found = {}
    for member in sorted(set(first) & set(second)):
        pair = np.array([first[member], second[member]], float)
        if np.isfinite(pair).all():
            a, b = np.log(np.maximum(pair, FLOOR)) if log else pair
            found[member] = float(a - b)
    return found


def per_seed(numbers: Numbers) -> dict[int, float]:
    """Means over each seed's runs, which share their start: they are no samples of their own."""
    seeds = sorted({member.seed for member in numbers})
    return {
        seed: float(np.mean([x for member, x in numbers.items() if member.seed == seed])) for seed in seeds
    }


def mean_interval(numbers: Numbers) -> tuple[float, float, float]:
    """Mean over seeds with its 95 % interval: bootstrap, the same each time; Student's for two to four seeds."""
    values = list(per_seed(numbers).values())
    if not 2 <= len(values) < FEWEST_TO_RESAMPLE:
        return _interval(numbers, mean)
    found = student_interval(values)
    return found.estimate, found.low, found.high


def interval_text(numbers: Numbers) -> str:
    """Interquartile mean over seeds with its 95 % bootstrap interval, as text."""
    if not numbers:
        return "not measured"
    middle, low, high = _interval(numbers, iqm)
    return f"{number(middle)} [{number(low)}, {number(high)}]"


def _interval(numbers: Numbers, statistic: Callable[..., Any]) -> tuple[float, float, float]:
    """Estimate and ends; NaN for the ends of a single value."""
    values = list(per_seed(numbers).values())
    if not values:
        return math.nan, math.nan, math.nan
    found = bootstrap_interval(np.asarray(values, float), statistic, seed=0, repetitions=REPETITIONS)
    return found.estimate, found.low, found.high


def _count(count: int, name: str) -> str:
    return f"{count} {name}{'s' if count != 1 else ''}"


def number(value: float) -> str:
    """Three digits, thousands set apart, a true minus."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")
