"""The live table: a run's members and their health on a terminal, redrawn twice a second by a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from io import TextIOBase
from typing import IO, Any, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from escapevelocity.report._farewell import farewell, fault_lines
from escapevelocity.report._progress import Cell, Line, Progress
from escapevelocity.report._shown import Shown, write_number, write_time
from escapevelocity.report.plain import PlainLines
from escapevelocity.runs import Observer, RunInfo, Status

REFRESH_PER_SECOND = 2
MARK_STYLE = "bold red"


class LiveTable(Observer):
    """Shows a run on a terminal while it trains.

    A header with progress, speed (environment steps of all members together), time and segment; then a row
    per member, or median and worst of more than 12. A value outside its healthy range (docs/metrics.md) is
    bold red with a `!`; a dash is undefined or not measured yet. Returns and lengths are those of the last
    batch in which an episode ended. Recording a row only stores it; a thread of rich's draws the table.

    Args:
        console: where to draw; by default standard output.
        clock: seconds, monotonic.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console()
        self._clock = clock
        self._progress: Progress | None = None
        self._live: Live | None = None

    def on_start(self, info: RunInfo) -> None:
        """Begin to draw."""
        self._progress = Progress(info, self._clock)
        self._live = Live(
            console=self._console, get_renderable=self.render, refresh_per_second=REFRESH_PER_SECOND
        )
        self._live.start()

    def on_row(self, row: Mapping[str, Any]) -> None:
        """Store the row."""
        if self._progress is not None:
            self._progress.add(row)

    def on_message(self, text: str) -> None:
        """Print the message above the table."""
        self._console.print(escape(text), style="yellow", highlight=False)

    def on_end(self, status: Status) -> None:
        """Leave the last table on the screen, and say how the run ended and what to try next."""
        if self._live is None or self._progress is None:
            return
        self._live.stop()
        style = {"finished": "bold green", "failed": "bold red"}.get(status.state, "bold yellow")
        first, *rest = farewell(self._progress.info, status)
        self._console.print(escape(first), style=style, highlight=False, soft_wrap=True)
        for line in rest:
            self._console.print(escape(line), highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """Build what is on the screen now."""
        progress = self._progress
        if progress is None:
            return Text("")
        parts: list[RenderableType] = [_header(progress), _speed(progress)]
        lines = progress.lines()
        parts.append(
            _table(progress.shown, lines)
            if lines
            else Text("the first batch is under way (the programs are being compiled)", "dim")
        )
        also = progress.also_outside()
        if also:
            parts.append(Text("! also outside: " + "; ".join(also), MARK_STYLE))
        parts += [Text("fault: " + text, MARK_STYLE) for text in fault_lines(dict(progress.faults))]
        return Group(*parts)


def _header(progress: Progress) -> RenderableType:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=progress.info.steps_total, completed=progress.step)
    grid.add_row(
        Text(f"{progress.task}  segment {progress.segment()}/{progress.info.segments_total}", "bold"),
        bar,
        f"{progress.share():.0%}",
    )
    return grid


def _speed(progress: Progress) -> Text:
    info = progress.info
    speed = write_number(progress.steps_per_second())
    return Text(
        f"{progress.step:,} of {info.steps_total:,} steps · {speed} steps/s"
        f" · {write_time(progress.elapsed())} elapsed · {write_time(progress.time_left())} left"
    )


def _table(columns: Sequence[Shown], lines: list[Line]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("seed", justify="right", vertical="bottom", no_wrap=True)
    for shown in columns:
        table.add_column(shown.header, justify="right", vertical="bottom", no_wrap=True)
    for line in lines:
        label = f"{line.label} frozen" if line.frozen else line.label
        table.add_row(label, *[styled(cell) for cell in line.cells], style="dim" if line.frozen else "")
    return table


def styled(cell: Cell) -> Text:
    """Write a cell, marked when its value is outside its healthy range."""
    # The blank keeps the digits of marked and unmarked numbers in line.
    return Text(cell.text + "!", MARK_STYLE) if cell.marked else Text(cell.text + " ")


def terminal_observer(stream: TextIOBase | None = None) -> Observer:
    """Choose what shows a run: the live table on a terminal, plain lines anywhere else.

    Args:
        stream: where to print; by default standard output.
    """
    console = Console(file=cast(IO[str] | None, stream))
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(console)
    return PlainLines(stream)
