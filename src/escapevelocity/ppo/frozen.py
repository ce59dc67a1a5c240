"""Members of a run that a fault has frozen: which, since when, and why."""

from collections.abc import Sequence
from typing import NamedTuple

from escapevelocity.errors import UserError
from escapevelocity.runs import Run, whole_records


class Frozen(NamedTuple):
    """A member whose numbers stopped being finite; a checkpoint holds its last good parameters."""

    seed: int
    """Which member."""
    env_steps: int | None
    """Environment steps at the end of the batch that froze it; None where the records do not say."""
    reason: str
    """What was not finite, with seed and batch; "" where the records do not say."""

    def __str__(self) -> str:
        """One line for a user."""
        when = "a step that its records do not say" if self.env_steps is None else f"step {self.env_steps:,}"
        why = f" ({self.reason})" if self.reason else ""
        return f"seed {self.seed} was frozen at {when}{why}: these are its last good parameters"


def frozen_member(run: Run, seed: int, segments: int) -> Frozen:
    """Say when and why a member was frozen that is no longer active after so many segments.

    Damaged records must not stand in the way of an agent whose checkpoint is whole.
    """
    try:
        table, _ = whole_records(run.path, run.parent, segments)
        columns = {"seed", "fault", "env_steps"} & set(table.column_names)
        rows: Sequence[dict] = table.select(sorted(columns)).to_pylist()
    except UserError:
        rows = ()
    faulty = [row for row in rows if row.get("seed") == seed and row.get("fault")]
    return Frozen(seed, faulty[-1]["env_steps"], faulty[-1]["fault"]) if faulty else Frozen(seed, None, "")
