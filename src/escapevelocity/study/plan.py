"""The plan of a study: its runs, what is done of each, and what the rest will cost."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from escapevelocity.runs import spec_from_json
from escapevelocity.study.grid import Label

State = Literal["missing", "running", "interrupted", "failed", "finished", "damaged"]


@dataclasses.dataclass(frozen=True)
class Order:
    """One run to be done: all that a worker on another machine needs to know."""

    name: str
    """Its folder in the store."""
    job: str
    """Its kind; see `kinds.kind`."""
    spec: str
    """Canonical JSON of its spec."""
    labels: Mapping[str, Label]
    """What it is called on each axis of the study."""
    seeds: tuple[int, ...]
    """Its population."""
    steps: int
    """Environment steps of the whole run, per seed."""
    imports: tuple[str, ...] = ()
    """Modules to import first."""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {"seeds": list(self.seeds), "imports": list(self.imports)}
        return {**fields, **lists, "labels": dict(self.labels)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Order":
        """Read what `to_json` gave.

        Raises:
            UserError: an unknown or missing key, or a value of another type.
        """
        return spec_from_json(Order, document)


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a plan."""

    order: Order
    """What is to be run."""
    state: State
    """How it stands in the store."""
    steps_done: int
    """Environment steps of its committed segments, per seed."""
    wall_time: float
    """Seconds that it has run so far."""
    seconds_left: float | None
    """Expected seconds of running until it is finished; None: nothing comparable was recorded."""
    why: str
    """One line: why it was interrupted, failed, or cannot be read."""
