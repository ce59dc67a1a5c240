"""What a rule looks at and what it finds."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from escapevelocity.health._memory import Memory
from escapevelocity.health._retrieval import Retrieval
from escapevelocity.health._returns import Returns
from escapevelocity.health.context import Context
from escapevelocity.health.thresholds import Thresholds


class Reading(NamedTuple):
    """What a rule found.

    Attributes:
        holds: whether the sign is there.
        column: the column that was read.
        value: what was compared.
        bound: with what.
        start: the column's value at the start.
        since: where it began, in environment steps, if the rule knows; else the newest values tell.
    """

    holds: bool
    column: str
    value: float
    bound: float
    start: float = math.nan
    since: int | None = None


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
    """Give the first that holds, else the first that was measured."""
    measured = [reading for reading in readings if reading is not None]
    return next((reading for reading in measured if reading.holds), measured[0] if measured else None)
