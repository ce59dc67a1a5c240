"""What the counterfactual branches say: the section of the page, and its picture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from benchmarks._common import table
from jaxtyping import Float
from scipy.stats import binom

from escapevelocity.study.bootstrap import Interval, bootstrap_interval
from escapevelocity.study.papers.asr.arms import written
from escapevelocity.study.statistics import mean
from studies.asr.clock import ESCAPED, gap_at_decisions, predicted_escape
from studies.asr.gaps import CANDIDATES, HOLD, metrics_of, rewards_of

_SEED = 0
_SEEN = (
    "*Seen* is what a look at the run's checkpoints shows, of simulated agents as of real ones. *Chance of as many*: "
    "that so many of the seeds or more are beyond ½, if each were as likely to be as a simulated agent."
)


class Gaps(NamedTuple):
    """What the branches of one run gave.

    Attributes:
        points: decisions done where branches begin.
        change: of the metric per decision, by point, candidate and seed.
        sign: of the change, alike: what the agent is paid.
        best: index of the raise that was chosen for each seed: the best of the *other* seeds, by the metric.
        gap: reward of that raise minus that of holding, in signs, by point and seed.
    """

    points: np.ndarray
    change: Float[np.ndarray, "points candidates seeds"]
    sign: Float[np.ndarray, "points candidates seeds"]
    best: tuple[int, ...]
    gap: Float[np.ndarray, "points seeds"]

    @property
    def third(self) -> int:
        """The third of the bins that most seeds choose."""
        return max(set(self.best), key=self.best.count)


def gaps_of(entry: Mapping[str, Any]) -> Gaps:
    """Read what `measure_gaps` has kept of a run, at least two seeds of it."""
    points, metrics = metrics_of(entry)
    rewards = rewards_of(metrics)
    over_time = rewards["change"].mean(axis=0)  # candidates × seeds
    seeds = over_time.shape[1]
    best = []
    for seed in range(seeds):
        others = np.delete(over_time, seed, axis=1).mean(axis=1)
        best.append(int(np.argmax(others[:HOLD])))
    gap = np.stack(
        [rewards["sign"][:, best[seed], seed] - rewards["sign"][:, HOLD, seed] for seed in range(seeds)],
        axis=1,
    )
    return Gaps(points, rewards["change"], rewards["sign"], tuple(best), gap)


def section(name: str, entry: Mapping[str, Any]) -> str:
    """The section of one run: rewards by candidate and time, the gap and its course, the clock against the runs."""
    gaps = gaps_of(entry)
    rows = []
    for i, point in enumerate(gaps.points):
        paid = (written(_over(gaps.change[i, c] * 100), 2, sign=True) for c in range(len(CANDIDATES)))
        rows.append([str(point), *paid, written(_over(gaps.gap[i]), 2, sign=True)])
    header = ("decisions done", *CANDIDATES, "Δ, signs")
    whole = _over(gaps.gap.mean(axis=0))
    in_metric = np.stack(
        [gaps.change[:, b, s] - gaps.change[:, HOLD, s] for s, b in enumerate(gaps.best)], axis=1
    )
    slopes = [np.polyfit(gaps.points, gaps.gap[:, s], 1)[0] for s in range(gaps.gap.shape[1])]
    chosen = ", ".join(f"{CANDIDATES[c]} for {gaps.best.count(c)}" for c in sorted(set(gaps.best)))
    lines = [
        f"### {name}",
        "",
        "r(t) of each candidate: change of the metric per decision in points (hundredths), over the segment that "
        "follows, mean over seeds; Δ: mean sign of the change under the best raise minus under holding.",
        "",
        table(header, rows),
        "",
        f"Best raise, chosen for every seed by the other seeds: {chosen} of {len(gaps.best)} seeds. Its gap over "
        f"holding, mean over the run: {written(whole, 3, sign=True)} in signs, which the agent is paid by, and "
        f"{written(_over(in_metric.mean(axis=0) * 100), 3, sign=True)} points of the metric per decision. Fitted by a "
        f"straight line, Δ changes by {written(_over(np.array(slopes) * 10), 3, sign=True)} in ten decisions.",
        "",
        *_predictions(gaps, entry),
        "",
        _SEEN,
        *([] if "untrained" not in entry else ["", _untrained_text(entry["untrained"])]),
    ]
    return "\n".join(lines)


def _untrained_text(recalls: Mapping[str, float]) -> str:
    """What the networks retrieve before the first step, which no run records."""
    found = written(_over(np.array(list(recalls.values()))))
    return f"Before the first step the {len(recalls)} seeds' networks have a Recall@1 of {found} on these classes."


def clock_section(clock: Mapping[str, Mapping[str, float]]) -> str:
    """How long the agent itself needs under a constant gap: the table of the calibration."""
    rows = []
    for key, found in clock.items():
        rate, gap = key.split("/")
        needed = f"{float(gap) * found['median']:.0f}" if found["median"] else "–"
        median = f"{found['median']:.0f}" if found["median"] else "not within 600"
        shares = [f"{found[f'share_{within}']:.0%}" for within in (50, 600)]
        rows.append([rate, gap, median, needed, *shares])
    header = (
        "rate",
        "gap",
        "decisions until escape, median",
        "A = gap × decisions",
        "within 50",
        "within 600",
    )
    return table(header, rows)


def needed_gap(clock: Mapping[str, Mapping[str, float]], rate: float) -> float:
    """A of a controller's rate: the median over the gaps at which half of the agents escaped."""
    found = [
        float(key.split("/")[1]) * one["median"]
        for key, one in clock.items()
        if float(key.split("/")[0]) == rate and float(key.split("/")[1]) > 0 and one["median"]
    ]
    return float(np.median(found)) if found else np.inf


