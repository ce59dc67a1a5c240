"""Figures of runs, as the paper draws them: mean and min–max over seeds against environment steps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from escapevelocity.errors import UserError
from escapevelocity.report._curves import ALPHA, FROZEN, Curve, curve, require_numeric, require_records
from escapevelocity.report._futures import find_parent
from escapevelocity.report._panels import Panel, Series, column_panel, panels_of
from escapevelocity.report._shown import find_setting, layer_width, start_label, task_name
from escapevelocity.runs import Run, open_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTE = "Ranks, norm, dead neurons, entropy and variance before the update; dashed: 1 ± ε. "
FORMATS = ("png", "pdf", "svg")
RunLike: TypeAlias = Run | str | os.PathLike[str]


def plot_run(
    run: RunLike | Sequence[RunLike],
    out_dir: str | os.PathLike[str],
    fmt: Sequence[str] = ("png", "pdf"),
    name: str = "health",
    marks: bool = True,
) -> list[Path]:
    """Draw the paper-style figure of one or several runs.

    Of PPO: return, feature ranks of actor and critic (PCA), pre-activation norm, dead neurons, the ratios outside
    1 ± ε, entropy and policy variance (Moalla et al. 2024, Figs. 1–3). Smoothed as there: thinned to 0.1 % of
    the run, then an exponential moving average (α = 0.05 per 0.1 % of the run, not bias-adjusted) on each of
    mean, minimum and maximum over seeds. A panel whose columns were not recorded says "not measured". In the
    figure of a single run that is ill, a thin line marks the onset of each sign of its diagnosis. A branch is
    drawn with its parent: the past that they share once, as the parent's, then both futures, and a dotted line
    where they part. Of adaptive sampling: the six retrieval curves of the gravity well (Dou et al. 2022), and in files
    of their own the sampling distributions over time.

    Args:
        run: a run or its folder, or several, each then in a colour of its own.
        out_dir: where the files go; it is made.
        fmt: kinds of files: png, pdf, svg.
        name: the files' name, without the ending.
        marks: whether onsets are marked.

    Returns:
        The files' paths, in the order of `fmt`.

    Raises:
        UserError: for a folder that is not a run, a run without records, or an unknown kind of file.

    Example:
        >>> plot_run("runs/demo", "runs/demo/plots")  # doctest: +SKIP
        [PosixPath('runs/demo/plots/health.png'), PosixPath('runs/demo/plots/health.pdf')]
    """
    runs = _open(run)
    jobs = list(dict.fromkeys(one.job for one in runs))
    if len(jobs) > 1:
        raise UserError(f"runs of different kinds ({', '.join(jobs)}) do not fit one figure; plot them apart")
    paths = [Path(out_dir) / f"{name}.{kind}" for kind in fmt]
    drawn = _write(runs, panels_of(jobs[0]), paths, "" if jobs[0] == "asr" else _NOTE, marks)
    if jobs[0] == "asr":
        from escapevelocity.report.asr import plot_distribution

        drawn += plot_distribution(runs, out_dir, fmt)
    return drawn


def plot_columns(
    run: RunLike | Sequence[RunLike], names: Sequence[str], path: str | os.PathLike[str]
) -> Path:
    """Draw any columns of the records of one or several runs, a panel each, smoothed as in `plot_run`.

    Args:
        run: a run or its folder, or several.
        names: columns, such as "trust/kl" or "health/critic/srank" (docs/metrics.md has them all).
        path: the file; its ending says the kind: .png, .pdf or .svg.

    Returns:
        The path.

    Raises:
        UserError: for an unknown column (the nearest are named) or ending, or as in `plot_run`.
    """
    if not names:
        raise UserError("columns = (): must be one or more columns, such as trust/kl perf/return_mean")
    runs = _open(run)
    for one in runs:
        records = require_records(one)
        for column in names:
            require_numeric(records, column)
    return _write(runs, [column_panel(column) for column in names], [Path(path)], "")[0]


def default_folder(run: RunLike | Sequence[RunLike]) -> Path:
    """Give the folder for figures where the user names none: `plots` in the first run's folder.

    Raises:
        UserError: when there is no run, or it is none.
    """
    return _open(run)[0].path / "plots"


def _write(
    run: RunLike | Sequence[RunLike],
    panels: Sequence[Panel],
    paths: Sequence[Path],
    note: str,
    marks: bool = False,
) -> list[Path]:
    from escapevelocity.report import _figure
    from escapevelocity.runs.atomic import make_folder, write_bytes

    for path in paths:
        kind = path.suffix.removeprefix(".")
        if kind not in FORMATS:
            raise UserError(f"format = {kind!r}: must be one of {', '.join(FORMATS)}")
    with _figure.paper_style():
        figure = compose(run, panels, note, marks)
        for path in paths:
            make_folder(path.parent)
            write_bytes(path, _figure.encode(figure, path.suffix.removeprefix(".")))
    return list(paths)


def compose(
    run: RunLike | Sequence[RunLike], panels: Sequence[Panel], note: str = "", marks: bool = False
) -> Figure:
    """Draw the panels without writing a file.

    Args:
        run: a run or its folder, or several.
        panels: what to draw.
        note: a sentence for the caption.
        marks: whether the onsets of a single run's diagnosis are marked.

    Raises:
        UserError: for a folder that is not a run, or a run without records.
    """
    from escapevelocity.report import _figure
    from escapevelocity.report._marks import onset_marks
    from escapevelocity.report.diagnosis import diagnose_run

    runs, lost = with_parents(_open(run))
    labels = run_labels(runs)
    series = [
        _series(one, panels, label, _drawn_parent(one, runs)) for one, label in zip(runs, labels, strict=True)
    ]
    ended = any(curve.ends for one in series for curve in one.curves.values())
    # Lines of several runs in one panel could not be told apart.
    diagnosis = diagnose_run(runs[0]) if marks and len(runs) == 1 else None
    found = onset_marks(diagnosis) if diagnosis else []
    if diagnosis and found:
        note += f"Vertical lines: onsets of the signs of {diagnosis.verdict} (ev diagnose). "
    note += _lineage_note(runs, labels) + "".join(f"{line[:1].upper()}{line[1:]}. " for line in lost)
    steps = "training steps" if runs[0].job == "asr" else "environment steps"
    return _figure.draw(panels, series, _caption(runs, note, ended), found, steps)


def _open(run: RunLike | Sequence[RunLike]) -> list[Run]:
    several = [run] if isinstance(run, Run | str | os.PathLike) else list(run)
    if not several:
        raise UserError("run = (): must be one or more runs' folders")
    return [one if isinstance(one, Run) else open_run(one) for one in several]


def with_parents(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs, each branch behind its parent where nobody asked for that; and a line for each parent that is gone."""
    found: list[Run] = []
    lost: list[str] = []
    asked = {run.path.resolve() for run in runs}
    for run in runs:
        parent, gone = find_parent(run)
        lost += [gone] if gone else []
        if parent is not None and parent.path.resolve() not in asked:
            asked.add(parent.path.resolve())
            found.append(parent)
        found.append(run)
    return found, lost


