"""The paper's findings as things that happen to a seed or do not, and what may be said of a share of seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from escapevelocity.health.rank import SINGLE_DIGITS
from studies.early_warning.statistics import wilson
from studies.hopper_collapse.measures import Cell

UNITS = 64
Measured = Mapping[Cell, Mapping[str, Mapping[int, float]]]
"""Setting → measure → seed → number."""


class Claim(NamedTuple):
    """Something that happens to a run."""

    words: str
    """What, as a heading."""
    measures: tuple[str, ...]
    """What it is read from."""
    happened: Callable[..., bool]
    """Takes a seed's numbers of these measures."""


CLAIMS = (
    Claim("norm tripled", ("norm_start", "norm"), lambda start, end: end >= 3 * start),
    Claim("rank below 0.9 of its best", ("rank_kept",), lambda share: share < 0.9),
    Claim("rank of a window of 1 % in single digits", ("rank_low",), lambda low: low < SINGLE_DIGITS),
    Claim("half the units dead", ("dead",), lambda dead: dead > UNITS / 2),
    Claim("KL of a batch above 1 nat", ("kl",), lambda kl: kl > 1),
    Claim("return below half of its best", ("kept",), lambda share: share < 0.5),
    Claim("numbers not finite", ("died",), bool),
)


class Count(NamedTuple):
    """In how many seeds of how many something happened."""

    happened: int
    seeds: int

    @property
    def judgement(self) -> str:
        """Whether most runs of this setting do so: where Wilson's 95 % interval lies of one half."""
        low, high = wilson(self.happened, self.seeds)
        return "yes" if low > 0.5 else "no" if high < 0.5 else "open"

    def __str__(self) -> str:
        return f"{self.happened} of {self.seeds}: {self.judgement}" if self.seeds else "–"


def count(claim: Claim, measures: Mapping[str, Mapping[int, float]]) -> Count:
    """Count the seeds of one setting; a seed of which a number is missing has no say."""
    seeds = measures[claim.measures[0]]
    values = [[measures[name].get(seed, np.nan) for name in claim.measures] for seed in seeds]
    known = [row for row in values if np.all(np.isfinite(row))]
    return Count(sum(claim.happened(*row) for row in known), len(known))
