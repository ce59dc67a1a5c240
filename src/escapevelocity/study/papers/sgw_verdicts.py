"""What the lab's findings say about the claims of the escort paper, a function per figure.

Each sentence begins with "Confirmed", "Not confirmed" or "Partly confirmed" and holds the numbers it rests on.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from escapevelocity.lab.experiments.experiment import Columns, Findings

SLOPE_TOLERANCE = 0.05
"""A fitted exponent agrees with its law when it is this near: the laws are those of vanishing steps and π₁."""


def paths(findings: Findings) -> list[str]:
    """Figure 1: from which wrong corners does an escort arrive sooner than softmax?"""
    softmax, escorts = _arrivals(findings.tables["starts"])
    ratios = {name: softmax / times for name, times in escorts.items()}
    sooner = np.array([ratio > 1 for ratio in ratios.values()])
    listed = "; ".join(f"{name} {_span(ratio)} times" for name, ratio in ratios.items())
    text = f"of {len(softmax)} starts in wrong corners, SPG's updates until a gap < 0.01 over the escort's: {listed}"
    return [f"{_verdict(sooner)}: {text}."]


def plateaus(findings: Findings) -> list[str]:
    """Figure 2: how fast does the sub-optimality fall in the end, and how long was the plateau of a bad start?"""
    points, ends = findings.tables[""], findings.tables["starts"]
    uniform = _where(points, method="SPG", kind="uniform")
    last = np.asarray(uniform["step"]) >= max(uniform["step"]) / 10
    slope = _slope(uniform["step"][last], uniform["suboptimality"][last])
    softmax, escorts = _arrivals(ends)
    start = {
        name: _where(ends, method=name, kind="uniform")["arrival_steps"][0] for name in ("SPG", *escorts)
    }
    cost = {name: times.max() / start[name] for name, times in {"SPG": softmax, **escorts}.items()}
    shorter = [cost[name] < cost["SPG"] for name in escorts]
    listed = ", ".join(f"{name} {value:.3g}" for name, value in cost.items())
    return [
        f"{_verdict([abs(slope + 1) < SLOPE_TOLERANCE, *shorter])}: over the last decade of steps SPG's "
        f"sub-optimality from the uniform policy falls as t^{slope:.3f}; updates until a gap < 0.01 from the worst "
        f"corner, in units of those from the uniform policy: {listed}."
    ]


def escapes(findings: Findings) -> list[str]:
    """Figure 3: do the fitted slopes agree with the laws'?"""
    data, lines, agree = findings.tables[""], [], []
    for method in dict.fromkeys(np.asarray(data["method"]).tolist()):
        rows = _where(data, method=method)
        law, fitted = rows["predicted_slope"][0], rows["fitted_slope"][0]
        if law < 0 and math.isfinite(fitted):
            agree.append(abs(fitted - law) < SLOPE_TOLERANCE)
            lines.append(f"{method} {fitted:.3f} (law {law:.3f})")
    said = [f"{_verdict(agree)}: slopes of log T against log π₁: {', '.join(lines)}."]
    softmax = _where(data, method="SPG")
    ratio = (softmax["steps"] / softmax["predicted_steps"])[~softmax["censored"]]
    said.append(f"SPG's escape time over 1/(2·η·Δ·π₁): {_span(ratio)}.")
    # Laws that are logarithmic or bounded have no slope to fit at finite π₁: the times themselves are compared.
    flat = [_ratio_at_deepest(_where(data, method=m)) for m in _names_with_slope(data, 0.0)]
    return [
        *said,
        f"Deepest escape over the law, for the {len(flat)} methods whose T has no power law: {_span(flat)}.",
    ]


def coefficients(findings: Findings) -> list[str]:
    """Figure 4: does the NŁ inequality hold, and how small does C become on the way?"""
    points, ends = findings.tables[""], findings.tables["starts"]
    bound = np.asarray(points["coefficient"]) * np.asarray(points["suboptimality"])
    holds = np.asarray(points["gradient_norm"]) >= bound * (1 - 1e-9)
    names = dict.fromkeys(np.asarray(ends["method"]).tolist())
    smallest = {name: min(_where(ends, method=name)["smallest_coefficient"]) for name in names}
    larger = [value > smallest["SPG"] for name, value in smallest.items() if name != "SPG"]
    listed = ", ".join(f"{name} {value:.2g}" for name, value in smallest.items())
    return [
        f"{_verdict([bool(holds.all()), *larger])}: the inequality holds at {holds.sum():,} of {len(holds):,} recorded "
        f"points; the smallest C on any path: {listed}."
    ]


def rooms(findings: Findings) -> list[str]:
    """Figure 5: which method closes nine tenths of the gap soonest, each at its own best rate?"""
    data = findings.tables[""]
    best = _where(data, is_best=True, iteration=0)
    solved = dict(zip(best["method"].tolist(), best["solved_at"].tolist(), strict=True))
    solved = {name: math.inf if math.isnan(steps) else steps for name, steps in solved.items()}
    escorts = {name: steps for name, steps in solved.items() if name.startswith("EPG")}
    listed = ", ".join(f"{name} {_count(steps)}" for name, steps in solved.items())
    sooner = [steps < solved["SPG"] for steps in escorts.values()]
    return [
        f"{_verdict(sooner)}: iterations until nine tenths of the gap are closed, at own best rates: {listed}."
    ]


