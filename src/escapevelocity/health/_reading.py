"""What a rule looks at and what it finds."""

import math
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from escapevelocity.health._memory import Memory
from escapevelocity.health._retrieval import Retrieval
from escapevelocity.health._returns import Returns
from escapevelocity.health.context import Context
from escapevelocity.health.thresholds import Thresholds


class Degree(IntEnum):
    """How far beyond its bound a sign is."""

    BEYOND = 1
    """It counts beside others."""
    FAR = 2
    """So far that it needs no other sign to count."""
    TOTAL = 3
    """Nothing is left of what is measured: it is seen, not inferred."""


class Reading(NamedTuple):
    """What a rule found.

    Attributes:
        holds: whether the sign is there.
        column: the column that was read.
        value: what was compared.
        bound: with what.
        start: the column's value at the start.
        since: where it began, in environment steps, if the rule knows; else the newest values tell.
        degree: how far beyond the bound it is, if it holds.
    """

    holds: bool
    column: str
    value: float
    bound: float
    start: float = math.nan
    since: int | None = None
    degree: Degree = Degree.BEYOND


class Patient(NamedTuple):
    """All that a rule may look at."""

    row: Mapping[str, Any]
    memory: Memory
    returns: Returns
    thresholds: Thresholds
    context: Context
    retrieval: Retrieval


Rule = Callable[[Patient], Reading | None]
"""None: not measured in this row."""


def began_at(reading: Reading, memory: Memory) -> int:
    """Give the step of the first value, among those that the median was taken of, that is beyond the bound."""
    if reading.since is not None:
        return reading.since
    series, step = memory.get(reading.column), memory.step
    if series is None:
        return step
    low = reading.value < reading.bound
    beyond = (at for at, value in series.recent if (value < reading.bound if low else value > reading.bound))
    return next(beyond, step)


def above(patient: Patient, column: str, bound: float) -> Reading | None:
    """Say whether a column's median is above a bound."""
    series = patient.memory.fresh(column)
    return (
        None if series is None else Reading(series.value > bound, column, series.value, bound, series.start)
    )


def below(patient: Patient, column: str, bound: float) -> Reading | None:
    """Say whether it is below."""
    series = patient.memory.fresh(column)
    return (
        None if series is None else Reading(series.value < bound, column, series.value, bound, series.start)
    )


def first_that_holds(*readings: Reading | None) -> Reading | None:
    """Give the first that holds, of several the one that is further beyond its bound; else the first measured."""
    measured = [reading for reading in readings if reading is not None]
    # `max` gives the first of those that are equally far.
    return max(measured, key=lambda reading: reading.holds * reading.degree, default=None)


def graded(reading: Reading | None, far: float) -> Reading | None:
    """Say whether a reading is `far` times beyond its bound."""
    if reading is None or not reading.holds:
        return reading
    beyond = reading.value / far > reading.bound or reading.value * far < reading.bound
    return reading._replace(degree=Degree.FAR) if beyond else reading