def _drawn_parent(run: Run, runs: Sequence[Run]) -> Run | None:
    """The run among `runs` that `run` branched from."""
    parent, _ = find_parent(run)
    there = [one for one in runs if parent is not None and one.path.resolve() == parent.path.resolve()]
    return there[0] if there else None


def _lineage_note(runs: Sequence[Run], labels: Sequence[str]) -> str:
    """Say which run leaves which, and where."""
    notes = []
    for run, label in zip(runs, labels, strict=True):
        parent = _drawn_parent(run, runs)
        if parent is not None and run.parent is not None:
            notes.append(f"{label} leaves {labels[list(runs).index(parent)]} at step {run.parent.step:,}")
    return f"Dotted: {'; '.join(notes)}. " if notes else ""


def _series(run: Run, panels: Sequence[Panel], label: str, parent: Run | None) -> Series:
    records = require_records(run)
    curves: dict[str, Curve] = {
        column: curve(run, records, column) for panel in panels for column in panel.columns
    }
    leaves = float(run.parent.step) if run.parent is not None and parent is not None else None
    if leaves is not None:
        curves = {column: found.after(leaves) for column, found in curves.items()}
    furthest = max(records["env_steps"].to_pylist())
    # A run that is still going on, or was cut short, is drawn as far as it came.
    return Series(
        label,
        curves,
        float(furthest),
        find_setting(run.spec, "objective", "clip_epsilon"),
        layer_width(run.spec),
        leaves,
    )


def run_labels(runs: Sequence[Run]) -> list[str]:
    """Name each run by its folder, or by its whole path where two folders share a name; runs of adaptive sampling by
    their starts, where that tells them apart.
    """
    starts = [start_label(run) for run in runs]
    if len(runs) > 1 and all(starts) and len(set(starts)) == len(runs):
        return starts
    names = [run.path.resolve().name for run in runs]
    return [name if names.count(name) == 1 else str(run.path) for name, run in zip(names, runs, strict=True)]


def _caption(runs: Sequence[Run], note: str, ended: bool) -> str:
    tasks = list(dict.fromkeys(task_name(run.spec, run.job) for run in runs))
    counts = sorted({len(find_setting(run.spec, "seeds") or (0,)) for run in runs})
    seeds = "1 seed" if counts == [1] else f"{' or '.join(map(str, counts))} seeds"
    shown = "mean (line) and min–max (band) over seeds" if counts != [1] else "one line per run"
    frozen = f"{FROZEN} " if ended else ""
    each = " on each of mean, min and max over seeds" if counts != [1] else ""
    return (
        f"{', '.join(tasks)}, {seeds}: {shown}. {note}{frozen}Thinned to 0.1\u00a0% of the run, then an"
        f" exponential moving average (α = {ALPHA} per 0.1\u00a0%, not bias-adjusted){each}."
    )
