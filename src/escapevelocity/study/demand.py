"""How much memory a run will need: what the run most like it needed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import NamedTuple

from escapevelocity.errors import UserError
from escapevelocity.runs import read_spec
from escapevelocity.study.cost import Leaves, leaves_of
from escapevelocity.study.plan import Order
from escapevelocity.study.progress import read_progress
from escapevelocity.study.store import Store

DEFAULT_MEMORY = 1 << 30
"""Bytes that a run is taken to need while nothing is recorded: five seeds of Hopper-v4 peaked at 798 to 908 MiB
(benchmarks/README.md, speed and memory)."""


class Needed(NamedTuple):
    """What one run needed."""

    leaves: Leaves
    """Its settings; see `cost.leaves_of`."""
    members: int
    """Its seeds."""
    memory: int
    """Peak resident memory in bytes."""


class Demand:
    """Expects of each order the peak memory of the recorded runs whose settings differ least from its own.

    Args:
        recorded: what is known at the start.
    """

    def __init__(self, recorded: Sequence[Needed] = ()) -> None:
        self._recorded = list(recorded)

    @classmethod
    def of(cls, store: Store) -> Demand:
        """Begin with the runs of a store."""
        found = []
        for name, progress in read_progress(store).items():
            with contextlib.suppress(UserError):  # A damaged run is no example.
                document = read_spec(store.run_path(name))
                leaves = leaves_of(document["job"], document["spec"], progress.members)
                found.append(Needed(leaves, progress.members, progress.memory))
        return cls([one for one in found if one.memory > 0])

    def learn(self, order: Order, memory: int) -> None:
        """Take in what an order needed, in bytes; 0 says nothing."""
        if memory > 0:
            self._recorded.append(Needed(_leaves(order), len(order.seeds), memory))

    def expect(self, order: Order) -> int:
        """The peak memory to expect, in bytes.

        Of several runs as like it, the one that needed most. A run of fewer seeds counts as often as the order's go
        into it, which is too much rather than too little: programs and libraries are there once.
        """
        if not self._recorded:
            return DEFAULT_MEMORY
        own, members = _leaves(order), len(order.seeds)
        distances = [len(own ^ one.leaves) for one in self._recorded]
        near = [one for one, d in zip(self._recorded, distances, strict=True) if d == min(distances)]
        return max(int(one.memory * max(1.0, members / max(1, one.members))) for one in near)


def _leaves(order: Order) -> Leaves:
    return leaves_of(order.job, json.loads(order.spec)["spec"], len(order.seeds))
