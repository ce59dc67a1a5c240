"""What a person sees while a study trains: a table that is redrawn on a terminal, lines now and then anywhere else."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from escapevelocity.report._shown import UNDEFINED, write_number, write_time
from escapevelocity.study.executors import Event
from escapevelocity.study.plan import Planned
from escapevelocity.study.store import Store
from escapevelocity.study.tally import Running, StudyStanding, Tally
from escapevelocity.study.work import Outcome

REFRESH_PER_SECOND = 0.5  # Runs write their progress every two seconds.
EVERY_SECONDS = 300.0
"""Time between two lines about the whole study, where the output is no terminal."""
_STYLES = {"finished": "green", "failed": "bold red", "retried": "yellow", "message": "yellow"}
_STATES = ("finished", "training", "waiting", "claimed", "interrupted", "failed")


class LiveScreen:
    """A table on a terminal: how far the study is, when it may end, and the runs that train.

    Args:
        tally: the study's standing.
        console: where to draw.
    """

    def __init__(self, tally: Tally, console: Console) -> None:
        self._tally, self._console = tally, console
        self._live = Live(
            console=console, get_renderable=self.render, refresh_per_second=REFRESH_PER_SECOND, transient=True
        )

    def __enter__(self) -> LiveScreen:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def tell(self, event: Event) -> None:
        """Print what ended above the table; what began is in the table."""
        self._tally.hear(event)
        if event.kind != "started":
            style = _STYLES.get(event.kind, "")
            self._console.print(escape(event_line(event, self._tally)), style=style, highlight=False)

    def render(self) -> RenderableType:
        """Build what is on the screen now."""
        standing = self._tally.standing()
        bar = ProgressBar(total=max(1, standing.steps_total), completed=standing.steps)
        return Group(Text(standing_line(standing), "bold"), bar, _table(standing.running))


class PlainScreen:
    """Lines for a log: each event, and every five minutes how the study stands.

    Args:
        tally: the study's standing.
        every: seconds between two lines about the study.
    """

    def __init__(self, tally: Tally, every: float = EVERY_SECONDS) -> None:
        self._tally, self._every = tally, every
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, name="study lines", daemon=True)

    def __enter__(self) -> PlainScreen:
        self._clock.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._clock.join()

    def tell(self, event: Event) -> None:
        """Print the event."""
        self._tally.hear(event)
        _print(event_line(event, self._tally))

    def _tick(self) -> None:
        while not self._over.wait(self._every):
            _print(standing_line(self._tally.standing()))


def study_screen(planned: Sequence[Planned], store: Store) -> LiveScreen | PlainScreen:
    """Choose what shows a study: a live table on a terminal, plain lines anywhere else."""
    console, tally = Console(), Tally(planned, store)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveScreen(tally, console)
    return PlainScreen(tally)


def event_line(event: Event, tally: Tally) -> str:
    """Write an event, such as "finished Hopper-v4-0123456789 (epochs 10): …"."""
    if not event.name:
        return event.text
    labels = tally.order(event.name).labels
    named = f" ({', '.join(f'{axis} {label}' for axis, label in labels.items())})" if labels else ""
    return f"{event.kind} {event.name}{named}" + (f": {event.text}" if event.text else "")


def standing_line(standing: StudyStanding) -> str:
    """Write how a study stands: runs by state, share of its steps, speed, and when it may end."""
    states = ", ".join(f"{standing.states[state]} {state}" for state in _STATES if standing.states[state])
    share = standing.steps / max(1, standing.steps_total)
    speed = write_number(standing.steps_per_second or math.nan)
    return f"{standing.runs} runs: {states} · {share:.0%} · {speed} steps/s · {_end(standing.seconds_left)}"


def summary_lines(
    outcomes: Sequence[Outcome], finished_before: int, store: Store, kept: int = 0
) -> list[str]:
    """Say how a study ended: runs by state, the reason of each that did not finish, and what to do next.

    Args:
        outcomes: what the executor returned.
        finished_before: runs that had been finished before it began.
        store: where the runs are.
        kept: how many of those finished before are in a kept history, not in the store.
    """
    by_state = {state: [one for one in outcomes if one.state == state] for state in _STATES}
    done = len(by_state["finished"]) + finished_before
    lines = [f"{one.state} {one.name}: {one.why}" for one in by_state["failed"]]
    counts = [f"{done} of {len(outcomes) + finished_before} runs finished"]
    counts[0] += f" ({kept} of them kept in the history)" if kept else ""
    counts += [f"{len(by_state[s])} {s}" for s in ("failed", "interrupted", "claimed") if by_state[s]]
    counts += [f"{len(by_state['waiting'])} not begun"] if by_state["waiting"] else []
    lines.append(", ".join(counts) + f" in {store.url}")
    if by_state["claimed"]:
        lines.append(
            "claimed: another process was training them when this one had nothing else left to do; the study is not "
            "finished before they are"
        )
    if by_state["interrupted"] or by_state["failed"] or by_state["waiting"]:
        lines.append("the same command goes on from here: each run from its last checkpoint")
    return lines


def _end(seconds: float) -> str:
    if math.isnan(seconds):
        return "end not known yet"
    at = time.localtime(time.time() + seconds)
    return f"{write_time(seconds)} left, until {time.strftime('%H:%M' if seconds < 72_000 else '%d %b %H:%M', at)}"


def _table(running: Sequence[Running]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    axes = list(running[0].order.labels) if running else []
    for header in ("run", *axes):
        table.add_column(header, no_wrap=True)
    for header in ("done", "steps/s", "left"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("alarms")
    for one in running:
        labels = [str(one.order.labels.get(axis, "")) for axis in axes]
        progress = one.progress
        if progress is None:
            table.add_row(Text(one.order.name), *map(Text, labels), UNDEFINED, UNDEFINED, UNDEFINED, "")
            continue
        left = progress.seconds_left
        table.add_row(
            Text(one.order.name),
            *map(Text, labels),
            f"{one.share:.0%}",
            write_number(progress.steps_per_second * progress.members or math.nan),
            write_time(math.nan if left is None else left),
            Text(str(len(progress.alarms)) if progress.alarms else "", "bold red"),
        )
    return table


def _print(text: str) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    # A log in ASCII must not end the study over a dash.
    print(text.encode(encoding, "replace").decode(encoding), flush=True)
