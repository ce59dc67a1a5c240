"""The numbers of the page: tables per setting, what happened to the runs, and differences over shared seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from escapevelocity.study.paired import PairedComparison, paired_comparison
from studies.hopper_collapse.claims import CLAIMS, Measured, count
from studies.hopper_collapse.measures import MEASURES, Cell
from studies.measures import BOOTSTRAP_SEED, iqm_interval, written


def page(found: Measured, missing: Sequence[str]) -> str:
    """All numbers of the page, as Markdown."""
    parts = [
        _state(found, missing),
        "### At the end of training",
        _table(found, ("return", "kept", "rank", "rank_kept", "dead", "norm", "critic_rank")),
        "### Policy and trust region",
        _table(found, ("variance", "entropy", "kl", "low", "lowest_low", "rank_low")),
        "### What happened to the runs, and whether to most of them",
        _outcomes(found),
        "### Remedies less no remedy, same seeds",
        _pairs(found),
        "### More epochs less 10, same seeds",
        _epochs(found),
    ]
    return "\n\n".join(part for part in parts if part)


def _state(found: Measured, missing: Sequence[str]) -> str:
    seeds = sum(len(cell["return"]) for cell in found.values())
    text = f"{len(found)} settings, {seeds} runs of 4,999,168 steps."
    return text + (f" Not finished yet: {'; '.join(missing)}." if missing else "")


def _table(found: Measured, names: Sequence[str]) -> str:
    """Interquartile means over seeds with 95 % intervals, a line per setting."""
    lines = ["| setting | " + " | ".join(MEASURES[name].title for name in names) + " |"]
    lines.append("| --- |" + " ---: |" * len(names))
    for cell, measures in found.items():
        cells = [written(iqm_interval(measures[name]), MEASURES[name].digits) for name in names]
        lines.append(f"| {title(cell)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def title(cell: Cell) -> str:
    """A setting in words."""
    activation, epochs, remedy = cell
    return f"{activation}, {epochs} epochs, {remedy}"


def _outcomes(found: Measured) -> str:
    """How many seeds each thing happened to, and whether that is most, none to speak of, or open."""
    lines = [
        "| setting | " + " | ".join(claim.words for claim in CLAIMS) + " |",
        "| --- |" + " ---: |" * len(CLAIMS),
    ]
    for cell, measures in found.items():
        lines.append(
            f"| {title(cell)} | " + " | ".join(str(count(claim, measures)) for claim in CLAIMS) + " |"
        )
    return "\n".join(lines)


_COMPARED = ("return", "whole", "rank", "norm", "variance", "low")


def _pairs(found: Measured) -> str:
    """Every remedy against none, with the same activation and epochs."""
    pairs = []
    for cell in found:
        activation, epochs, own = cell
        if own != "none" and (activation, epochs, "none") in found:
            pairs.append((title(cell), cell, (activation, epochs, "none")))
    return _differences(found, pairs)


def _epochs(found: Measured) -> str:
    pairs = []
    for activation, epochs, own in found:
        for more in (15, 20):
            if epochs == 10 and (activation, more, own) in found:
                name = f"{activation}, {own}: {more} against 10"
                pairs.append((name, (activation, more, own), (activation, epochs, own)))
    return _differences(found, pairs)


def _differences(found: Measured, pairs: Sequence[tuple[str, Cell, Cell]]) -> str:
    """Mean differences over shared seeds with intervals; empty where no pair is finished."""
    if not pairs:
        return "Not finished yet."
    lines = ["| setting | " + " | ".join(MEASURES[name].title for name in _COMPARED) + " |"]
    lines.append("| --- |" + " ---: |" * len(_COMPARED))
    for name, first, second in pairs:
        cells = []
        for measure in _COMPARED:
            paired = difference(found, first, second, measure)
            text = written(paired.mean, MEASURES[measure].digits, "+")
            cells.append(f"{text}, p = {paired.p_value:.2g}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(found: Measured, first: Cell, second: Cell, measure: str) -> PairedComparison:
    """First setting − second, over the seeds of which both numbers are known."""
    known = (
        {seed: x for seed, x in found[cell][measure].items() if np.isfinite(x)} for cell in (first, second)
    )
    return paired_comparison(*known, seed=BOOTSTRAP_SEED)
