"""What a run will cost, from what like runs have cost: seconds of running per environment step, as recorded."""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

_FREE = ("seeds", "steps")  # Cost is per step; seeds count by their number.
_KIND = "task"  # Runs of another task say nothing about this one.

Leaves: TypeAlias = frozenset[tuple[str, str]]


class Recorded(NamedTuple):
    """What a run has cost so far."""

    leaves: Leaves
    """Its settings; see `leaves_of`."""
    seconds_per_step: float
    """Wall time per environment step of each member."""


class Prices:
    """The recorded runs of a store, asked for what the next one will cost.

    Args:
        recorded: runs that have done at least one step.
    """

    def __init__(self, recorded: Iterable[Recorded]) -> None:
        self._recorded = list(recorded)
        self._known: dict[Leaves, float | None] = {}

    def seconds_per_step(self, leaves: Leaves) -> float | None:
        """The median over the recorded runs that differ in the fewest settings; None where none is comparable.

        Args:
            leaves: settings of the run that has not begun.
        """
        if leaves not in self._known:
            self._known[leaves] = self._look(leaves)
        return self._known[leaves]

    def _look(self, leaves: Leaves) -> float | None:
        kind = _kind(leaves)
        alike = [(len(leaves ^ one.leaves), one) for one in self._recorded if _kind(one.leaves) == kind]
        if not alike:
            return None
        least = min(distance for distance, _ in alike)
        return statistics.median(one.seconds_per_step for distance, one in alike if distance == least)


def leaves_of(job: str, spec: Mapping[str, Any], members: int) -> Leaves:
    """Every setting of a run with its value, so that two runs can be compared: without seeds and length.

    Args:
        job: the kind of run.
        spec: its spec as JSON values.
        members: seeds in it.
    """
    rest = {name: value for name, value in spec.items() if name not in _FREE}
    return frozenset({("job", job), ("members", str(members)), *_walk(rest, "")})


def _walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk(inner, f"{path}.{name}")
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _walk(inner, f"{path}.{number}")
    else:
        yield path, repr(value)


def _kind(leaves: Leaves) -> Leaves:
    return frozenset(leaf for leaf in leaves if leaf[0] in ("job", f".{_KIND}"))
