"""How much memory a run will need: what the run most like it needed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from escapevelocity.runs import read_spec
from escapevelocity.study.plan import Order
from escapevelocity.study.progress import read_progress
from escapevelocity.study.store import Store

DEFAULT_MEMORY = 1 << 30
"""Bytes that a run is taken to need while nothing is recorded: five seeds of Hopper-v4 peaked at 798 to 908 MiB
(benchmarks/README.md, speed and memory)."""


class Recorded(NamedTuple):
    """What one run needed."""

    settings: Mapping[str, Any]
    """Its settings, by dotted name."""
    members: int
    """Its seeds."""
    memory: int
    """Peak resident memory in bytes."""


class Demand:
    """Expects of each order the peak memory of the recorded runs whose settings differ least from its own.

    Args:
        recorded: what is known at the start.
    """

    def __init__(self, recorded: Sequence[Recorded] = ()) -> None:
        self._recorded = list(recorded)

    @classmethod
    def of(cls, store: Store) -> Demand:
        """Begin with the runs of a store."""
        found = []
        for name, progress in read_progress(store).items():
            with contextlib.suppress(ValueError):  # A damaged run is no example.
                document = read_spec(store.run_path(name))
                found.append(Recorded(_settings(document), progress.members, progress.memory))
        return cls([one for one in found if one.memory > 0])

    def learn(self, order: Order, memory: int) -> None:
        """Take in what an order needed, in bytes; 0 says nothing."""
        if memory > 0:
            self._recorded.append(Recorded(_settings(json.loads(order.spec)), len(order.seeds), memory))

    def expect(self, order: Order) -> int:
        """The peak memory to expect, in bytes.

        Of several runs as like it, the one that needed most. A run of fewer seeds counts as often as the order's go
        into it, which is too much rather than too little: programs and libraries are there once.
        """
        if not self._recorded:
            return DEFAULT_MEMORY
        own, members = _settings(json.loads(order.spec)), len(order.seeds)

        def distance(one: Recorded) -> int:
            names = own.keys() | one.settings.keys()
            return sum(own.get(name) != one.settings.get(name) for name in names) + (one.members != members)

        distances = [distance(one) for one in self._recorded]
        near = [one for one, d in zip(self._recorded, distances, strict=True) if d == min(distances)]
        return max(int(one.memory * max(1.0, members / max(1, one.members))) for one in near)


def _settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's settings by dotted name, without its seeds: these count by number."""
    flat: dict[str, Any] = {"job": document["job"]}
    open_parts = [("", document["spec"])]
    while open_parts:
        prefix, part = open_parts.pop()
        for name, value in part.items():
            if isinstance(value, Mapping):
                open_parts.append((f"{prefix}{name}.", value))
            elif prefix + name != "seeds":
                flat[prefix + name] = value
    return flat
