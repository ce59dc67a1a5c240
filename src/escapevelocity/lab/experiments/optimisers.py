"""SGD, momentum and Adam, each at its own best rate: does the escort's advantage survive (reviewers' question)?"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from escapevelocity.errors import require
from escapevelocity.lab import wilson_interval
from escapevelocity.lab.experiments._bootstrap import mean_interval, ratio_interval
from escapevelocity.lab.experiments._optimiser_contest import (
    OPTIMISERS,
    Contestant,
    Field,
    best_rate,
    contestants,
    edge,
    is_increasing,
    make_field,
    run_at,
    run_grid,
)
from escapevelocity.lab.experiments._settling import Settling
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    require_all,
    silently,
    stack_rows,
)
from escapevelocity.lab.simulate import require_count

Row = dict[str, Any]

Times = dict[tuple[str, str, str], np.ndarray]
"""Settling times (bandits,) by method, optimiser and start."""


@dataclasses.dataclass(frozen=True)
class Optimisers(Experiment):
    """SGD, momentum and Adam, each at its own best learning rate, for softmax and escort.

    Bandits with rewards U[0, 1] start from the uniform policy, and with the mass on a random wrong action and π₁
    on every other. Out of the well: (π* − π)ᵀr < 0.9·Δ, Δ the best minus the second-best reward; the time counted
    is the step after which a run stays out until its end. The rate of each method, optimiser and start is chosen
    on selection bandits and reported on others. Gradients are exact.
    """

    question: ClassVar[str] = "SGD, momentum, Adam at their best rates: does the escort's advantage survive?"
    quick: ClassVar[Mapping[str, Any]] = {
        "best_probs": (1e-2, 1e-4),
        "escort_powers": (2.0,),
        "optimisers": ("SGD", "Adam"),
        "rates": (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0),
        "bandits": 100,
        "steps": 500,
    }

    best_probs: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-10)
    """π₁ of the starts in a well; at 1e-10 gradients are small beside Adam's ε = 1e-8."""
    escort_powers: tuple[float, ...] = (2.0, 4.0)
    """Exponents p ≥ 1 of the escort transform."""
    num_actions: int = 6
    """K, at least 2."""
    optimisers: tuple[str, ...] = tuple(OPTIMISERS)
    """Of SGD, momentum (0.9), Adam (ε = 1e-8) and Adam-1e-300 (ε = 1e-300)."""
    rates: tuple[float, ...] = tuple(float(f"{10 ** (i / 4):.4g}") for i in range(-12, 17))
    """Grid of learning rates, increasing: 10⁻³ … 10⁴ in steps of 10^¼."""
    usual_rate: float = 0.01
    """Where the methods are also compared at one rate: the grid's nearest to this is used."""
    selection_bandits: int = 100
    """Bandits on which the rate is chosen."""
    bandits: int = 400
    """Other bandits, on which it is reported."""
    steps: int = 5000
    """Updates of each run; runs that have not settled count with this number."""
    seed: int = 0
    """Of rewards, starts and intervals."""

    def run(self, track: Track = silently) -> Findings:
        """Choose the rates, measure the settling times, and compare escort with softmax."""
        self._check()
        selection, report = (
            make_field(np.random.default_rng([self.seed, part]), self.num_actions, count, self.best_probs)
            for part, count in enumerate((self.selection_bandits, self.bandits))
        )
        grid, rows, times, usual = [], [], {}, {}
        for contestant in track(contestants(self.escort_powers, self.optimisers), lambda one: one.name):
            searched = run_grid(contestant, selection, self.rates, self.steps)
            grid += self._grid_rows(contestant, searched)
            for kind, one in searched.items():
                usual[contestant.method, contestant.optimiser, kind] = one.settled_at[self._usual_index()]
            more_rows, more_times = self._at_best(contestant, searched, report)
            rows, times = rows + more_rows, times | more_times
        ratios = self._ratios(times, list(report.starts), "own best")
        ratios += self._ratios(usual, list(report.starts), "same")
        tables = {"": stack_rows(rows), "grid": stack_rows(grid), "advantage": stack_rows(ratios)}
        return Findings(tables, self._summary(rows, list(report.starts)), self._answers(rows, ratios))

    def _check(self) -> None:
        require(self.num_actions >= 2, "num_actions", self.num_actions, "an integer ≥ 2")
        highest = 1 / (self.num_actions - 1)
        require_all(self.best_probs, "best_probs", lambda q: 0 < q < highest, f"in (0, {highest:g})")
        require_all(self.escort_powers, "escort_powers", lambda p: 1 <= p < np.inf, "finite and ≥ 1")
        require_all(
            self.optimisers, "optimisers", lambda one: one in OPTIMISERS, f"one of {', '.join(OPTIMISERS)}"
        )
        require(0 < self.usual_rate < np.inf, "usual_rate", self.usual_rate, "finite and > 0")
        require(is_increasing(self.rates), "rates", self.rates, "positive, finite and in increasing order")
        require_count(self.steps, "steps")
        for name in ("selection_bandits", "bandits", "steps"):
            require(getattr(self, name) >= 10, name, getattr(self, name), "an integer ≥ 10")
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")

    def _usual_index(self) -> int:
        return int(np.abs(np.log(np.asarray(self.rates) / self.usual_rate)).argmin())

    def _grid_rows(self, contestant: Contestant, searched: Mapping[str, Settling]) -> list[Row]:
        return [
            {
                "method": contestant.method,
                "optimiser": contestant.optimiser,
                "start": kind,
                "rate": rate,
                "mean_steps": float(one.settled_at[i].mean()),
                "settled": float(one.has_settled[i].mean()),
                "is_best": i == best_rate(one.settled_at),
            }
            for kind, one in searched.items()
            for i, rate in enumerate(self.rates)
        ]

    def _at_best(
        self, contestant: Contestant, searched: Mapping[str, Settling], report: Field
    ) -> tuple[list[Row], Times]:
        """Run each start at its chosen rate on the other bandits."""
        label = {"method": contestant.method, "optimiser": contestant.optimiser}
        chosen = {kind: best_rate(one.settled_at) for kind, one in searched.items()}
        at_best = {kind: np.full(self.bandits, self.rates[i]) for kind, i in chosen.items()}
        rows, times = [], {}
        for kind, found in run_at(contestant, report, at_best, self.steps).items():
            settled = int(found.has_settled.sum())
            mean, low, high = mean_interval(found.settled_at, self.seed)
            share_low, share_high = wilson_interval(settled, self.bandits)
            times[contestant.method, contestant.optimiser, kind] = found.settled_at
            rows.append(
                label
                | {
                    "start": kind,
                    "rate": self.rates[chosen[kind]],
                    "at_edge": edge(chosen[kind], len(self.rates)),
                    "mean_steps": mean,
                    "mean_low": low,
                    "mean_high": high,
                    "median_steps": float(np.median(found.settled_at)),
                    "settled": settled / self.bandits,
                    "settled_low": share_low,
                    "settled_high": share_high,
                    # Out once, and in again later.
                    "fell_back": float((found.first < found.settled_at).mean()),
                }
            )
        return rows, times

    def _ratios(self, found_times: Times, starts: list[str], rates: str) -> list[Row]:
        """Mean time of SPG over that of EPG(p) on the same bandits; `rates` says at which rates they ran."""
        found = []
        for p in self.escort_powers:
            for optimiser in self.optimisers:
                for kind in starts:
                    softmax, escort = (found_times[m, optimiser, kind] for m in ("SPG", f"EPG({p:g})"))
                    ratio, low, high = ratio_interval(softmax, escort, self.seed)
                    cut = [bool((times == self.steps).any()) for times in (softmax, escort)]
                    found.append(
                        {"rates": rates, "p": float(p), "optimiser": optimiser, "start": kind}
                        | {"ratio": ratio, "low": low, "high": high}
                        | {"softmax_cut": cut[0], "escort_cut": cut[1]}
                    )
        return found

    def _summary(self, rows: Sequence[Row], starts: list[str]) -> Summary:
        lines: dict[str, list[str]] = {}
        for row in rows:
            cells = lines.setdefault(f"{row['method']} {row['optimiser']}", [])
            mark = {"lower": "↓", "upper": "↑", "": ""}[row["at_edge"]]
            half = (row["mean_high"] - row["mean_low"]) / 2
            mean = f"{row['mean_steps']:.{1 if row['mean_steps'] < 100 else 0}f} ± {half:.2g}"
            share = "" if row["settled"] >= 0.995 else f" ({row['settled']:.0%})"
            cells.append(f"{mean}{share} @{row['rate']:.3g}{mark}")
        return Summary(
            ["steps until out for good @rate", *starts], [[name, *cells] for name, cells in lines.items()]
        )

    def _answers(self, rows: Sequence[Row], ratios: Sequence[Row]) -> list[str]:
        edges = [row for row in rows if row["at_edge"]]
        unsettled = [row for row in rows if row["settled"] < 0.95]
        worst = min(rows, key=lambda row: row["settled"])
        deepest = f"π₁ = {min(self.best_probs):g}"
        shown = [(kind, p) for kind in ("uniform", deepest) for p in self.escort_powers]
        return [
            self._verdicts(ratios, "own best", "each at its own best rate"),
            *(self._advantage(ratios, kind, p) for kind, p in shown),
            self._verdicts(ratios, "same", f"both at the rate {self.rates[self._usual_index()]:g}"),
            f"In {len(unsettled)} of {len(rows)} cases fewer than 95 % of the runs settled even at the best rate; "
            f"the worst is {worst['method']} with {worst['optimiser']} from {worst['start']}: "
            f"{worst['settled']:.0%} [{worst['settled_low']:.0%}, {worst['settled_high']:.0%}]. "
            f"In {len(edges)} cases the best rate is at the grid's edge (↑, ↓), so that a better one may exist.",
            "Gradients are exact here. What large steps cost with sampled actions: `ev lab adaptive-rates` and "
            "`ev lab p-study`.",
        ]

    def _verdicts(self, ratios: Sequence[Row], rates: str, words: str) -> str:
        """From which starts escort is quicker than softmax beyond the interval, for every optimiser."""
        cases: dict[str, list[str]] = {}
        for optimiser in self.optimisers:
            for p in self.escort_powers:
                mine = [
                    row
                    for row in ratios
                    if (row["rates"], row["optimiser"], row["p"]) == (rates, optimiser, p)
                ]
                ahead = [row["start"] for row in mine if row["low"] > 1]
                behind = [row["start"] for row in mine if row["high"] < 1]
                verdict = f"quicker from {_listed(ahead)}, slower from {_listed(behind)}"
                cases.setdefault(verdict, []).append(f"EPG({p:g}) with {optimiser}")
        parts = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in cases.items())
        return f"Escort beside softmax under the same optimiser, {words}, beyond the 95 % interval: {parts}."

    def _advantage(self, ratios: Sequence[Row], start: str, p: float) -> str:
        parts = []
        for row in ratios:
            if (row["rates"], row["start"], row["p"]) == ("own best", start, p):
                # Runs that never settle count with the length of the run: too little.
                bound = {(True, False): "at least ", (True, True): "about "}.get(
                    (row["softmax_cut"], row["escort_cut"]), ""
                )
                verdict = (
                    "escort ahead"
                    if row["low"] > 1
                    else "softmax ahead"
                    if row["high"] < 1
                    else "no difference"
                )
                span = f"{bound}{row['ratio']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
                parts.append(f"{row['optimiser']} {span} ({verdict})")
        return (
            f"From {start}, SPG's mean time over EPG({p:g})'s, each at its own best rate: {'; '.join(parts)}."
        )


def _listed(starts: Sequence[str]) -> str:
    """Starts in words, with "π₁ =" once."""
    wells = [start.removeprefix("π₁ = ") for start in starts if start != "uniform"]
    parts = ["uniform"] if "uniform" in starts else []
    return " and ".join(parts + ([f"π₁ = {', '.join(wells)}"] if wells else [])) or "none"
