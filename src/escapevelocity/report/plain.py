"""Plain lines: the live table's numbers for a log file, a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from io import TextIOBase
from typing import Any

from escapevelocity.report._farewell import farewell, fault_lines
from escapevelocity.report._progress import Progress
from escapevelocity.report._shown import number, worst_of, write_number, write_time
from escapevelocity.runs import Observer, RunInfo, Status

LINES_PER_RUN = 20
EVERY_SECONDS = 10.0


class PlainLines(Observer):
    """Prints a line after the first batch, then every 5 % of the run or 10 s (the later), and after the last.

    A population shows its median; `(worst 4!)` follows where a member is outside the healthy range, and a
    lone member's value has a `!`.

    Args:
        stream: where to print; by default standard output.
        clock: seconds, monotonic.
    """

    def __init__(self, stream: TextIOBase | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._progress: Progress | None = None
        self._printed_batch = -1
        self._printed_step = 0
        self._printed_time = float("-inf")
        self._told: dict[int, str] = {}

    def on_start(self, info: RunInfo) -> None:
        """Say what is being run."""
        self._progress = progress = Progress(info, self._clock)
        what = "1 seed" if progress.members == 1 else f"{progress.members} seeds, medians"
        self._print(f"{progress.task}: {info.steps_total:,} steps per seed, {what}; in {info.path}")

    def on_row(self, row: Mapping[str, Any]) -> None:
        """Print the batch that is complete, if it is time, and store the row."""
        progress = self._progress
        if progress is None:
            return
        # The first row of the next batch shows that all members' rows of this one have come.
        if row.get("batch", 0) > progress.batch >= 0 and self._is_due(progress):
            self._print_line(progress)
        progress.add(row)
        if progress.faults != self._told:
            new = {seed: text for seed, text in progress.faults.items() if self._told.get(seed) != text}
            # With --on-nonfinite skip a member may fault in every batch: tell the first of each.
            for line in fault_lines({seed: text for seed, text in new.items() if seed not in self._told}):
                self._print("fault: " + line)
            self._told = dict(progress.faults)

    def on_message(self, text: str) -> None:
        """Print the message."""
        self._print(text)

    def on_end(self, status: Status) -> None:
        """Print the last batch, how the run ended and what to try next."""
        progress = self._progress
        if progress is None:
            return
        if progress.batch > self._printed_batch:
            self._print_line(progress)
        for line in farewell(progress.info, status):
            self._print(line)

    def _is_due(self, progress: Progress) -> bool:
        if self._printed_batch < 0:
            return True
        far = (progress.step - self._printed_step) * LINES_PER_RUN >= progress.info.steps_total
        return far and self._clock() - self._printed_time >= EVERY_SECONDS

    def _print_line(self, progress: Progress) -> None:
        self._printed_batch, self._printed_step = progress.batch, progress.step
        self._printed_time = self._clock()
        values = [f"{shown.label} {_value(progress, i)}" for i, shown in enumerate(progress.shown)]
        also = progress.also_outside()
        speed, left = write_number(progress.steps_per_second()), write_time(progress.time_left())
        self._print(
            f"{progress.share():4.0%}  {progress.step:,} steps  {speed} steps/s  {left} left"
            f"  |  {'  '.join(values)}" + (f"  |  also outside! {'; '.join(also)}" if also else "")
        )

    def _print(self, text: str) -> None:
        stream = self._stream or sys.stdout
        encoding = getattr(stream, "encoding", None) or "utf-8"
        # A log in ASCII must not end the run over a dash.
        print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


def _value(progress: Progress, index: int) -> str:
    shown = progress.shown[index]
    cell = progress.median_line().cells[index]
    if progress.members == 1:
        return cell.text + ("!" if cell.marked else "")
    worst = worst_of([number(row.get(shown.column)) for row in progress.latest.values()], shown.worst)
    if progress.is_marked(shown.column, worst):
        return f"{cell.text} (worst {write_number(worst)}!)"
    return cell.text
