"""The last lines of a run: how it ended, where it is, what to type next."""

from __future__ import annotations

from shlex import quote

from escapevelocity.report._shown import write_time
from escapevelocity.runs import RunInfo, Status

MAX_FAULTS = 5
COLLAPSED = "collapsed by step"
"""What the reason of a run begins with that `--stop-on collapse` has ended."""


def farewell(info: RunInfo, status: Status) -> list[str]:
    """Say how a run ended and what to try next.

    Args:
        info: what the observer was told at the start.
        status: how it ended.
    """
    why = f" ({status.why})" if status.why else ""
    lines = [
        f"{status.state}{why}: {status.steps_done:,} of {status.steps_total:,} steps per seed "
        f"in {write_time(status.wall_time)}; {info.path}"
    ]
    next_commands = ["diagnose", "plot", "show"]
    # To go on with what has collapsed would compute it once more.
    if status.state == "interrupted" and not status.why.startswith(COLLAPSED):
        next_commands.insert(0, "resume")
    elif status.state == "failed":
        next_commands = ["diagnose", "show", "plot"]
    return [*lines, "next:  " + "   ".join(f"ev {name} {quote(str(info.path))}" for name in next_commands)]


def fault_lines(faults: dict[int, str]) -> list[str]:
    """Give the members' faults, a few at most."""
    texts = [text for _, text in sorted(faults.items())]
    more = [f"… and {len(texts) - MAX_FAULTS} more"] if len(texts) > MAX_FAULTS else []
    return texts[:MAX_FAULTS] + more
