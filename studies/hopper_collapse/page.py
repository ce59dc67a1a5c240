"""The numbers of the page: tables per setting, PFO against none over shared seeds, and a judgement of each claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from escapevelocity.study.paired import PairedComparison, paired_comparison
from studies.hopper_collapse.measures import MEASURES, Cell
from studies.measures import BOOTSTRAP_SEED, iqm_interval, written

UNITS = 64
Measured = Mapping[Cell, Mapping[str, Mapping[int, float]]]


def page(found: Measured, missing: Sequence[str]) -> str:
    """All numbers of the page, as Markdown."""
    parts = [
        _state(found, missing),
        "### At the end of training",
        _table(found, ("return", "kept", "rank", "dead", "norm", "critic_rank")),
        "### Policy and trust region",
        _table(found, ("variance", "entropy", "kl", "low", "lowest_low", "rank_low")),
        "### What became of the runs",
        _outcomes(found),
        "### PFO against no remedy, same seeds",
        _pairs(found, "PFO (last)"),
        "### More epochs, same seeds",
        _epochs(found),
        "### The paper's findings",
        "\n".join(f"- {line}" for line in claims(found)),
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
    """How many seeds lost what."""
    lines = [
        "| setting | seeds | return below half of its best | rank below 10 at some time | over half the units dead | "
        "norm at least tripled |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell, measures in found.items():
        counts = [
            sum(value < 0.5 for value in measures["kept"].values()),
            sum(value < 10 for value in measures["rank_low"].values()),
            sum(value > UNITS / 2 for value in measures["dead"].values()),
            sum(end >= 3 * measures["norm_start"][seed] for seed, end in measures["norm"].items()),
        ]
        row = [title(cell), str(len(measures["kept"])), *map(str, counts)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


_COMPARED = ("return", "whole", "rank", "norm", "variance", "low")


def _pairs(found: Measured, remedy: str) -> str:
    pairs = []
    for cell in found:
        activation, epochs, own = cell
        if own == remedy and (activation, epochs, "none") in found:
            pairs.append((f"{activation}, {epochs} epochs", cell, (activation, epochs, "none")))
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
    """First setting − second, over shared seeds."""
    return paired_comparison(found[first][measure], found[second][measure], seed=BOOTSTRAP_SEED)


def claims(found: Measured) -> list[str]:
    """Each finding of the paper, and what these runs say; a rule decides, written out in each line."""
    plain = {cell: measures for cell, measures in found.items() if cell[2] == "none"}
    if not plain:
        return ["No run without a remedy is finished yet."]
    seeds = sum(len(measures["return"]) for measures in plain.values())
    lines = [
        _counted("the pre-activation norm rises", _grown(plain, "norm_start", "norm"), seeds),
        _counted("the actor's feature rank falls", seeds - _grown(plain, "rank_start", "rank"), seeds),
        _counted("performance collapses (return below half of its best)", _below(plain, "kept", 0.5), seeds),
        _counted("the representation collapses (rank below 10)", _below(plain, "rank_low", 10), seeds),
    ]
    for remedy_cell in found:
        if remedy_cell[2] == "PFO (last)" and (*remedy_cell[:2], "none") in found:
            lines.append(_pfo(found, remedy_cell, (*remedy_cell[:2], "none")))
    return lines


def _grown(cells: Measured, start: str, end: str) -> int:
    return sum(
        value > measures[start][seed] for measures in cells.values() for seed, value in measures[end].items()
    )


def _below(cells: Measured, measure: str, limit: float) -> int:
    return sum(value < limit for measures in cells.values() for value in measures[measure].values())


def _counted(claim: str, count: int, seeds: int) -> str:
    """Confirmed where it is so in at least nine seeds of ten, not where it is so in at most one of ten."""
    share = count / seeds
    judgement = "confirmed" if share >= 0.9 else "not confirmed" if share <= 0.1 else "in part"
    return f"*Without a remedy {claim}*: in {count} of {seeds} runs, **{judgement}**."


def _pfo(found: Measured, treated: Cell, plain: Cell) -> str:
    parts = []
    for measure, words in (("norm", "norm"), ("rank", "rank"), ("low", "low ratios"), ("return", "return")):
        interval = difference(found, treated, plain, measure).mean
        judgement = "higher" if interval.low > 0 else "lower" if interval.high < 0 else "no difference shown"
        parts.append(f"{words} {judgement} ({written(interval, MEASURES[measure].digits, '+')})")
    return (
        f"*PFO bounds the norm, keeps the rank and helps the return* ({treated[0]}, {treated[1]} epochs): "
        + ("; ".join(parts) + ".")
    )
