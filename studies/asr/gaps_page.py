"""What the counterfactual branches say: the section of the page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from benchmarks._common import table
from jaxtyping import Float
from scipy.stats import binom, binomtest

from escapevelocity.study.bootstrap import Interval
from escapevelocity.study.papers.asr.arms import written
from escapevelocity.study.student import student_interval
from studies.asr.clock import AGENTS, ESCAPED, predicted_escape
from studies.asr.gaps import CANDIDATES, HOLD, metrics_of, rewards_of

_SEEN = (
    "*Seen* is what a look at the run's checkpoints shows, of simulated agents as of real ones. *Chance of as many*: "
    "that so many of the seeds or more are beyond ½, if each were as likely to be as a simulated agent, independently "
    "of the others (binomial); in brackets the same with the upper end of the simulated share's own 95 % interval "
    f"(Clopper–Pearson, {AGENTS} agents)."
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
        paid = (written(over_seeds(gaps.change[i, c] * 100), 2, sign=True) for c in range(len(CANDIDATES)))
        rows.append([str(point), *paid, written(over_seeds(gaps.gap[i]), 2, sign=True)])
    header = ("decisions done", *CANDIDATES, "Δ, signs")
    whole = over_seeds(gaps.gap.mean(axis=0))
    in_metric = np.stack(
        [gaps.change[:, b, s] - gaps.change[:, HOLD, s] for s, b in enumerate(gaps.best)], axis=1
    )
    paid_more = over_seeds(in_metric.mean(axis=0) * 100)
    slopes = [np.polyfit(gaps.points, gaps.gap[:, s], 1)[0] for s in range(gaps.gap.shape[1])]
    chosen = ", ".join(f"{CANDIDATES[c]} for {gaps.best.count(c)}" for c in sorted(set(gaps.best)))
    lines = [
        f"### {name}",
        "",
        "r(t) of each candidate: change of the metric per decision in points (hundredths), over the segment that "
        "follows, mean over seeds with Student's 95 % interval, as all intervals here; Δ: mean sign of the change "
        "under the best raise minus under holding.",
        "",
        table(header, rows),
        "",
        f"Best raise, chosen for every seed by the other seeds: {chosen} of {len(gaps.best)} seeds. Its gap over "
        f"holding, mean over the run: {written(whole, 3, sign=True)} in signs, which the agent is paid by, and "
        f"{written(paid_more, 3, sign=True)} points of the metric per decision. Fitted by a "
        f"straight line, Δ changes by {written(over_seeds(np.array(slopes) * 10), 3, sign=True)} in ten decisions. "
        f"{_most(whole, entry)}",
        "",
        *_predictions(gaps, entry),
        "",
        _SEEN,
        *([] if "untrained" not in entry else ["", _untrained_text(entry["untrained"])]),
    ]
    return "\n".join(lines)


def _most(gap: Interval, entry: Mapping[str, Any]) -> str:
    """What the gap may add up to at most, beside what an escape needs."""
    decisions = len(next(iter(entry["simulated"].values()))["gaps"])
    least = min(found["needed"] for found in entry["simulated"].values())
    return (
        f"Held at the upper end of its interval for all {decisions} decisions it would add up to "
        f"{gap.high * decisions:.1f}; an escape needs {least:.0f} or more."
    )


def _untrained_text(recalls: Mapping[str, float]) -> str:
    """What the networks retrieve before the first step, which no run records."""
    found = written(over_seeds(np.array(list(recalls.values()))))
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


def _predictions(gaps: Gaps, entry: Mapping[str, Any]) -> list[str]:
    rows = []
    for rate, found in entry["simulated"].items():
        observed = observed_policy(entry, rate, gaps.third)
        escaped = int((observed.max(axis=0) > ESCAPED).sum())
        law = predicted_escape(np.array(found["gaps"]), found["needed"])
        when = f"after {law:.0f}" if np.isfinite(law) else f"not within {len(found['gaps'])}"
        low, middle, high = found["end_quantiles"]
        cells = [rate, f"{found['needed']:.0f}", f"{sum(found['gaps']):.1f}", when, f"{found['seen']:.1%}"]
        seeds = observed.shape[1]
        as_many = f"{_chance(escaped, seeds, found['seen']):.2g}"
        if escaped:
            as_many += f" ({_chance(escaped, seeds, _largest_share(found['seen'])):.2g})"
        cells += [f"{escaped} of {seeds}", as_many, f"{middle:.2f} [{low:.2f}, {high:.2f}]"]
        rows.append([*cells, written(over_seeds(observed[-1]), 2)])
    header = (
        "controller's rate", "A", "accumulated gap of the run", "the law: decisions until escape",
        "simulated agents seen beyond ½", "real seeds seen beyond ½", "chance of as many",
        "π(raise) at the end, simulated [5–95 %]", "π(raise) at the end, real",
    )  # fmt: skip
    return [table(header, rows)]


def escapes_text(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """All rates and images together: one row of several looks rare more easily than a row chosen beforehand."""
    rows = []
    for entry in entries.values():
        third = gaps_of(entry).third
        for rate, found in entry["simulated"].items():
            beyond = observed_policy(entry, rate, third).max(axis=0) > ESCAPED
            rows.append((int(beyond.sum()), len(beyond), float(found["seen"])))
    escaped, seeds = sum(row[0] for row in rows), sum(row[1] for row in rows)
    rarest = min(rows, key=lambda row: _chance(*row))
    alone = _chance(*rarest)
    at_most = _chance(rarest[0], rarest[1], _largest_share(rarest[2]))
    return (
        f"Of all {len(rows)} rows together {escaped} of {seeds} seeds were seen beyond ½, where "
        f"{sum(n * share for _, n, share in rows):.2f} are expected of as many simulated agents; the chance of as many "
        f"is {_chance_together(rows):.2g}. The rarest row has a chance of {alone:.2g} ({at_most:.2g} with the upper "
        f"end of its share); that the rarest of {len(rows)} would be as rare, of {_one_of(len(rows), alone):.2g} "
        f"({_one_of(len(rows), at_most):.2g}). All of this takes the rows as independent, though seeds of one number "
        "share their network's start and the images over the rates; and the gaps were measured along the run at rate "
        "0.01 alone: simulated agents of the other rates are paid by them too."
    )


def _chance(escaped: int, seeds: int, share: float) -> float:
    """That so many seeds or more escape, each with probability `share`."""
    return float(binom.sf(escaped - 1, seeds, share))


def _chance_together(rows: Sequence[tuple[int, int, float]]) -> float:
    """That as many escape in all rows of (escaped, seeds, share) together, or more."""
    probabilities = np.ones(1)
    for _, seeds, share in rows:
        probabilities = np.convolve(probabilities, binom.pmf(np.arange(seeds + 1), seeds, share))
    return float(probabilities[sum(row[0] for row in rows) :].sum())


def _one_of(rows: int, chance: float) -> float:
    """That one of several independent rows is as rare as this (Šidák 1967)."""
    return 1 - (1 - chance) ** rows


def _largest_share(share: float) -> float:
    """The upper end of the 95 % interval of a share of the simulated agents."""
    return float(binomtest(round(share * AGENTS), AGENTS).proportion_ci(0.95).high)


def observed_policy(entry: Mapping[str, Any], rate: str, third: int) -> np.ndarray:
    """Probability of raising a third, by checkpoint and seed."""
    found = entry["policies"][rate]
    return np.array([np.array(found[key])[:, third] for key in sorted(found, key=int)])


def over_seeds(values: np.ndarray) -> Interval:
    """Mean over seeds with Student's 95 % interval."""
    return student_interval(values)
