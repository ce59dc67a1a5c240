"""An `Overview` on a terminal of any width, as plain lines, and followed while the study trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from io import TextIOBase
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from escapevelocity.report._shown import UNDEFINED, shown, write_number, write_time
from escapevelocity.study.plan_view import STATE_STYLES
from escapevelocity.study.watch import STATES, Ended, Overview, Running

WIDE = 110
"""Columns of a terminal from which on memory and machine are shown too."""
_LAST = 3  # Finished runs that are shown.
_STOPPED = 5  # Stopped ones, and alarms.
_REST = 18  # Lines of a screen that are not the table of running runs.


class StateBar:
    """One line as wide as the terminal, in which each state has its share."""

    def __init__(self, overview: Overview) -> None:
        self._counts, self._total = _all_counts(overview), overview.total + overview.kept

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Draw it."""
        text, done, drawn = Text(no_wrap=True), 0, 0
        for state, count in self._counts.items():
            done += count
            end = round(options.max_width * done / max(1, self._total))
            text.append(("─" if state == "missing" else "━") * (end - drawn), STATE_STYLES[state])
            drawn = end
        yield text


def view(overview: Overview, width: int = 80, height: int = 40) -> RenderableType:
    """Build what is on the screen.

    Args:
        overview: how the study stands.
        width: columns of the terminal.
        height: its lines; of many running runs only those are shown that fit.
    """
    counts = Text("  ").join(
        Text(f"{count} {state}", STATE_STYLES[state])
        for state, count in _all_counts(overview).items()
        if count
    )
    heading = Text.assemble((overview.title, "bold"), "  ", counts)
    parts: list[RenderableType] = [heading, StateBar(overview), Text(pace_line(overview))]
    if overview.out_of_reach:
        parts.append(Text(overview.out_of_reach, "red"))
    if overview.running:
        parts += [Text(), _running_table(overview.running[: max(3, height - _REST)], width >= WIDE)]
        if (more := len(overview.running) - max(3, height - _REST)) > 0:
            parts.append(Text(f"… and {more} more that are running", "dim"))
    alarms = [(run.label, line) for run in overview.running for line in (run.alarms or ())[-1:]]
    parts += _section("early warning", [_line(*alarm, "yellow") for alarm in alarms], _STOPPED)
    stopped = [
        _line(run.label, f"{run.state}: {run.why}", STATE_STYLES[run.state]) for run in overview.stopped
    ]
    parts += _section("stopped", stopped, _STOPPED)
    finished = [_line(run.label, _ended(run, overview.now), "dim") for run in overview.finished[:_LAST]]
    parts += _section("last finished", finished, _LAST)
    return Group(*parts)


def plain_lines(overview: Overview) -> list[str]:
    """Write it as lines, for a log or a pipe: all running and stopped runs, the last finished ones."""
    counts = ", ".join(f"{count} {state}" for state, count in _all_counts(overview).items() if count)
    lines = [f"{overview.title}: {counts or 'no runs'}", pace_line(overview)]
    lines += [overview.out_of_reach] if overview.out_of_reach else []
    for run in overview.running:
        cells = [f"{run.share:.0%}", f"{_speed(run)} steps/s", f"{_left(run)} left"]
        cells += [f"{len(run.alarms)} alarms"] if run.alarms else []
        cells += [text for text in (_where(run), _memory(run)) if text != UNDEFINED]
        lines.append(f"running      {run.label}: {', '.join(cells)}")
        lines += [f"  warning    {line}" for line in run.alarms or ()]
    lines += [f"{run.state:<12} {run.label}: {run.why}" for run in overview.stopped]
    lines += [f"finished     {run.label}: {_ended(run, overview.now)}" for run in overview.finished[:_LAST]]
    return lines


def pace_line(overview: Overview) -> str:
    """Say how fast it goes and when it will end."""
    if overview.is_over:
        return "all runs are finished"
    if not overview.running:
        return "nothing is running; `ev study run` goes on with what is left"
    speed = f"{write_number(overview.steps_per_second)} steps/s in all"
    left = overview.seconds_left
    if left is None:
        return f"{speed}; when it ends is not known yet"
    end = datetime.fromtimestamp(overview.now + left).strftime("%a %d %b %H:%M")
    if overview.unknown:
        return f"{speed}; at least {write_time(left)} left, until {end}: {overview.unknown} runs not counted"
    return f"{speed}; about {write_time(left)} left, until {end}"


def follow(
    take: Callable[[], Overview],
    console: Console,
    every: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show how the study stands until it is over, or Ctrl-C.

    Args:
        take: looks.
        console: a terminal.
        every: seconds between two looks.
        sleep: waits.
    """
    with Live(console=console, auto_refresh=False) as live:
        while True:
            overview = take()
            live.update(view(overview, console.width, console.height), refresh=True)
            if overview.is_over:
                return
            try:
                sleep(every)
            except KeyboardInterrupt:
                return


def print_lines(overview: Overview, stream: TextIOBase | None = None) -> None:
    """Print the plain lines, by default to standard output; a stream in ASCII gets `?` for what it cannot show."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    for line in plain_lines(overview):
        line = shown(line)
        print(line.encode(encoding, "replace").decode(encoding), file=cast(IO[str] | None, stream))


def _all_counts(overview: Overview) -> dict[str, int]:
    """Number of runs by state, those that are done elsewhere first."""
    return {"kept": overview.kept, **{state: overview.counts[state] for state in STATES}}


def _running_table(runs: tuple[Running, ...], is_wide: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("running", overflow="fold", ratio=1)
    for header in ("done", "steps/s", "left", "alarms"):
        table.add_column(header, justify="right", no_wrap=True)
    for header in ("where", "memory") if is_wide else ():
        table.add_column(header, justify="right", no_wrap=True)
    for run in runs:
        alarms = UNDEFINED if run.alarms is None else str(len(run.alarms))
        cells: list[Any] = [f"{run.share:.0%}", _speed(run), _left(run)]
        cells.append(Text(alarms, "yellow" if run.alarms else ""))
        table.add_row(Text(run.label), *cells, *([_where(run), _memory(run)] if is_wide else []))
    return table


def _section(title: str, lines: list[Text], most: int) -> list[RenderableType]:
    if not lines:
        return []
    more = [Text(f"… and {len(lines) - most} more", "dim")] if len(lines) > most else []
    return [Text(), Text(title, "dim"), *lines[:most], *more]


def _line(label: str, text: str, style: str) -> Text:
    return Text.assemble(label, "  ", (text, style))


def _ended(run: Ended, now: float) -> str:
    return f"{write_time(run.wall_time)} of running, {write_time(now - run.changed)} ago"


def _speed(run: Running) -> str:
    return write_number(run.steps_per_second) if run.steps_per_second else UNDEFINED


def _left(run: Running) -> str:
    return UNDEFINED if run.seconds_left is None else write_time(run.seconds_left)


def _where(run: Running) -> str:
    return f"{run.host} core {run.core}" if run.core else run.host or UNDEFINED


def _memory(run: Running) -> str:
    return UNDEFINED if run.memory is None else f"{run.memory / 1e9:.1f} GB"
