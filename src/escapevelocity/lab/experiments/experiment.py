"""What every experiment is: settings that can be run, and findings that can be printed, stored and drawn."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from escapevelocity.errors import UserError

T = TypeVar("T")

Columns = Mapping[str, np.ndarray | Sequence[Any]]
"""A table: columns of one length, by name."""


class Summary(NamedTuple):
    """The small table that a person reads.

    Attributes:
        headings: of the columns.
        rows: integers are shown as they are, other numbers to four digits, NaN as a dash.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]


class Findings(NamedTuple):
    """What an experiment found.

    Attributes:
        tables: everything measured, in long form, one Parquet file each; the main table's name is "".
        summary: the small table.
        answers: what it says, in sentences, with numbers and intervals; each a paragraph.
    """

    tables: Mapping[str, Columns]
    summary: Summary
    answers: Sequence[str]


@runtime_checkable
class Track(Protocol):
    """Goes through the parts of a long experiment and may show how far it is."""

    def __call__(self, parts: Sequence[T], name: Callable[[T], str] = str) -> Iterator[T]:
        """Yield the parts; `name` says what a part is called."""
        ...


def silently(parts: Sequence[T], name: Callable[[T], str] = str) -> Iterator[T]:
    """The `Track` that shows nothing."""
    del name
    yield from parts


@dataclasses.dataclass(frozen=True)
class Experiment(ABC):
    """Settings of one experiment. Subclasses are frozen dataclasses; the same settings give the same findings."""

    question: ClassVar[str]
    """What it asks, in a sentence."""
    quick: ClassVar[Mapping[str, Any]]
    """Settings that make it take seconds, for a first look."""

    @abstractmethod
    def run(self, track: Track = silently) -> Findings:
        """Run it.

        Raises:
            UserError: on a setting out of range, before anything is computed.
        """


def stack_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Turn rows with the same keys into columns.

    Example:
        >>> stack_rows([{"p": 2, "steps": 13}, {"p": 3, "steps": 38}])["steps"]
        array([13, 38])
    """
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def require_all(
    values: Sequence[Any], field: str, ok: Callable[[Any], bool], accepted: str, distinct: bool = True
) -> None:
    """Raise `UserError` unless there is a value, `ok` holds for each, and (with `distinct`) none is given twice."""
    if len(values) == 0:
        raise UserError(f"{field} = (): must be one or more of: {accepted}")
    for i, value in enumerate(values):
        if not ok(value):
            raise UserError(f"{field}[{i}] = {value!r}: must be {accepted}")
        if distinct and value in values[:i]:
            raise UserError(f"{field}[{i}] = {value!r}: must be given once")
