"""The picture of the counterfactual branches: what each candidate paid, the gap, the policy beside simulated agents."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from escapevelocity.report._figure import COLORS, paper_style
from escapevelocity.study.bootstrap import Interval
from studies.asr.clock import ESCAPED, gap_at_decisions
from studies.asr.gaps import CANDIDATES
from studies.asr.gaps_page import Gaps, gaps_of, observed_policy, over_seeds

_LINEAR = 0.5
"""Points per decision up to which the axis of r(t) is linear."""


def draw(entries: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A row for each run: r(t) by candidate, Δ(t) with its fit, and the policy predicted and observed at two rates."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height, below = 2.7 * len(entries) + 0.5, 0.5
    with paper_style():
        layout = ConstrainedLayoutEngine(rect=(0, below / height, 1, 1 - below / height))
        figure = Figure(figsize=(13.5, height), layout=layout)
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(entries), 4, squeeze=False)
        for (name, entry), (rewards, gap, *policies) in zip(entries.items(), grid, strict=True):
            gaps = gaps_of(entry)
            _draw_rewards(rewards, name, gaps)
            _draw_gap(gap, gaps)
            for axes, rate in zip(policies, ("0.01", "0.03"), strict=True):
                _draw_policy(axes, gaps, entry, rate)
        seeds = sorted({len(gaps_of(entry).best) for entry in entries.values()})
        caption = (
            f"Bars: mean over {' or '.join(map(str, seeds))} seeds with Student's 95 % interval. r(t) is linear up to "
            f"±{_LINEAR:g} points and logarithmic beyond. The gaps were measured at the controller's rate 0.01, and "
            "the simulated agents of both rates are paid by them. Dashed: what counts as an escape, ½."
        )
        text = textwrap.fill(caption, 200)
        figure.text(0.008, 0.08 / height, text, fontsize=8, color="#444444", va="bottom", linespacing=1.3)
        figure.savefig(path, metadata={"Software": None})


def _draw_rewards(axes: Any, name: str, gaps: Gaps) -> None:
    for index, candidate in enumerate(CANDIDATES):
        shown = [over_seeds(row * 100) for row in gaps.change[:, index]]
        _errors(axes, gaps.points + (index - 1.5) * 0.5, shown, COLORS[index], candidate)
    axes.axhline(0, color="#999999", lw=0.8)
    # The first decisions pay ten times what the later ones do.
    axes.set_yscale("symlog", linthresh=_LINEAR)
    ticks = [tick for tick in (-0.4, -0.2, 0, 0.2, 0.4, 1, 2, 4) if tick <= 1.1 * axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}".replace("-", "−") for tick in ticks])
    axes.minorticks_off()
    axes.set(title=f"{name}: r(t)", ylabel="points per decision", xlabel="decisions done")
    axes.legend(frameon=False, fontsize=7.5)


def _draw_gap(axes: Any, gaps: Gaps) -> None:
    _errors(axes, gaps.points, [over_seeds(row) for row in gaps.gap], COLORS[0], "measured")
    line = gap_at_decisions(gaps.points, gaps.gap.mean(axis=1), int(gaps.points[-1]) + 1)
    axes.plot(line, color=COLORS[1], label="straight line")
    axes.axhline(0, color="#999999", lw=0.8)
    low, high = axes.get_ylim()
    axes.set(title="Δ(t): best raise over holding", ylabel="mean sign", xlabel="decisions done")
    axes.set_ylim(low, high + 0.25 * (high - low))  # Room for the legend above the bars.
    axes.legend(frameon=False, fontsize=7.5, loc="upper center", ncols=2)


def _draw_policy(axes: Any, gaps: Gaps, entry: Mapping[str, Any], rate: str) -> None:
    if rate not in entry["policies"]:
        axes.set_axis_off()
        return
    places = sorted(int(key) for key in entry["policies"][rate])
    observed = observed_policy(entry, rate, gaps.third)
    simulated = entry["simulated"][rate]
    low, middle, high = np.array(simulated["quantiles"])
    axes.fill_between(np.arange(1, len(low) + 1), low, high, color=COLORS[0], alpha=0.2, lw=0)
    axes.plot(np.arange(1, len(low) + 1), middle, color=COLORS[0], label="simulated, 5–95 %")
    axes.plot(places, observed, color=COLORS[1], marker="o", ms=3, lw=0.8)
    axes.plot([], [], color=COLORS[1], marker="o", ms=3, lw=0.8, label="real, a line per seed")
    axes.axhline(ESCAPED, color="#999999", lw=0.8, ls="--")
    axes.set(title=f"π({CANDIDATES[gaps.third]}), rate {rate}", xlabel="decisions done", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=7.5)


def _errors(axes: Any, places: np.ndarray, shown: list[Interval], color: str, label: str) -> None:
    middle = np.array([one.estimate for one in shown])
    reach = np.abs(np.array([[one.low for one in shown], [one.high for one in shown]]) - middle)
    axes.errorbar(places, middle, reach, color=color, marker="o", ms=3, lw=1, capsize=2, label=label)
