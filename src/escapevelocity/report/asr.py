"""What the controller did with the sampling distribution, as a heat map of distance over training."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from escapevelocity.errors import UserError
from escapevelocity.report._curves import require_records
from escapevelocity.report._shown import find_setting, start_label, task_name
from escapevelocity.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = "asr/distribution"
_LEAST = 1e-4
"""Shares below are drawn as this one: of the 3,360 negatives of a period hardly one is drawn from such a bin."""
_POINTS = 400  # More columns than a panel has pixels for would only make the PDF large.


class Heat(NamedTuple):
    """A run's sampling distribution over training, the mean over its seeds."""

    steps: Float[np.ndarray, " edges"]
    """Training steps between which a column was used."""
    distances: Float[np.ndarray, " edges"]
    """Edges of the bins."""
    shares: Float[np.ndarray, "bins periods"]
    """Share of the mass."""


def plot_distribution(
    runs: Sequence[Run], out_dir: str | os.PathLike[str], fmt: Sequence[str] = ("png", "pdf")
) -> list[Path]:
    """Draw the sampling distributions of runs over training, a panel each.

    Args:
        runs: runs of adaptive sampling.
        out_dir: where `distribution.png` and so on go; it is made.
        fmt: kinds of files: png, pdf, svg.

    Returns:
        The files' paths; none where no run has a distribution, since its sampler is fixed.
    """
    from escapevelocity.report import _figure
    from escapevelocity.runs.atomic import make_folder, write_bytes

    found = [(run, heat) for run in runs if (heat := heat_of(run)) is not None]
    if not found:
        return []
    paths = [Path(out_dir) / f"distribution.{kind}" for kind in fmt]
    make_folder(Path(out_dir))
    with _figure.paper_style():
        figure = _draw(found)
        for path, kind in zip(paths, fmt, strict=True):
            write_bytes(path, _figure.encode(figure, kind))
    return paths


def heat_of(run: Run) -> Heat | None:
    """Read a run's sampling distributions; None where its sampler has none.

    Those of a branch may begin behind the past that it shares, or end with it, where the sampler was another.
    """
    records = require_records(run)
    if COLUMN not in records.column_names or records[COLUMN].null_count == records.num_rows:
        return None
    has_one = records[COLUMN].is_valid().to_numpy()
    every_step, before = records["env_steps"].to_numpy(), 0.0
    if not has_one.all():
        earlier = every_step[every_step < every_step[has_one].min()]
        before = float(earlier.max()) if earlier.size else 0.0
        records = records.filter(pa.array(has_one))
    low, high = (find_setting(run.spec, "sampler", name) for name in ("low", "high"))
    batches = np.unique(records["batch"].to_numpy())
    columns, steps = [], [before]
    for batch in batches[:: max(1, len(batches) // _POINTS)]:
        rows = records.filter(pa.array(records["batch"].to_numpy() == batch))
        shares = np.array(rows[COLUMN].to_pylist(), np.float64)
        columns.append(shares.mean(axis=0))
        steps.append(float(rows["env_steps"][0].as_py()))
    steps[-1] = float(max(records["env_steps"].to_pylist()))
    return Heat(np.array(steps), np.linspace(low, high, len(columns[0]) + 1), np.stack(columns, axis=1))


def _draw(found: Sequence[tuple[Run, Heat]]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import EngFormatter, MaxNLocator

    from escapevelocity.report._figure import write_caption

    if len(found) > 12:
        raise UserError(f"runs = {len(found)}: must be at most 12, a panel each")
    across = min(3, len(found))
    down = -(-len(found) // across)
    width = max(4.6, 3.1 * across)
    text = textwrap.fill(_caption(found), int(width * 16), break_on_hyphens=False)
    below = 0.13 * (text.count("\n") + 1) + 0.12
    height = 2.1 * down + 0.3 + below
    layout = ConstrainedLayoutEngine(rect=(0, below / height, 1, 1 - below / height))
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, squeeze=False)
    norm = LogNorm(_LEAST, 1.0)
    image = None
    for panel, (run, heat) in zip(axes.flat, found, strict=False):
        shown = np.clip(heat.shares, _LEAST, None)
        image = panel.pcolormesh(
            heat.steps, heat.distances, shown, norm=norm, cmap="viridis", rasterized=True
        )
        panel.set_title(start_label(run), parse_math=False)
        panel.grid(False)
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 5, 10)))
    for panel in axes.flat[len(found) :]:
        panel.set_axis_off()
    for panel in axes[:, 0]:
        panel.set_ylabel("distance to the anchor")
    for panel in axes.flat[max(0, len(found) - across) : len(found)]:
        panel.set_xlabel("training steps")
    if image is not None:
        figure.colorbar(image, ax=axes, label="share of the mass", extend="min")
    write_caption(figure, text)
    return figure


def _caption(found: Sequence[tuple[Run, Heat]]) -> str:
    tasks = ", ".join(dict.fromkeys(task_name(run.spec, run.job) for run, _ in found))
    counts = {len(find_setting(run.spec, "seeds") or (0,)) for run, _ in found}
    over = "" if counts == {1} else ", mean over seeds"
    return (
        f"{tasks}: the distribution that negatives are drawn by{over}: mass of each bin of the distance between "
        f"anchor and candidate. Shares below {_LEAST:g} have the darkest colour."
    )
