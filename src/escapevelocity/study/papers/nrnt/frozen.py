"""Which seeds of a figure were frozen because their numbers became non-finite, and where, in a sentence."""

from typing import TYPE_CHECKING

import numpy as np

from escapevelocity.study.ended import deaths

if TYPE_CHECKING:
    from escapevelocity.study.history import History, HistoryRun

_TELLING = ("epochs", "clip_epsilon", "remedy", "pfo.layers", "trunk", "adam_beta2")
"""Settings that tell a figure's runs apart; those in which they differ name them."""
_MOST = 6
"""More deaths than these are not listed one by one."""


def frozen_note(history: "History") -> str:
    """How many seeds were frozen, of which runs and at which steps; "" where none was.

    Args:
        history: the runs of a figure.
    """
    told = [name for name in _TELLING if len({str(run.settings.get(name)) for run in history.runs}) > 1]
    found = [
        (run, seed, float(step))
        for run in history.runs
        for seed, step in zip(run.seeds, deaths(history, run), strict=True)
        if np.isfinite(step)
    ]
    if not found:
        return ""
    members = sum(len(run.seeds) for run in history.runs)
    if len(found) > _MOST:
        steps = [step for _, _, step in found]
        where = f"between steps {min(steps):,.0f} and {max(steps):,.0f}"
    else:
        where = "; ".join(f"{_named(run, seed, told)} at step {step:,.0f}" for run, seed, step in found)
    return (
        f"{len(found)} of {members} ended early because their numbers became non-finite ({where}): curves go on "
        "without them, and all else reads them where they ended."
    )


def _named(run: "HistoryRun", seed: int, told: list[str]) -> str:
    parts = [f"{name} {run.settings[name]}" for name in told if name in run.settings]
    return ", ".join([*parts, f"seed {seed}"])
