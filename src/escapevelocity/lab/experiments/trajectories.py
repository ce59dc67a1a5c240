"""Paths of softmax and escort policy gradient on the simplex of three actions (figures 1, 2 and 4)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import require
from escapevelocity.lab import (
    Bandit,
    Method,
    corner_starts,
    epg,
    escape_time,
    log_spaced,
    lojasiewicz,
    lojasiewicz_along,
    predicted_escape_time,
    spg,
    trajectory,
)
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    require_all,
    silently,
)
from escapevelocity.lab.simulate import require_count

ARRIVED = 0.01
"""A run has arrived when its sub-optimality is below this."""
UNIFORM, GRID = "uniform", "grid"
_INSIDE = 1e-6


class Contender(NamedTuple):
    """A method with what its geometry depends on.

    Attributes:
        method: the update rule.
        p: exponent of the escort transform; None for softmax.
    """

    method: Method
    p: float | None


class Starts(NamedTuple):
    """Where the paths begin.

    Attributes:
        probs: policies (3, B).
        kinds: what each start is called, (B,); all starts of the grid share a name.
        corners: the wrong action that holds the mass, (B,); −1 for starts that are near no corner.
    """

    probs: np.ndarray
    kinds: np.ndarray
    corners: np.ndarray


@dataclasses.dataclass(frozen=True)
class Trajectories(Experiment):
    """Which way do softmax and escort policy gradient take, and where do they stand still?

    A bandit with three actions, exact gradients, from a grid of starts on the simplex, from the uniform policy
    (a good start) and from both wrong corners (bad ones). Escaped means: the first step at which
    (π* − π)ᵀr < 0.9 of what the corner lacks to the best reward. EPG's rate is η‖θ‖_p²/p².
    """

    question: ClassVar[str] = (
        "Which way do softmax and escort take on the simplex, and where do they stand still?"
    )
    quick: ClassVar[Mapping[str, Any]] = {"max_steps": 20_000, "surface_grid": 40}

    rewards: tuple[float, float, float] = (1.0, 0.8, 0.1)
    """r of the three actions, in [0, 1], with a single best one."""
    learning_rate: float = 0.4
    """η of every method."""
    escort_powers: tuple[float, ...] = (2.0, 4.0)
    """Exponents p ≥ 1 of the escort transform."""
    grid: int = 9
    """The grid's starts have probabilities that are positive multiples of 1/grid; an integer ≥ 3."""
    corner_probs: tuple[float, ...] = (1e-2, 1e-3)
    """π₁ of the starts in wrong corners: the probability of each action but the corner's; in (0, 1/3)."""
    max_steps: int = 100_000
    """Updates that each path is followed for; an integer ≥ 10."""
    num_points: int = 1000
    """Recorded points per path, evenly spaced in the logarithm of the step; an integer ≥ 10."""
    surface_grid: int = 80
    """The surfaces are computed at probabilities that are multiples of 1/surface_grid; an integer ≥ 3."""

    def run(self, track: Track = silently) -> Findings:
        """Follow every method from every start and evaluate the surfaces."""
        self._check()
        bandit, starts = Bandit(self.rewards), self.starts()
        points, ends, surface = [], [], []
        for contender in track(self.contenders(), lambda one: one.method.name):
            points.append(self._points(bandit, contender, starts))
            ends.append(self._ends(bandit, contender, starts, points[-1]))
            surface.append(self._surface(bandit, contender))
        tables = {"": _stacked(points), "starts": _stacked(ends), "surface": _stacked(surface)}
        return Findings(tables, _summary(tables["starts"]), self._answers(tables))

    def contenders(self) -> list[Contender]:
        """SPG, and EPG with every exponent."""
        rate = self.learning_rate
        escorts = [Contender(epg(rate, p), p) for p in self.escort_powers]
        return [Contender(spg(rate), None), *escorts]

    def starts(self) -> Starts:
        """The uniform policy, then the wrong corners from shallow to deep, then the grid."""
        uniform, lattice = np.full((3, 1), 1 / 3), simplex_grid(self.grid)
        lattice = lattice[:, (lattice > 0).all(axis=0)]
        depths = sorted(self.corner_probs, reverse=True)
        corners = [a for a in range(3) if self.rewards[a] < max(self.rewards)]
        probs = [uniform, *(corner_starts(3, corner, depths) for corner in corners), lattice]
        kinds = [UNIFORM, *(self.corner_name(a, q) for a in corners for q in depths)]
        kinds += [GRID] * lattice.shape[1]
        of = [-1, *np.repeat(corners, len(depths)), *np.full(lattice.shape[1], -1)]
        return Starts(np.concatenate(probs, axis=1), np.array(kinds), np.array(of))

    def corner_name(self, corner: int, best_prob: float) -> str:
        """What a start in a wrong corner is called."""
        return f"corner r = {self.rewards[corner]:g}, π₁ = {best_prob:g}"

    def _check(self) -> None:
        require_all(self.rewards, "rewards", lambda r: 0 <= r <= 1, "in [0, 1]", distinct=False)
        single = sum(r == max(self.rewards) for r in self.rewards) == 1
        require(single, "rewards", self.rewards, "numbers of which one is larger than the others")
        # Beyond, the products of the laws leave float64; the paths do not.
        require(
            0 < self.learning_rate <= 1e100, "learning_rate", self.learning_rate, "above 0 and at most 1e100"
        )
        require_all(self.escort_powers, "escort_powers", lambda p: 1 <= p < math.inf, "finite and ≥ 1")
        require_all(self.corner_probs, "corner_probs", lambda q: 0 < q < 1 / 3, "in (0, 1/3)")
        for field in ("grid", "surface_grid"):
            require(getattr(self, field) >= 3, field, getattr(self, field), "an integer ≥ 3")
        require_count(self.max_steps, "max_steps")
        for field in ("max_steps", "num_points"):
            require(getattr(self, field) >= 10, field, getattr(self, field), "an integer ≥ 10")

    def _points(self, bandit: Bandit, contender: Contender, starts: Starts) -> dict[str, np.ndarray]:
        """The paths, start after start."""
        steps = log_spaced(self.max_steps, self.num_points)
        path = trajectory(bandit, contender.method, starts.probs, steps)
        sides = lojasiewicz_along(bandit, path, contender.p)
        records, count = path.suboptimality.shape
        index = np.repeat(np.arange(count), records)
        columns = _of_method(contender, len(index)) | {"kind": starts.kinds[index], "start": index}
        columns["step"] = np.tile(steps, count)
        for a in range(3):
            columns[f"prob_{a}"] = path.probs[:, a].T.ravel()
        measured = {
            "suboptimality": path.suboptimality,
            "coefficient": sides.coefficient,
            "gradient_norm": sides.gradient_norm,
            "sign_flips": path.sign_flips,
        }
        columns |= {name: values.T.ravel() for name, values in measured.items()}
        late = late_suboptimality(self.rewards, self.learning_rate, contender.p, steps)
        return columns | {"late_law": np.tile(late, count)}

    def _ends(
        self, bandit: Bandit, contender: Contender, starts: Starts, points: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """When each start escaped and arrived, and the flattest place on its way."""
        count = len(starts.kinds)
        escape = np.full(count, math.nan)
        for corner in set(starts.corners.tolist()) - {-1}:
            lacking = max(self.rewards) - self.rewards[corner]
            times = escape_time(bandit, contender.method, starts.probs, 0.9 * lacking, self.max_steps)
            here = starts.corners == corner
            escape[here] = np.where(times.censored, math.inf, times.steps)[here]
        arrival = escape_time(bandit, contender.method, starts.probs, ARRIVED, self.max_steps)
        per_start = (count, -1)
        return _of_method(contender, count) | {
            "kind": starts.kinds,
            "start": np.arange(count),
            "escape_steps": escape,
            "arrival_steps": np.where(arrival.censored, math.inf, arrival.steps),
            "smallest_coefficient": points["coefficient"].reshape(per_start).min(axis=1),
            "sign_flips": points["sign_flips"].reshape(per_start)[:, -1],
        }

    def _surface(self, bandit: Bandit, contender: Contender) -> dict[str, np.ndarray]:
        """Both sides of the NŁ inequality over the simplex, a little inside it: at the corner 0/0 says nothing."""
        probs = (1 - _INSIDE) * simplex_grid(self.surface_grid) + _INSIDE / 3
        sides = lojasiewicz(bandit, probs, contender.p)
        columns = _of_method(contender, probs.shape[1])
        return columns | {f"prob_{a}": probs[a] for a in range(3)} | sides._asdict()

    def _answers(self, tables: Mapping[str, Any]) -> list[str]:
        points, ends = tables[""], tables["starts"]
        names = [contender.method.name for contender in self.contenders()]
        said = []
        for corner in sorted({a for a in range(3) if self.rewards[a] < max(self.rewards)}):
            depth = min(self.corner_probs)
            kind, lacking = self.corner_name(corner, depth), max(self.rewards) - self.rewards[corner]
            among_equals = float(predicted_escape_time("SPG", depth, lacking, self.learning_rate))
            here = ends["kind"] == kind
            times = [ends["escape_steps"][here & (ends["method"] == name)][0] for name in names]
            listed = ", ".join(f"{name} {shown(t)}" for name, t in zip(names, times, strict=True))
            said.append(
                f"Updates to escape from the {kind}: {listed}; SPG's law where all other actions pay the same as "
                f"the corner is {shown(among_equals)}."
            )
        bound = points["coefficient"] * points["suboptimality"]
        holds = int(np.sum(points["gradient_norm"] >= bound * (1 - 1e-9)))
        said.append(f"The NŁ inequality holds at {holds:,} of {len(bound):,} recorded points.")
        last = (points["step"] == self.max_steps) & (points["kind"] == UNIFORM)
        ratios = points["suboptimality"][last] / points["late_law"][last]
        held = [f"{name} {r:.3f}" for name, r in zip(names, ratios, strict=True) if not math.isnan(r)]
        said.append(
            f"After {self.max_steps:,} updates from the uniform policy the sub-optimality, in units of the "
            f"gradient flow's law, is: {', '.join(held)}."
        )
        return said


def simplex_grid(size: int) -> Float[np.ndarray, "3 points"]:
    """Every policy over three actions whose probabilities are multiples of 1/size.

    Example:
        >>> print(simplex_grid(1))
        [[0. 0. 1.]
         [0. 1. 0.]
         [1. 0. 0.]]
    """
    return np.array([(i, j, size - i - j) for i in range(size + 1) for j in range(size + 1 - i)]).T / size


def late_suboptimality(
    rewards: Sequence[float], rate: float, p: float | None, steps: np.ndarray
) -> Float[np.ndarray, " steps"]:
    """What the sub-optimality of a K-armed bandit tends to, whatever the start: a law without free constants.

    Near the best corner softmax's y_b = π_b·Δ_b obey d ln y_b/dt = −η(y_b + Σy), which makes them equal, so
    Σy → (K − 1)/(K·η·t). An escort's θ_b obey dθ_b/dt = −(η/p)·Δ_b·θ_b^{p−1} at ‖θ‖_p = 1, so that
    π_b → ((p − 2)·η·Δ_b·t/p)^{−p/(p−2)}.

    Args:
        rewards: r, one of them the largest.
        rate: η; an escort's is η‖θ‖_p²/p².
        p: exponent of the escort transform; None for softmax.
        steps: t.

    Returns:
        The sub-optimality; NaN at t = 0, and for p ≤ 2, where the start's distance stays a factor.

    Example:
        >>> print(late_suboptimality([1.0, 0.5], 0.5, None, np.array([1000])))
        [0.001]
    """
    time = np.where(steps > 0, steps, np.nan)
    lacking = max(rewards) - np.asarray(rewards)
    lacking = lacking[lacking > 0]
    if p is None:
        return len(lacking) / ((len(lacking) + 1) * rate * time)
    if p <= 2:
        return np.full(len(time), math.nan)
    others = ((p - 2) * rate * lacking[:, None] * time / p) ** (-p / (p - 2))
    return (lacking[:, None] * others).sum(axis=0)


def shown(steps: float) -> str:
    """A number of updates for people: infinite ones were never seen, NaN has no meaning here."""
    return "–" if math.isnan(steps) else "never" if math.isinf(steps) else f"{steps:,.0f}"


def _of_method(contender: Contender, rows: int) -> dict[str, np.ndarray]:
    p = math.nan if contender.p is None else float(contender.p)
    return {"method": np.full(rows, contender.method.name), "p": np.full(rows, p)}


def _stacked(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _summary(ends: Mapping[str, np.ndarray]) -> Summary:
    rows = []
    for method in dict.fromkeys(ends["method"].tolist()):
        for kind in dict.fromkeys(ends["kind"].tolist()):
            here = (ends["method"] == method) & (ends["kind"] == kind)
            name = f"{kind} (slowest of {here.sum()})" if kind == GRID else kind
            slowest = [shown(ends[field][here].max()) for field in ("escape_steps", "arrival_steps")]
            flattest = float(ends["smallest_coefficient"][here].min())
            rows.append([method, name, *slowest, flattest, int(ends["sign_flips"][here].sum())])
    headings = ["method", "start", "updates to escape", f"to a gap < {ARRIVED:g}"]
    return Summary([*headings, "smallest NŁ coefficient", "sign flips"], rows)
