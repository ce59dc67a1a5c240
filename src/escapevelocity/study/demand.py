"""How much memory a run will need: what the run most like it needed."""

from __future__ import annotations

import contextlib
import json

from escapevelocity.errors import UserError
from escapevelocity.runs import read_spec
from escapevelocity.study.cost import Leaves, leaves_of
from escapevelocity.study.plan import Order
from escapevelocity.study.progress import read_progress
from escapevelocity.study.store import Store

DEFAULT_MEMORY = 1 << 30
"""Bytes that a run is taken to need while nothing is recorded: five seeds of Hopper-v4 peaked at 798 to 908 MiB
(benchmarks/README.md, speed and memory)."""


class Demand:
    """Expects of each order the peak memory of the recorded runs whose settings differ least from its own."""

    def __init__(self) -> None:
        self._recorded: dict[Leaves, tuple[int, int]] = {}  # Seeds, and the most bytes that they needed.
        self._expected: dict[Leaves, int] = {}
        self._leaves: dict[str, Leaves] = {}

    @classmethod
    def of(cls, store: Store) -> Demand:
        """Begin with the runs of a store."""
        demand = cls()
        for name, progress in read_progress(store).items():
            with contextlib.suppress(UserError):  # A damaged run is no example.
                document = read_spec(store.run_path(name))
                leaves = leaves_of(document["job"], document["spec"], progress.members)
                demand._note(leaves, progress.members, progress.memory)
        return demand

    def learn(self, order: Order, memory: int) -> None:
        """Take in what an order needed, in bytes; 0 says nothing."""
        self._note(self._leaves_of(order), len(order.seeds), memory)

    def expect(self, order: Order) -> int:
        """The peak memory to expect, in bytes.

        Of several runs as like it, the one that needed most. A run of fewer seeds counts as often as the order's go
        into it, which is too much rather than too little: programs and libraries are there once.
        """
        if not self._recorded:
            return DEFAULT_MEMORY
        own = self._leaves_of(order)
        if own not in self._expected:
            least = min(len(own ^ other) for other in self._recorded)
            near = [found for other, found in self._recorded.items() if len(own ^ other) == least]
            times = len(order.seeds)
            self._expected[own] = max(int(memory * max(1.0, times / members)) for members, memory in near)
        return self._expected[own]

    def _note(self, leaves: Leaves, members: int, memory: int) -> None:
        _, before = self._recorded.get(leaves, (members, 0))
        if memory > before:
            self._recorded[leaves] = (max(1, members), memory)
            self._expected.clear()

    def _leaves_of(self, order: Order) -> Leaves:
        if order.name not in self._leaves:
            spec = json.loads(order.spec)["spec"]
            self._leaves[order.name] = leaves_of(order.job, spec, len(order.seeds))
        return self._leaves[order.name]
