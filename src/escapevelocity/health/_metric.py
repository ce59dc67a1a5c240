"""The form of one line in the table of metrics."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from escapevelocity.errors import UserError


@dataclass(frozen=True)
class HealthyRange:
    """The values a metric takes in a run that nobody would worry about, both ends included.

    Attributes:
        low: smallest healthy value, in the metric's unit.
        high: largest healthy value, in the metric's unit.
        low_share: smallest healthy value as a share of the layer's width D; with `low` given, the smaller one
            counts.
        start_share: smallest healthy value as a share of the run's first one; with `low` given, the smaller one
            counts. A task of few dimensions starts below a bound that fits the others, and has lost nothing.
        high_share: largest healthy value as a share of D; with `high` given, the larger one counts.
        provisional: no study of this or another group has set the bound; it may move.
    """

    low: float | None = None
    high: float | None = None
    low_share: float | None = None
    start_share: float | None = None
    high_share: float | None = None
    provisional: bool = True

    def bounds(self, width: int | None, start: float | None = None) -> tuple[float, float]:
        """Return (low, high) for a layer of `width` units in a run that began at `start`; an open end is ±inf.

        Without `start`, the bounds are those of a run that began high.

        Raises:
            UserError: if a bound is a share of the width and no width ≥ 1 is given.
        """
        if (self.low_share is not None or self.high_share is not None) and (width is None or width < 1):
            raise UserError(
                f"width = {width}: must be the layer's number of units, ≥ 1, for this metric's range"
            )
        lows = [self.low, None if self.low_share is None else self.low_share * (width or 0)]
        if self.start_share is not None and start is not None and not math.isnan(start):
            lows.append(self.start_share * start)
        highs = [self.high, None if self.high_share is None else self.high_share * (width or 0)]
        return (
            min((x for x in lows if x is not None), default=-float("inf")),
            max((x for x in highs if x is not None), default=float("inf")),
        )

    def __str__(self) -> str:
        parts = [
            _bound("≥", "min", self.low, {"D": self.low_share, "start": self.start_share}),
            _bound("≤", "max", self.high, {"D": self.high_share}),
        ]
        return ", ".join(part for part in parts if part) + (" (provisional)" if self.provisional else "")


@dataclass(frozen=True)
class Metric:
    """What a column of the records means.

    Attributes:
        name: column name; braces hold alternatives, as in a shell: "norm/{actor,critic}_weights".
        formula: its definition.
        source: the paper, code or definition it comes from.
        unit: unit of the value.
        window: what it is computed over.
        healthy: the range outside of which a live table marks it, None where no defensible range is known.
        why: what motivates the range, or why there is none.
    """

    name: str
    formula: str
    source: str
    unit: str
    window: str
    healthy: HealthyRange | None
    why: str

    def columns(self) -> list[str]:
        """Return every column name that `name` stands for.

        Example:
            >>> Metric("a/{x,y}{,_after}", "", "", "", "", None, "").columns()
            ['a/x', 'a/x_after', 'a/y', 'a/y_after']
        """
        pieces = re.split(r"\{([^{}]*)\}", self.name)
        # re.split puts the contents of the braces at the odd positions.
        choices = [piece.split(",") if i % 2 else [piece] for i, piece in enumerate(pieces)]
        return ["".join(choice) for choice in product(*choices)]


def _bound(sign: str, pick: str, value: float | None, shares: Mapping[str, float | None]) -> str:
    given = [] if value is None else [f"{value:g}"]
    given += [f"{share:g}·{of}" for of, share in shares.items() if share is not None]
    if len(given) > 1:
        return f"{sign} {pick}({', '.join(given)})"
    return f"{sign} {given[0]}" if given else ""