def draw(entries: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A row for each run: r(t) by candidate, Δ(t) with its fit, and the policy predicted and observed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from escapevelocity.report._figure import COLORS, paper_style

    with paper_style():
        figure = Figure(figsize=(10.5, 2.7 * len(entries)), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(entries), 3, squeeze=False)
        for (name, entry), (rewards, gap, policy) in zip(entries.items(), grid, strict=True):
            gaps = gaps_of(entry)
            for index, candidate in enumerate(CANDIDATES):
                shown = [_over(row * 100) for row in gaps.change[:, index]]
                places = gaps.points + (index - 1.5) * 0.5
                _errors(rewards, places, shown, COLORS[index], candidate)
            rewards.axhline(0, color="#999999", lw=0.8)
            rewards.set(title=f"{name}: r(t)", ylabel="points per decision", xlabel="decisions done")
            rewards.legend(frameon=False, fontsize=7.5)
            _errors(gap, gaps.points, [_over(row) for row in gaps.gap], COLORS[0], "measured")
            line = gap_at_decisions(gaps.points, gaps.gap.mean(axis=1), int(gaps.points[-1]) + 1)
            gap.plot(line, color=COLORS[1], label="straight line")
            gap.axhline(0, color="#999999", lw=0.8)
            gap.set(title="Δ(t): best raise over holding", ylabel="mean sign", xlabel="decisions done")
            gap.legend(frameon=False, fontsize=7.5)
            _draw_policy(policy, gaps, entry)
        figure.savefig(path, metadata={"Software": None})


def _predictions(gaps: Gaps, entry: Mapping[str, Any]) -> list[str]:
    rows = []
    for rate, found in entry["simulated"].items():
        observed = _observed(entry, rate, gaps.third)
        escaped = int((observed.max(axis=0) > ESCAPED).sum())
        law = predicted_escape(np.array(found["gaps"]), found["needed"])
        when = f"after {law:.0f}" if np.isfinite(law) else f"not within {len(found['gaps'])}"
        low, middle, high = found["end_quantiles"]
        cells = [rate, f"{found['needed']:.0f}", f"{sum(found['gaps']):.1f}", when, f"{found['seen']:.1%}"]
        seeds = observed.shape[1]
        as_many = float(binom.sf(escaped - 1, seeds, found["seen"]))
        cells += [f"{escaped} of {seeds}", f"{as_many:.2g}", f"{middle:.2f} [{low:.2f}, {high:.2f}]"]
        rows.append([*cells, written(_over(observed[-1]), 2)])
    header = (
        "controller's rate", "A", "accumulated gap of the run", "the law: decisions until escape",
        "simulated agents seen beyond ½", "real seeds seen beyond ½", "chance of as many",
        "π(raise) at the end, simulated [5–95 %]", "π(raise) at the end, real",
    )  # fmt: skip
    return [table(header, rows)]


def _observed(entry: Mapping[str, Any], rate: str, third: int) -> np.ndarray:
    """Probability of raising a third, by checkpoint and seed."""
    found = entry["policies"][rate]
    return np.array([np.array(found[key])[:, third] for key in sorted(found, key=int)])


def _draw_policy(axes: Any, gaps: Gaps, entry: Mapping[str, Any]) -> None:
    from escapevelocity.report._figure import COLORS

    rate = "0.01" if "0.01" in entry["policies"] else next(iter(entry["policies"]))
    places = sorted(int(key) for key in entry["policies"][rate])
    observed = _observed(entry, rate, gaps.third)
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


def _over(values: np.ndarray) -> Interval:
    """Mean over seeds with its 95 % bootstrap interval."""
    return bootstrap_interval(np.asarray(values, np.float64), mean, seed=_SEED)
