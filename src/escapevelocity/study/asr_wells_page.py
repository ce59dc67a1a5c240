"""What a grid of starts has shown, as a table in Markdown, and its pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from escapevelocity.metric_learning.starts import parse_start
from escapevelocity.report import _figure
from escapevelocity.report.asr_wells import MeasureGrid, draw_wells, grid_of
from escapevelocity.runs.atomic import make_folder, write_bytes
from escapevelocity.study.asr_wells import CURVE, NARROW, StartWells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TITLES = (
    ("depth", "depth", "", False),
    ("lasted", "duration", "training steps", False),
    ("final_gain", "final gain over narrow", "", True),
)
INTERVALS = "Means over seeds; [Student's 95 % interval], of a depth cut at 0; (range of the seeds)."
"""What the brackets in the table are."""


def wells_table(wells: Sequence[StartWells]) -> str:
    """A row for each start: means over seeds with Student's 95 % intervals; onset and duration with their range.

    An onset is that of the few curves that fell, and a duration is cut off at the end of the run: of neither does an
    interval say where the mean lies.

    Args:
        wells: see `wells_by_start`.
    """
    numbers = (
        "seeds",
        "with a well",
        "depth",
        "onset, steps",
        "duration, steps",
        "never regained",
        "last point",
    )
    header = ("start", *numbers, "its gain over narrow")
    lines = [f"| {' | '.join(header)} |", "|---" + "|---:" * (len(header) - 1) + "|"]
    for one in wells:
        fell = int((one.values["depth"] > 0).sum())
        lost = int((one.values["censored"] > 0).sum())
        cells = [_written(one, name, digits) for name, digits in _COLUMNS]
        depth, onset, lasted, final, gain = cells
        lines.append(
            f"| {one.init} | {len(one.seeds)} | {fell} | {depth} | {onset} | {lasted} | {lost} | {final} | {gain} |"
        )
    return "\n".join(lines)


_COLUMNS = (("depth", 3), ("onset", 0), ("lasted", 0), ("final", 3), ("final_gain", 3))
_RANGED = ("onset", "lasted")


def _written(one: StartWells, name: str, digits: int) -> str:
    if name == "final_gain" and one.init == NARROW:
        return "–"
    found = one.interval(name)
    if found is None:
        return "–"
    if name in _RANGED and np.isfinite(found.low):
        values = one.finite(name)
        return f"{found.estimate:,.{digits}f} ({values.min():,.{digits}f}–{values.max():,.{digits}f})"
    sign = "+" if name == "final_gain" else ""
    if not np.isfinite(found.low):  # One seed has no interval.
        return f"{found.estimate:{sign},.{digits}f}"
    return (
        f"{found.estimate:{sign},.{digits}f} [{found.low:{sign},.{digits}f}, {found.high:{sign},.{digits}f}]"
    )


def draw_wells_of(wells: Sequence[StartWells], folder: Path, data: str, column: str = CURVE) -> list[Path]:
    """Draw the measures over mean and standard deviation of the normal starts into `folder`/wells.png and .pdf.

    Returns:
        The files; none where no start is a normal one.
    """
    if not any(one.init.startswith("normal(") for one in wells):
        return []
    make_folder(folder)
    paths = [folder / f"wells.{kind}" for kind in ("png", "pdf")]
    with _figure.paper_style():
        figure = wells_figure(wells, data, column)
        for path in paths:
            write_bytes(path, _figure.encode(figure, path.suffix.removeprefix(".")))
    return paths


def wells_figure(wells: Sequence[StartWells], data: str, column: str = CURVE) -> "Figure":
    """Draw depth, duration and final gain over mean and standard deviation; call it inside `paper_style`.

    Args:
        wells: with at least one normal start.
        data: the images, for the caption.
        column: the curve that was measured, for the caption.
    """
    starts = {one: parse_start(one.init) for one in wells if one.init.startswith("normal(")}
    means = sorted({float(start.mean) for start in starts.values() if start.mean is not None})
    stds = sorted({float(start.std) for start in starts.values() if start.std is not None})
    grids = []
    for name, title, unit, diverging in _TITLES:
        values = {
            (float(start.mean or 0), float(start.std or 0)): float(found.estimate)
            for one, start in starts.items()
            if (found := one.interval(name)) is not None
        }
        grids.append(MeasureGrid(title, unit, grid_of(means, stds, values), diverging))
    counts = sorted({len(one.seeds) for one in wells})
    caption = (
        f"{data}, {' or '.join(map(str, counts))} seeds: the well of {column} by the normal start of the sampling "
        "distribution, mean over seeds. A drop within the curve's noise is no well (depth 0); a duration "
        "lasts to the end of the run where the old maximum is not regained."
    )
    return draw_wells(means, stds, grids, caption)


def answer(wells: Sequence[StartWells]) -> str:
    """One sentence: how many seeds of how many fell into a well; seeds without a curve do not count."""
    seeds = int(sum(np.isfinite(one.values["depth"]).sum() for one in wells))
    if seeds == 0:
        return "Nothing was measured: no run has two finite points of this curve."
    fell = int(sum((one.values["depth"] > 0).sum() for one in wells))
    deepest = max(wells, key=lambda one: float(np.nanmax(one.values["depth"], initial=0.0)))
    if fell == 0:
        return f"No well: none of {seeds} curves fell below its best by more than its noise."
    return (
        f"{fell} of {seeds} curves fell below their best by more than their noise; the deepest by "
        f"{float(np.nanmax(deepest.values['depth'])):.3f}, from the start {deepest.init}."
    )
