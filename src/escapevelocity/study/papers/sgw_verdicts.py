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
RISE = 0.01
"""A wrong action's probability has risen when it grew by more than this on the way."""


def paths(findings: Findings) -> list[str]:
    """Figure 1: does softmax first move to a wrong corner, and from which of them does an escort arrive sooner?"""
    softmax, escorts = _arrivals(findings.tables["starts"])
    points = _where(findings.tables[""], method="SPG")
    wrong = [name for name in points if name.startswith("prob_") and points[name][-1] < 0.5]
    grown, begins = 0, set(points["start"].tolist())
    highest = 0.0
    for start in begins:
        own = points["start"] == start
        rises = {name: points[name][own] for name in wrong}
        risen = [path.max() for path in rises.values() if path.max() > path[0] + RISE]
        grown += bool(risen)
        highest = max([highest, *risen])
    ratios = {name: softmax / times for name, times in escorts.items()}
    sooner = np.array([ratio > 1 for ratio in ratios.values()])
    listed = "; ".join(f"{name} {_span(ratio)} times" for name, ratio in ratios.items())
    return [
        f"{_verdict([grown > 0, *sooner.ravel()])}: from {grown} of {len(begins)} starts SPG first raises a wrong "
        f"action's probability, up to {highest:.3g}; of {len(softmax)} starts in wrong corners, SPG's updates until a "
        f"gap < 0.01 over the escort's: {listed}."
    ]


def plateaus(findings: Findings) -> list[str]:
    """Figure 2: how fast does the sub-optimality fall from every start in the end, and how do plateaus grow?"""
    points, ends = _where(findings.tables[""], method="SPG"), findings.tables["starts"]
    arrived = dict(
        zip(*(_where(ends, method="SPG")[name].tolist() for name in ("start", "arrival_steps")), strict=True)
    )
    slopes = [_late_slope(_where(points, start=start), float(arrival)) for start, arrival in arrived.items()]
    fallen = [slope for slope in slopes if math.isfinite(slope)]
    growth = _growth(ends, "escape_steps")
    waits = {name: _corners(ends, name)["escape_steps"] for name in _methods(ends)}
    shorter = [waits[name] < waits["SPG"] for name in waits if name != "SPG"]
    as_laws = [abs(slope + 1) < SLOPE_TOLERANCE for slope in [*slopes, *growth["SPG"]]]
    listed = ", ".join(f"{name} {_span(steps)}" for name, steps in waits.items())
    return [
        f"{_verdict([*as_laws, *np.ravel(shorter)])}: from {len(slopes)} starts SPG's sub-optimality falls as "
        f"t^{_span(fallen)} over the last decade of updates since it was below 0.01; its plateau in a wrong corner "
        f"grows as π₁^{_span(growth['SPG'])}; updates to leave the {len(waits['SPG'])} wrong corners: {listed}."
    ]


def escapes(findings: Findings) -> list[str]:
    """Figure 3: softmax's lower bound, and do the escort's waits grow as the laws say?"""
    data, lines, agree = findings.tables[""], [], []
    for method in _methods(data):
        rows = _where(data, method=method)
        law, fitted, p = (rows[name][0] for name in ("predicted_slope", "fitted_slope", "p"))
        if math.isfinite(fitted) and (law < 0 or p < 2):
            agree.append(abs(fitted - law) < SLOPE_TOLERANCE)
            lines.append(f"{method} {fitted:.3f} (law {law:.3f})")
    bend = {m: _bend(_where(data, method=m)) for m in _methods(_where(data, p=2.0))}
    agree += [value < SLOPE_TOLERANCE for value in bend.values()]
    straight = ", ".join(f"{method} {value:.1%}" for method, value in bend.items()) or "not measured"
    softmax = _where(data, method="SPG")
    ratio = (softmax["steps"] / softmax["predicted_steps"])[~softmax["censored"]]
    agree.append(bool(ratio.size) and bool((ratio >= 1).all()))
    # Laws that are logarithmic or bounded have no slope to fit at finite π₁: the times themselves are compared.
    flat = [_ratio_at_deepest(_where(data, method=m)) for m in _names_with_slope(data, 0.0)]
    return [
        f"{_verdict(agree)}: slopes of log T against log π₁: {', '.join(lines)}; T departs from a straight line in "
        f"ln(1/π₁) by, of its range: {straight}; SPG's escape time over 1/(2·η·Δ·π₁): {_span(ratio)}.",
        f"Deepest escape over the law, for the {len(flat)} methods whose T has no power law: {_span(flat)}.",
    ]