def damping(findings: Findings) -> list[str]:
    """Figure 6: do the fitted exponents and decay rates agree with the laws'?"""
    fits, lines, agree = findings.tables["fits"], [], []
    for i, loss in enumerate(fits["loss"]):
        for law, fitted, form in (
            ("exponent", "fitted_exponent", "t^{}"),
            ("decay", "fitted_decay", "e^(−{}·t)"),
        ):
            expected, found = float(fits[law][i]), float(fits[fitted][i])
            if math.isfinite(expected) and math.isfinite(found):
                agree.append(abs(found / expected - 1) < SLOPE_TOLERANCE)
                lines.append(f"{loss} {form.format(f'{found:.4g}')} (law {form.format(f'{expected:.4g}')})")
    return [f"{_verdict(agree)}: KL falls as {', '.join(lines)}."]


def classification(findings: Findings) -> list[str]:
    """Figure 7: in how many settings is the best escort better than softmax, with intervals apart?"""
    best, said = findings.tables["best"], []
    for objective, value, softmax, escort, better in (
        ("reward", "reward", "SPG", "EPG", 1),
        ("likelihood", "loss", "SCE", "ECE", -1),
    ):
        signs = []
        rows = _where(best, objective=objective)
        settings = dict.fromkeys(zip(rows["start"].tolist(), rows["optimiser"].tolist(), strict=True))
        for start, optimiser in settings:
            own = _where(rows, start=start, optimiser=optimiser)
            is_escort = own["method"] != softmax
            index = int(np.argmax(np.where(is_escort, better * own[value], -np.inf)))
            other = int(np.flatnonzero(~is_escort)[0])
            low, high = own[f"{value}_low"], own[f"{value}_high"]
            apart = low[index] > high[other] or high[index] < low[other]
            signs.append(int(np.sign(better * (own[value][index] - own[value][other]))) if apart else 0)
        wins, losses = signs.count(1), signs.count(-1)
        said.append(
            f"{_verdict([sign > 0 for sign in signs])} for {escort} against {softmax}: of {len(signs)} pairs of start "
            f"and optimiser the best {escort} has the better final {value} in {wins}, the worse in {losses}, and the "
            f"95 % intervals overlap in {len(signs) - wins - losses}."
        )
    return said


def exponents(findings: Findings) -> list[str]:
    """Figure 8: do escape times and stable rates grow with p, and where is softmax?"""
    wells = findings.tables[""]
    slower = []
    for depth in dict.fromkeys(np.asarray(wells["best_prob"]).tolist()):
        rows = _where(wells, best_prob=depth)
        steps = rows["steps"][np.isfinite(rows["p"])][np.argsort(rows["p"][np.isfinite(rows["p"])])]
        slower.append(bool((np.diff(steps) >= 0).all()))
    stable = _where(findings.tables["stable"], start="uniform")
    order = np.argsort(stable["p"])
    rates = stable["rate"][order]
    named = [f"{rate:g}" if rate else "none" for rate in rates]
    listed = ", ".join(f"p = {p:g}: {rate}" for p, rate in zip(stable["p"][order], named, strict=True))
    return [
        f"{_verdict([*slower, bool((np.diff(rates) >= 0).all())])}: escape times grow with p in {sum(slower)} of "
        f"{len(slower)} wells; largest η of the grid at which 95 % of the runs from the uniform policy settle: "
        f"{listed.replace('p = inf', 'softmax')}."
    ]


def _verdict(holds: Sequence[Any] | np.ndarray) -> str:
    holds = np.asarray(holds, bool)
    return (
        "Confirmed" if holds.size and holds.all() else "Partly confirmed" if holds.any() else "Not confirmed"
    )


def _arrivals(ends: Columns) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Updates until a gap < 0.01 from every wrong corner, of SPG and of each escort."""
    corner = np.char.startswith(np.asarray(ends["kind"], str), "corner")
    method, steps = np.asarray(ends["method"]), np.asarray(ends["arrival_steps"])
    times = {name: steps[corner & (method == name)] for name in dict.fromkeys(method.tolist())}
    return times.pop("SPG"), times


def _where(columns: Columns, **values: object) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    rows = np.all([arrays[name] == value for name, value in values.items()], axis=0)
    return {name: column[rows] for name, column in arrays.items()}


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _names_with_slope(data: Columns, slope: float) -> list[str]:
    rows = _where(data, predicted_slope=slope)
    return list(dict.fromkeys(rows["method"].tolist()))


def _ratio_at_deepest(rows: Mapping[str, np.ndarray]) -> float:
    escaped = np.flatnonzero(~rows["censored"])
    if not escaped.size:
        return math.nan
    deepest = escaped[np.argmin(rows["best_prob"][escaped])]
    return float(rows["steps"][deepest] / rows["predicted_steps"][deepest])


def _span(values: Sequence[float] | np.ndarray) -> str:
    found = np.asarray(values, float)
    return f"{found.min():.3g} … {found.max():.3g}" if found.size else "none"


def _count(steps: float) -> str:
    return "never" if math.isinf(steps) else f"{steps:.0f}"
