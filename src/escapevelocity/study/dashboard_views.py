"""What the dashboard's pages are told of runs, as JSON values: the list, the alarms, the studies and their grids."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from escapevelocity.report._shown import shown
from escapevelocity.study.dashboard_judge import RETURN
from escapevelocity.study.dashboard_scan import Entry, Scan
from escapevelocity.study.dashboard_verdicts import Verdicts
from escapevelocity.study.index import Indexed, varying_settings
from escapevelocity.study.watch import STATES, Overview, Running

_AXES = 6  # Settings that a grid's cells are told apart by; runs that differ in more are no study.
_LIFE = 3e9  # seconds
_WIDE = ("seeds", "branch")
_TOLD = re.compile(
    r"step ([\d,]{1,20}) seed (\d{1,12}): (.+?) since step ([\d,]{1,20}): (.*?)(?: \[[^\]]*\])?"
)


def list_json(scan: Scan, verdicts: Verdicts) -> dict[str, Any]:
    """Give the list of runs. Times are moments, so that the list changes only when something has happened."""
    return {"runs": rows_json(scan.entries, scan, verdicts), "waiting": verdicts.waiting}


def rows_json(names: Iterable[str], scan: Scan, verdicts: Verdicts) -> list[dict[str, Any]]:
    """Give the rows of some runs in that list."""
    running, labels = _by_name(scan, lambda overview: overview.running), _labels(scan)
    return [
        _row(
            scan.entries[name], running.get(name), labels.get(name, ""), verdicts.of(scan.entries[name]), scan
        )
        for name in names
    ]


def progress_of(entry: Entry, scan: Scan) -> tuple[Any, ...]:
    """Give what changes while a run trains, between its records; empty for one that does not train."""
    runs = scan.stores[entry.store].running
    return next(
        ((run.share, run.steps_per_second, run.alarms) for run in runs if run.name == entry.indexed.name), ()
    )


def alarms_json(scan: Scan, verdicts: Verdicts) -> dict[str, Any]:
    """Give what the early warning says of every run, those that train now first, and the latest first."""
    alarms, running = [], _by_name(scan, lambda overview: overview.running)
    for entry in scan.entries.values():
        told = {
            "run": entry.name,
            "state": scan.states[entry.name],
            "total": entry.indexed.steps_total,
            "changed": entry.indexed.changed,
        }
        judged, now = verdicts.of(entry) or {}, running.get(entry.name)
        alarms += [{**alarm, **told} for alarm in (*judged.get("alarms", ()), *told_since(now, judged))]
    alarms.sort(key=lambda alarm: (alarm["state"] != "running", -alarm["changed"], -alarm["confirmed"]))
    return {"alarms": alarms, "waiting": verdicts.waiting}


def told_since(running: Running | None, judged: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give the alarms that a run of a study has told of since its last records (`report.warning.EarlyWarning`).

    Example:
        >>> line = "step 1,500 seed 3: dead neurons since step 1,200: 60 of 64 [lead not measured yet]"
        >>> run = Running("a", "a", 0.5, 1.0, None, (line,), "here", "", None)
        >>> [(alarm["sign"], alarm["since"], alarm["text"]) for alarm in told_since(run, {"steps": 1000})]
        [('dead neurons', 1200, '60 of 64')]
    """
    found = []
    for line in (running.alarms or ()) if running is not None else ():
        told = _TOLD.fullmatch(line)
        if told is None:
            continue
        confirmed, seed, sign, since, text = told.groups()
        steps = int(confirmed.replace(",", ""))
        if steps > judged.get("steps", 0):
            found.append(
                {
                    "sign": shown(sign),
                    "seed": int(seed),
                    "since": int(since.replace(",", "")),
                    "confirmed": steps,
                    "ended": None,
                    "text": shown(text),
                    "meaning": "",
                    "lead": None,
                }
            )
    return found


def studies_json(scan: Scan, studies: Iterable[str]) -> dict[str, Any]:
    """Give every folder that holds runs, with how many are in which state.

    Args:
        scan: the runs.
        studies: those of the folders that a study has made.
    """
    made = set(studies)
    stores = [
        {"store": store, "study": store in made, **_overview(overview)}
        for store, overview in scan.stores.items()
    ]
    return {"stores": stores}


def grid_json(scan: Scan, verdicts: Verdicts, store: str) -> dict[str, Any] | None:
    """Give a store's runs by the settings in which they differ: a cell for each combination, also of planned runs.

    Returns:
        None for a folder that holds no run.
    """
    if store not in scan.stores:
        return None
    entries = [entry for entry in scan.entries.values() if entry.store == store]
    runs = [*(entry.indexed for entry in entries), *scan.planned.get(store, ())]
    axes, labels = _axes(runs)
    cells: dict[tuple[str, ...], list[Indexed]] = {}
    for run in runs:
        own = labels.get(run.name, {})
        key = tuple(_write(own[axis]) if axis in own else "" for axis in axes)
        cells.setdefault(key if axes else (shown(run.name),), []).append(run)
    by_name = {entry.indexed.name: entry for entry in entries}
    rows = [
        _cell(labels_of, runs, by_name, scan, verdicts)
        for labels_of, runs in sorted(cells.items(), key=_natural)
    ]
    return {
        "store": store,
        **_overview(scan.stores[store]),
        "axes": [shown(axis) for axis in axes] or ["run"],
        "states": list(STATES),
        "cells": rows,
        "waiting": verdicts.waiting,
    }


def seconds(value: float | None) -> float | None:
    """Round a time to what a person can tell apart; None for what is no number."""
    return round(value, 1) if value is not None and math.isfinite(value) else None


