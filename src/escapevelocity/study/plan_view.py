"""A plan as people read it, a table with totals below, and as JSON."""

import collections
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from escapevelocity.report._shown import UNDEFINED, write_number, write_time
from escapevelocity.study.plan import Planned

STATE_STYLES = {
    "finished": "green",
    "kept": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": "bold red",
    "damaged": "bold red",
    "missing": "dim",
}
"""How a run's state is drawn, in a plan and while it is watched."""
_SECONDS_PER_HOUR = 3600


def plan_page(planned: Sequence[Planned]) -> RenderableType:
    """Make a table of the runs, and the totals below."""
    axes = list(planned[0].order.labels) if planned else []
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for header in ("run", *axes, "seeds", "state"):
        table.add_column(header)
    for header in ("done", "time left"):
        table.add_column(header, justify="right")
    for one in planned:
        labels = [str(one.order.labels[axis]) for axis in axes]
        table.add_row(
            Text(one.order.name),
            *map(Text, labels),
            write_seeds(one.order.seeds),
            Text(one.state, STATE_STYLES[one.state]),
            f"{one.steps_done / one.order.steps:.0%}" if one.order.steps else UNDEFINED,
            "unknown" if one.seconds_left is None else write_time(one.seconds_left),
        )
    reasons = [Text(f"{one.order.name} {one.state}: {one.why}") for one in planned if one.why]
    return Group(table, *reasons, Text(), *(Text(line) for line in total_lines(planned)))


def total_lines(planned: Sequence[Planned]) -> list[str]:
    """Say in words how many runs there are, what is done, and what is left."""
    totals = plan_totals(planned)
    states = ", ".join(f"{count} {state}" for state, count in totals["states"].items())
    done, steps = totals["steps_done"], totals["steps"]
    share = f"{done:,} of {steps:,} steps done ({done / steps:.0%})" if steps else "nothing to do"
    runs = f"{totals['runs']} run{'s' if totals['runs'] != 1 else ''} of {totals['seeds']} seeds"
    return [f"{runs}: {states}", share, _time_line(totals)]


def plan_totals(planned: Sequence[Planned]) -> dict[str, Any]:
    """Add a plan up.

    Returns:
        `runs`; `seeds` (over all runs); `states` with their counts; `steps` and `steps_done` over all seeds;
        `seconds_left` of the runs whose cost is known, added up, and `unknown`, the number of the others.
    """
    known = [one.seconds_left for one in planned if one.seconds_left is not None]
    return {
        "runs": len(planned),
        "seeds": sum(len(one.order.seeds) for one in planned),
        "states": dict(collections.Counter(one.state for one in planned).most_common()),
        "steps": sum(one.order.steps * len(one.order.seeds) for one in planned),
        "steps_done": sum(one.steps_done * len(one.order.seeds) for one in planned),
        "seconds_left": sum(known),
        "unknown": len(planned) - len(known),
    }


def plan_json(planned: Sequence[Planned], study: str, store: str) -> dict[str, Any]:
    """Give a plan as JSON values: all that the page says, unrounded.

    Args:
        planned: the runs.
        study: the study's name.
        store: where its runs are.
    """
    runs = []
    for one in planned:
        order = {name: value for name, value in one.order.to_json().items() if name != "spec"}
        standing = {
            "state": one.state,
            "steps_done": one.steps_done,
            "wall_time": one.wall_time,
            "seconds_left": one.seconds_left,
            "why": one.why,
        }
        runs.append(order | standing)
    return {"study": study, "store": store, "runs": runs, "totals": plan_totals(planned)}


def write_seeds(seeds: Sequence[int]) -> str:
    """Write seeds as on a command line, three and more that follow each other as a range.

    Example:
        >>> write_seeds((25, 7, 64)), write_seeds((1, 2, 3, 4, 9, 10))
        ('25 7 64', '1:4 9 10')
    """
    stretches: list[list[int]] = []
    for seed in seeds:
        if stretches and seed == stretches[-1][-1] + 1:
            stretches[-1].append(seed)
        else:
            stretches.append([seed])
    return " ".join(f"{s[0]}:{s[-1]}" if len(s) > 2 else " ".join(map(str, s)) for s in stretches)


def _time_line(totals: dict[str, Any]) -> str:
    unknown, runs = totals["unknown"], totals["runs"]
    if totals["states"].get("finished", 0) + totals["states"].get("kept", 0) == runs:
        return "nothing is left to train"
    if totals["seconds_left"] == 0 and unknown:
        return "time left: unknown, nothing like these runs was recorded yet; it is once one has reached a checkpoint"
    hours = write_number(totals["seconds_left"] / _SECONDS_PER_HOUR)
    without = f"; {unknown} of {runs} runs not counted, nothing like them was recorded yet" if unknown else ""
    return f"about {hours} core-hours left, at one core per run and the pace recorded in this store{without}"
