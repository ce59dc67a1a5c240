"""From the measurements of `p-study` to advice: which p in which situation, and what decides."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

STABLE_SHARE = 0.95
"""A rate is stable when at least this share of the runs settled at the optimum."""

Row = dict[str, Any]


class Situation(NamedTuple):
    """One row of the table "which p when".

    Attributes:
        name: the situation.
        counted: what the numbers are.
        values: exponent -> (number, lower end, upper end of its 95 % interval; all the same where exact).
        larger_is_better: otherwise smaller is.
        is_time: whether the numbers are times of one kind, which `all_round` compares.
    """

    name: str
    counted: str
    values: Mapping[float, tuple[float, float, float]]
    larger_is_better: bool = False
    is_time: bool = False

    @property
    def best(self) -> float:
        """The exponent with the best number; among equals the smallest."""
        sign = -1 if self.larger_is_better else 1
        return min(self.values, key=lambda p: (sign * self.values[p][0], p))

    def equals(self) -> list[float]:
        """Exponents that cannot be told from the best: intervals overlap, or, where exact, numbers are equal."""
        _, low, high = self.values[self.best]
        return [p for p, (_, its_low, its_high) in self.values.items() if its_low <= high and its_high >= low]

    def number(self, p: float) -> float | int:
        """What was counted at p; NaN where p was not tried."""
        value = self.values.get(p, (math.nan,))[0]
        return int(value) if value.is_integer() else value

    def as_good(self) -> str:
        """Exponents as good as the best, neighbours as a range."""
        equal = set(self.equals())
        if equal == {self.best}:
            return "–"
        runs: list[list[float]] = [[]]
        for p in sorted(self.values):
            if p in equal:
                runs[-1].append(p)
            elif runs[-1]:
                runs.append([])
        ends = ((run[0], run[-1]) for run in runs if run)
        return ", ".join(name_of(a) if a == b else f"{name_of(a)} … {name_of(b)}" for a, b in ends)

    def rows(self) -> list[Row]:
        """In long form."""
        return [
            {"situation": self.name, "counted": self.counted, "p": p, "value": value, "low": low}
            | {"high": high, "best": p == self.best, "as_good": p in self.equals()}
            for p, (value, low, high) in self.values.items()
        ]


def situations(
    corners: Sequence[Row],
    by_rate: Sequence[Row],
    at_best: Sequence[Row],
    stable: Sequence[Row],
    by_sample: Sequence[Row],
    rate: float,
) -> list[Situation]:
    """Make the table's rows from the study's tables; "same η" is the measured rate nearest to `rate`."""
    found = []
    for best_prob in dict.fromkeys(row["best_prob"] for row in corners):
        rows = [row for row in corners if row["best_prob"] == best_prob]
        values = {row["p"]: _exactly(math.inf if row["censored"] else float(row["steps"])) for row in rows}
        found.append(Situation(f"well π₁ = {best_prob:g}, η = {rate:g}", "steps", values, is_time=True))
    near = min({row["rate"] for row in by_rate}, key=lambda one: abs(math.log(one / rate)))
    for kind in dict.fromkeys(row["start"] for row in by_rate):
        rows = _pick(by_rate, start=kind, rate=near)
        found.append(Situation(f"start {kind}, η = {near:g}", "mean steps", _means(rows), is_time=True))
        rows = _pick(at_best, start=kind)
        found.append(Situation(f"start {kind}, own best η", "mean steps", _means(rows), is_time=True))
        values = {row["p"]: _exactly(row["rate"]) for row in stable if row["start"] == kind}
        found.append(Situation(f"start {kind}, large steps", "stable η", values, larger_is_better=True))
    for one in sorted({near, min({row["rate"] for row in by_rate}, key=lambda one: abs(math.log(one)))}):
        rows = _pick(by_rate, start="uniform", rate=one)
        values = {row["p"]: _exactly(row["late_flips"]) for row in rows}
        found.append(Situation(f"quiet end, η = {one:g}", "flips per step", values))
        values = {row["p"]: _exactly(row["late_regret"]) for row in rows}
        found.append(Situation(f"precise end, η = {one:g}", "late regret", values))
    horizon = max(row["steps"] for row in by_sample)
    for one in dict.fromkeys(row["rate"] for row in by_sample):
        rows = _pick(by_sample, rate=one, steps=horizon)
        values = {row["p"]: (row["wrong"], row["wrong_low"], row["wrong_high"]) for row in rows}
        found.append(Situation(f"sampled, η = {one:g}", f"wrong after {horizon}", values))
        values = {row["p"]: (row["regret"], row["regret_low"], row["regret_high"]) for row in rows}
        found.append(Situation(f"sampled, η = {one:g}", f"regret at {horizon}", values))
    return found


def largest_stable_rate(by_rate: Iterable[Row], p: float, start: str) -> Row:
    """The largest η of the grid at which at least `STABLE_SHARE` of the runs settled; 0 where there is none."""
    rows = _pick(by_rate, p=p, start=start)
    enough = [row for row in rows if row["settled"] >= STABLE_SHARE]
    if not enough:
        best = max(rows, key=lambda row: row["settled"])
        shown = {"rate": 0.0, "at_edge": False}
    else:
        best = max(enough, key=lambda row: row["rate"])
        shown = {"rate": best["rate"], "at_edge": best["rate"] == max(row["rate"] for row in rows)}
    shares = {name: best[name] for name in ("settled", "settled_low", "settled_high")}
    return {"p": p, "start": start} | shown | shares


def stable_rates(stable: Sequence[Row], start: str) -> str:
    """The largest stable η of every p from one kind of start, with the share that settled and its interval."""
    parts = []
    for row in stable:
        if row["start"] == start:
            share = f"{row['settled']:.0%} [{row['settled_low']:.0%}, {row['settled_high']:.0%}]"
            edge = ", the largest tried" if row["at_edge"] else ""
            found = f"{row['rate']:g}{edge} ({share})" if row["rate"] else f"none (at best {share})"
            parts.append(f"{name_of(row['p'])}: {found}")
    return (
        f"Largest η of the grid at which at least {STABLE_SHARE:.0%} of the runs settle, start {start}, by p: "
        f"{'; '.join(parts)}."
    )


def all_round(found: Sequence[Situation]) -> str:
    """The one p whose times are never far from the best, among those that are quiet and safe enough.

    Quiet: no parameter crosses zero late in a run. Safe: with sampled actions its share of wrong ends cannot be told
    from the lowest, at any rate.
    """
    timed = [one for one in found if one.is_time]
    tried = list(timed[0].values)
    noisy = {p for one in found if one.counted == "flips per step" for p in tried if one.number(p) > 0}
    unsafe = {p for one in found if one.counted.startswith("wrong") for p in tried if p not in one.equals()}
    factors = {p: [_ratio(one.values[p][0], one.values[one.best][0]) for one in timed] for p in tried}

    def described(candidates: list[float]) -> str:
        p = min(candidates, key=lambda p: max(factors[p]))
        worst = timed[int(np.argmax(factors[p]))]
        return f"{name_of(p)} (at most {max(factors[p]):.3g} times the quickest, in '{worst.name}')"

    sentences = [f"One p for every speed situation: {described(tried)}."]
    for kept, words in (
        ([p for p in tried if p not in noisy], "whose end is quiet"),
        ([p for p in tried if p not in unsafe], "whose sampled runs end wrong no more often than the best"),
        ([p for p in tried if p not in noisy | unsafe], "with both"),
    ):
        sentences.append(f"Among those {words}: {described(kept) if kept else 'none'}.")
    return " ".join(sentences)


def name_of(p: float) -> str:
    """A number, or softmax for ∞."""
    return "softmax" if p == math.inf else f"{p:g}"


def _ratio(value: float, best: float) -> float:
    # Censored times are infinite, and so is what a start that needs no step costs another.
    return 1.0 if value == best else value / best if best else math.inf


def _exactly(value: float) -> tuple[float, float, float]:
    return value, value, value


def _means(rows: Sequence[Row]) -> dict[float, tuple[float, float, float]]:
    return {row["p"]: (row["mean_steps"], row["mean_low"], row["mean_high"]) for row in rows}


def _pick(rows: Iterable[Row], **values: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]