def ends(now: float, left: float | None) -> int | None:
    """Give the moment at which something ends; None where that is not known, or beyond a person's life.

    Example:
        >>> ends(1000.0, 60.4), ends(1000.0, float("inf"))
        (1060, None)
    """
    return round(now + left) if left is not None and abs(left) < _LIFE else None


def _row(
    entry: Entry, running: Running | None, label: str, verdict: Mapping[str, Any] | None, scan: Scan
) -> dict[str, Any]:
    run = entry.indexed
    told = verdict or {}
    alarms = [*told.get("alarms", ()), *told_since(running, told)]
    share = run.steps_done / run.steps_total if run.steps_total else 0.0
    speed = run.steps_per_second if running is None else running.steps_per_second
    left = None if running is None else running.seconds_left
    return {
        "name": entry.name,
        "store": entry.store,
        "task": _task(run),
        "short": shown(run.name),
        "label": label,
        "state": scan.states[entry.name],
        "why": shown(run.why),
        "seeds": len(run.seeds),
        "done": round(min(1.0, share if running is None else running.share), 4),
        "steps": run.steps_total,
        "speed": seconds(speed),
        "ends": ends(scan.stores[entry.store].now, left),
        "changed": round(run.changed),
        "last": told.get("last"),
        "last_name": "" if told.get("last_name", RETURN["ppo"]) == RETURN["ppo"] else told["last_name"],
        "verdict": None if not told or "error" in told else _verdict(told),
        "error": told.get("error", ""),
        "alarms": sum(alarm["ended"] is None for alarm in alarms),
    }


def _verdict(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "word": told["verdict"],
        "tone": told["tone"],
        "seeds": len(told["seeds"]),
        "members": told["members"],
        "confidence": told["confidence"] if told["verdict"] != "not measured" else "",
    }


def _task(run: Indexed) -> str:
    found = run.settings.get("task") or run.settings.get("data") or run.settings.get("job") or ""
    return shown(found)


def _by_name(scan: Scan, part: Any) -> dict[str, Any]:
    """Runs of a part of all overviews by their name seen from the dashboard's folder."""
    names = {(entry.store, entry.indexed.name): entry.name for entry in scan.entries.values()}
    return {names[store, run.name]: run for store, overview in scan.stores.items() for run in part(overview)}


def _overview(overview: Overview) -> dict[str, Any]:
    # What runs that have not begun will take is not known here.
    left = None if overview.counts["missing"] else overview.seconds_left
    return {
        "title": shown(overview.title),
        "counts": {state: count for state, count in overview.counts.items() if count},
        "total": overview.total,
        "speed": seconds(overview.steps_per_second),
        "ends": ends(overview.now, left),
    }


def _axes(runs: Sequence[Indexed]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The settings in which the runs differ and each one's; none where they differ in too many for a grid.

    Fields of a remedy, such as pfo.coef, are left out where the other settings tell the cells apart.
    """
    labels = varying_settings(runs)
    axes = sorted({name for own in labels.values() for name in own if name not in _WIDE})
    cells = _distinct(labels, axes)
    for name in [axis for axis in axes if "." in axis]:
        fewer = [axis for axis in axes if axis != name]
        axes = fewer if _distinct(labels, fewer) == cells else axes
    return (axes, labels) if len(axes) <= _AXES else ([], labels)


def _labels(scan: Scan) -> dict[str, str]:
    """What tells each run from the others of its store, such as "activation=relu remedy=pfo"."""
    found = {}
    for store in scan.stores:
        entries = [entry for entry in scan.entries.values() if entry.store == store]
        axes, own = _axes([entry.indexed for entry in entries])
        for entry in entries:
            mine = own.get(entry.indexed.name, {})
            found[entry.name] = " ".join(
                shown(f"{axis}={_write(mine[axis])}") for axis in axes if axis in mine
            )
    return found


def _distinct(labels: Mapping[str, Mapping[str, Any]], axes: Sequence[str]) -> int:
    return len({tuple(own.get(axis) for axis in axes) for own in labels.values()})


def _cell(
    labels: Sequence[str],
    runs: Sequence[Indexed],
    by_name: Mapping[str, Entry],
    scan: Scan,
    verdicts: Verdicts,
) -> dict[str, Any]:
    entries = [by_name[run.name] for run in runs if run.name in by_name]
    counts = Counter(scan.states[entry.name] for entry in entries)
    counts += Counter({"missing": len(runs) - len(entries)})  # Adding counters leaves out what is nought.
    found = [verdicts.of(entry) for entry in entries]
    judged = [one for one in found if one and "verdict" in one]
    words = Counter((one["verdict"], one["tone"]) for one in judged)
    steps = sum(run.steps_total for run in runs)
    return {
        "labels": list(labels),
        "runs": [entry.name for entry in entries],
        "seeds": sorted({seed for run in runs for seed in run.seeds}),
        "counts": dict(counts),
        "done": round(sum(run.steps_done for run in runs) / steps, 4) if steps else 0.0,
        "verdicts": [{"word": word, "tone": tone, "count": n} for (word, tone), n in words.most_common()],
        "last": _median([one["last"] for one in judged if one["last"] is not None]),
        "alarms": sum(alarm["ended"] is None for one in judged for alarm in one["alarms"]),
    }


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _write(value: Any) -> str:
    if isinstance(value, tuple):
        return shown(" ".join(map(str, value)))
    return shown(value)


def _natural(item: tuple[tuple[str, ...], Any]) -> list[tuple[int, float, str]]:
    """Sort labels as people do: 4 before 20."""
    keys = []
    for label in item[0]:
        try:
            keys.append((0, float(label), ""))
        except ValueError:
            keys.append((1, 0.0, label))
    return keys
