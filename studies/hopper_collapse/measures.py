"""What a seed's records say: a number at the start, at the best and at the end of training, per measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from escapevelocity.study.ended import deaths, has_ended
from escapevelocity.study.history import Curves, History, HistoryRun

WINDOW = 0.05
"""Share of training that a number is averaged over: the paper's last 5 % (Moalla et al. 2024, Figure 6)."""

Cell = tuple[str, int, str]
"""Activation, epochs, remedy: a setting of the grid."""


class Measure(NamedTuple):
    """One number per seed."""

    title: str
    """Heading of its column, with unit."""
    digits: int
    """Digits behind the point."""
    of: Callable[[History, HistoryRun], np.ndarray]
    """Gives (seeds,)."""


def window(curves: Curves, total: float | np.ndarray, low: float, high: float) -> np.ndarray:
    """Mean of each seed over a share of training.

    Args:
        curves: of one column.
        total: steps of the whole run, or (seeds,) of each seed's life.
        low: where the window begins, a share of training.
        high: where it ends.

    Returns:
        (seeds,), NaN where a seed has no value there.
    """
    total = np.broadcast_to(total, len(curves.values))[:, None]
    inside = (curves.steps > low * total) & (curves.steps <= high * total) & np.isfinite(curves.values)
    count = np.sum(inside, axis=1)
    sums = np.sum(np.where(inside, curves.values, 0.0), axis=1)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def lives(history: History, run: HistoryRun) -> np.ndarray:
    """(seeds,) steps that each seed was trained for: the whole run, or to its death of numbers that are not finite."""
    died = deaths(history, run)
    return np.where(np.isnan(died), run.steps_total, died)


def at_end(column: str) -> Callable[[History, HistoryRun], np.ndarray]:
    """The mean of a column over the last 5 % of training, for a seed that has died of its own life."""
    return lambda history, run: window(history.values(run, column), lives(history, run), 1 - WINDOW, 1.0)


def at_start(column: str) -> Callable[[History, HistoryRun], np.ndarray]:
    """The mean of a column over the first 1 % of training."""
    return lambda history, run: window(history.values(run, column), run.steps_total, 0.0, 0.01)


def kept(column: str) -> Callable[[History, HistoryRun], np.ndarray]:
    """The mean of a column over the last 5 % as a share of its best among the twenty windows of 5 %; see `at_end`."""

    def share(history: History, run: HistoryRun) -> np.ndarray:
        curves = history.values(run, column)
        starts = np.arange(0.0, 1.0, WINDOW)
        windows = [window(curves, lives(history, run), low, low + WINDOW) for low in starts]
        return windows[-1] / np.fmax.reduce(windows)

    return share


def whole_return(history: History, run: HistoryRun) -> np.ndarray:
    """The mean return over all of training: the area under the curve, per step."""
    return window(history.values(run, "perf/return_mean"), run.steps_total, 0.0, 1.0)


def peak(column: str) -> Callable[[History, HistoryRun], np.ndarray]:
    """The highest mean of a column over any window of 1 % of training."""
    return lambda history, run: np.fmax.reduce(_percents(history.values(run, column), run.steps_total))


def trough(column: str) -> Callable[[History, HistoryRun], np.ndarray]:
    """The lowest mean of a column over any window of 1 % of training."""
    return lambda history, run: np.fmin.reduce(_percents(history.values(run, column), run.steps_total))


def _percents(curves: Curves, total: float) -> list[np.ndarray]:
    return [window(curves, total, i / 100, (i + 1) / 100) for i in range(100)]


RANK = "health/actor/feature_rank_pca"
NORM = "health/actor/preactivation_norm"

MEASURES: Mapping[str, Measure] = {
    "return": Measure("return, last 5 %", 0, at_end("perf/return_mean")),
    "kept": Measure("share of its best", 2, kept("perf/return_mean")),
    "whole": Measure("return, whole run", 0, whole_return),
    "rank": Measure("actor rank, last 5 %", 1, at_end(RANK + "_after")),
    "rank_kept": Measure("share of its best", 2, kept(RANK + "_after")),
    "rank_low": Measure("lowest actor rank, mean of 1 %", 1, trough(RANK + "_after")),
    "critic_rank": Measure("critic rank", 1, at_end("health/critic/feature_rank_pca_after")),
    "dead": Measure("dead units of 64", 1, at_end("health/actor/dead_neurons")),
    "norm_start": Measure("norm, first 1 %", 1, at_start(NORM)),
    "norm": Measure("norm, last 5 %", 1, at_end(NORM)),
    "variance": Measure("policy variance", 1, at_end("policy/variance")),
    "entropy": Measure("entropy, nats", 1, at_end("policy/entropy")),
    "kl": Measure("KL of a batch", 2, at_end("trust/kl")),
    "low": Measure("mean ratio below 1 − ε", 3, at_end("trust/ratio_below_mean")),
    "died": Measure("died", 0, lambda history, run: np.isfinite(deaths(history, run)).astype(float)),
    "lowest_low": Measure("its lowest 1 %", 3, trough("trust/ratio_below_mean")),
}


def measured(history: History) -> dict[Cell, dict[str, dict[int, float]]]:
    """Every measure of every seed of every run that has ended: setting → measure → seed → number."""
    found = {}
    for run in history.runs:
        if not has_ended(history, run):
            continue
        cell = (str(run.settings["activation"]), int(run.settings["epochs"]), remedy_of(run))
        found[cell] = {
            name: dict(zip(run.seeds, measure.of(history, run).tolist(), strict=True))
            for name, measure in MEASURES.items()
        }
    return dict(sorted(found.items(), key=_order))


def remedy_of(run: HistoryRun) -> str:
    """The remedy as the paper names it; those that are settings are read off the settings."""
    settings = run.settings
    if settings["remedy"] == "pfo":
        return "PFO (all)" if settings.get("pfo.layers") == "all" else "PFO (last)"
    if settings["trunk"] == "shared":
        return "shared trunk"
    if settings["adam_beta2"] != 0.999:
        return f"Adam β₂ = {settings['adam_beta2']}"
    return {"adam-reset": "Adam reset"}.get(settings["remedy"], str(settings["remedy"]))


def _order(item: tuple[Cell, object]) -> tuple[str, bool, str, int]:
    (activation, epochs, remedy), _ = item
    return (activation, remedy != "none", remedy, epochs)
