"""What a reader of logs gives: numbers by tag, in the order in which they were written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, "_"]


@dataclass
class Log:
    """One run's log.

    Attributes:
        path: where it was read.
        name: what to call the run among others.
        series: tag -> (steps, values), as written: steps may repeat or go back, values may be NaN.
        settings: what the log says of the run, by the trainer's own names.
        notes: sentences on what could not be read.
    """

    path: Path
    name: str
    series: dict[str, tuple[Vector, Vector]] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Points:
    """Collects values by tag."""

    def __init__(self) -> None:
        self._points: dict[str, tuple[list[float], list[float]]] = {}

    def add(self, tag: str, step: float | int, value: float | int) -> None:
        """Take in one value."""
        steps, values = self._points.setdefault(tag, ([], []))
        steps.append(float(step))
        values.append(float(value))

    def series(self) -> dict[str, tuple[Vector, Vector]]:
        """Give all values."""
        return {tag: (np.array(s), np.array(v)) for tag, (s, v) in self._points.items()}


def flat(nested: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Join the keys of nested mappings with slashes, as Ray Tune does.

    Example:
        >>> flat({"a": {"b": 1}, "c": 2})
        {'a/b': 1, 'c': 2}
    """
    found: dict[str, object] = {}
    for key, value in nested.items():
        found.update(
            flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        )
    return found