def coefficients(findings: Findings) -> list[str]:
    """Figure 4: does the NŁ inequality hold, and how does C vanish with the depth of a wrong corner?"""
    points, ends = findings.tables[""], findings.tables["starts"]
    bound = np.asarray(points["coefficient"]) * np.asarray(points["suboptimality"])
    holds = np.asarray(points["gradient_norm"]) >= bound * (1 - 1e-9)
    growth = _growth(ends, "smallest_coefficient")
    slower = [max(found) < min(growth["SPG"]) for name, found in growth.items() if name != "SPG"]
    listed = ", ".join(f"{name} π₁^{_span(found)}" for name, found in growth.items())
    return [
        f"{_verdict([bool(holds.all()), *slower])}: the inequality holds at {holds.sum():,} of {len(holds):,} recorded "
        f"points; the smallest C on the way out of a wrong corner falls as: {listed}."
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
    """Figure 8: do escape times and stable rates grow with p, from both kinds of starts, and is p → ∞ softmax?"""
    wells = findings.tables[""]
    slower, limits = [], []
    for depth in dict.fromkeys(np.asarray(wells["best_prob"]).tolist()):
        rows = _where(wells, best_prob=depth)
        order = np.argsort(rows["p"])  # Softmax is p = ∞, and last.
        finite = [i for i in order if np.isfinite(rows["p"][i])]
        slower.append(bool((np.diff(rows["steps"][finite]) >= 0).all()))
        limits.append(float(rows["steps"][finite[-1]] / rows["steps"][order[-1]]))
    largest = max(p for p in np.asarray(wells["p"]).tolist() if math.isfinite(p))
    stable, grows, said = findings.tables["stable"], [], []
    for start in dict.fromkeys(np.asarray(stable["start"]).tolist()):
        rows = _where(stable, start=start)
        order = np.argsort(rows["p"])
        grows.append(bool((np.diff(rows["rate"][order]) >= 0).all()))
        rates = [f"{rate:g}" if rate else "none" for rate in rows["rate"][order]]
        listed = ", ".join(f"p = {p:g}: {rate}" for p, rate in zip(rows["p"][order], rates, strict=True))
        told = "grows with p" if grows[-1] else "does not grow with p throughout"
        said.append(f"start {start}, {told}: {listed.replace('p = inf', 'softmax')}")
    near = [abs(limit - 1) < SLOPE_TOLERANCE for limit in limits]
    return [
        f"{_verdict([*slower, *grows, *near])}: escape times grow with p in {sum(slower)} of {len(slower)} wells; at "
        f"p = {largest:g} they are {_span(limits)} of softmax's; largest η of the grid at which 95 % of the runs "
        f"settle: {'; '.join(said)}."
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


def _methods(columns: Columns) -> list[str]:
    """The methods, in order of appearance."""
    return list(dict.fromkeys(np.asarray(columns["method"]).tolist()))


def _corners(ends: Columns, method: str) -> dict[str, np.ndarray]:
    """A method's rows of starts in wrong corners."""
    rows = _where(ends, method=method)
    corner = np.char.startswith(np.asarray(rows["kind"], str), "corner")
    return {name: column[corner] for name, column in rows.items()}


def _growth(ends: Columns, column: str) -> dict[str, list[float]]:
    """The exponent of π₁ with which a number of each method grows, fitted over the starts of each wrong corner."""
    found: dict[str, list[float]] = {}
    for method in _methods(ends):
        rows = _corners(ends, method)
        names = [str(kind).rpartition(", π₁ = ") for kind in rows["kind"]]
        depths = np.array([float(depth) for _, _, depth in names])
        for corner in dict.fromkeys(corner for corner, _, _ in names):
            own = np.array([name == corner for name, _, _ in names])
            found.setdefault(method, []).append(_slope(depths[own], rows[column][own]))
    return found


def _bend(rows: Mapping[str, np.ndarray]) -> float:
    """How far T departs from a straight line in ln π₁, as a share of its range."""
    escaped = ~rows["censored"]
    x, y = np.log(rows["best_prob"][escaped]), rows["steps"][escaped].astype(float)
    if len(x) < 3 or np.ptp(y) == 0:
        return math.nan
    return float(np.abs(y - np.polyval(np.polyfit(x, y, 1), x)).max() / np.ptp(y))


def _where(columns: Columns, **values: object) -> dict[str, np.ndarray]:
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    rows = np.all([arrays[name] == value for name, value in values.items()], axis=0)
    return {name: column[rows] for name, column in arrays.items()}


def _late_slope(path: Mapping[str, np.ndarray], arrival: float) -> float:
    """The exponent with which the sub-optimality falls with the updates since the arrival, over their last decade; NaN
    for a path that has not arrived, or only just."""
    since = path["step"] - arrival
    last = since >= max(since.max() / 10, 1)
    return _slope(since[last], path["suboptimality"][last]) if last.sum() > 2 else math.nan


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    finite = bool(np.isfinite(x).all() and np.isfinite(y).all())
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if finite else math.nan


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
    if not found.size:
        return "none"
    low, high = f"{found.min():.3g}", f"{found.max():.3g}"
    return low if low == high else f"{low} … {high}"


def _count(steps: float) -> str:
    return "never" if math.isinf(steps) else f"{steps:.0f}"
