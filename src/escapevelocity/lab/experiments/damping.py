"""How fast cross-entropy falls on a one-hot target, under softmax and under escort (figure 6)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np

from escapevelocity.errors import require
from escapevelocity.lab.damping import DampingCurve, damping_curve, damping_exponent, log_log_slope
from escapevelocity.lab.experiments.experiment import (
    Experiment,
    Findings,
    Summary,
    Track,
    require_all,
    silently,
)
from escapevelocity.lab.simulate import require_count
from escapevelocity.policy import CrossEntropy, EscortCrossEntropy, SoftmaxCrossEntropy
from escapevelocity.policy.escort import FLOOR

EXPONENTIAL_WINDOW = (1e-18, 1e-5)
"""The rate of p = 2 is fitted where KL lies in between: near the target, and above the floor of |θ|."""


FLOORED = "at the floor"
"""What stands in place of a number that a loss reached the floor of |θ| too early for."""


class Contender(NamedTuple):
    """A loss with its exponent; p is None for softmax."""

    name: str
    loss: CrossEntropy
    p: float | None


@dataclasses.dataclass(frozen=True)
class Damping(Experiment):
    """How fast does cross-entropy fall near a one-hot target, and does the law of each loss hold?

    Plain gradient descent on KL(y‖π) of one sample, from the uniform policy (logits 0, or θ = 1).
    """

    question: ClassVar[str] = (
        "How fast does cross-entropy fall under softmax and escort, and do the laws hold?"
    )
    quick: ClassVar[Mapping[str, Any]] = {"num_steps": 20_000, "num_points": 400}

    escort_powers: tuple[float, ...] = (4.0, 3.0, 2.0, 1.5)
    """Exponents p ≥ 1 of the escort cross-entropies (ECE)."""
    num_classes: int = 10
    """K, at least 2."""
    learning_rate: float = 0.1
    """η of gradient descent, > 0; the laws are those of small steps."""
    num_steps: int = 200_000
    """Steps of descent, at least 100; slopes are fitted over the last tenth to all of them."""
    num_points: int = 1000
    """Recorded points, evenly spaced in the logarithm of the step; at least 50."""

    def run(self, track: Track = silently) -> Findings:
        """Descend every loss and fit its law."""
        self._check()
        curves, fits = [], []
        for contender in track(self.contenders(), lambda one: one.name):
            start = np.full(self.num_classes, 0.0 if contender.p is None else 1.0)
            curve = damping_curve(
                contender.loss, start, 0, self.learning_rate, self.num_steps, self.num_points
            )
            curves.append(self._columns(contender, curve))
            fits.append(self._fit(contender, curve))
        tables = {"": _stacked(curves), "fits": _stacked(fits)}
        return Findings(tables, _summary(tables["fits"], self.num_classes), self._answers(tables["fits"]))

    def contenders(self) -> list[Contender]:
        """SCE, and ECE with every exponent."""
        escorts = [Contender(f"ECE({p:g})", EscortCrossEntropy(p), p) for p in self.escort_powers]
        return [Contender("SCE", SoftmaxCrossEntropy(), None), *escorts]

    def _check(self) -> None:
        require_all(self.escort_powers, "escort_powers", lambda p: 1 <= p < math.inf, "finite and ≥ 1")
        require(self.num_classes >= 2, "num_classes", self.num_classes, "an integer ≥ 2")
        positive = 0 < self.learning_rate < math.inf
        require(positive, "learning_rate", self.learning_rate, "a finite number > 0")
        # There the first step of ECE(2) takes θ(b) to 0; far beyond, no number that comes out has a meaning.
        accepted = f"below {self.num_classes / 2:g}, num_classes/2: the laws are those of small steps"
        require(self.learning_rate < self.num_classes / 2, "learning_rate", self.learning_rate, accepted)
        require_count(self.num_steps, "num_steps")
        require(self.num_steps >= 100, "num_steps", self.num_steps, "an integer ≥ 100")
        require(self.num_points >= 50, "num_points", self.num_points, "an integer ≥ 50")

    def _columns(self, contender: Contender, curve: DampingCurve) -> dict[str, np.ndarray]:
        law = late_law(contender.p, self.num_classes, self.learning_rate, curve.steps)
        names = {"loss": np.full(len(curve.steps), contender.name), "p": _powers(contender, len(curve.steps))}
        return names | curve._asdict() | {"kl_law": law.kl, "gradient_norm_law": law.gradient_norm}

    def _fit(self, contender: Contender, curve: DampingCurve) -> dict[str, np.ndarray]:
        """The numbers of one loss, each NaN where its law has no such number."""
        p, k, rate = contender.p, self.num_classes, self.learning_rate
        fit = dict.fromkeys(
            ["exponent", "fitted_exponent", "fitted_gradient_exponent", "decay", "fitted_decay",
             "arrival", "arrival_law", "jitter", "jitter_law"], math.nan
        )  # fmt: skip
        if p is None or p > 2:
            window = (self.num_steps / 10, self.num_steps)
            fit["exponent"] = damping_exponent(contender.loss)
            if not _at_floor(p, k, curve.kl[-1]):
                fit["fitted_exponent"] = log_log_slope(curve.steps, curve.kl, *window)
                fit["fitted_gradient_exponent"] = log_log_slope(curve.steps, curve.gradient_norm, *window)
        elif p == 2:
            fit["decay"], fit["fitted_decay"] = 4 * rate / k, fitted_decay(curve)
        else:
            fit["arrival_law"], fit["jitter_law"] = arrival_step(p, k, rate), jitter(p, k, rate)
            arrived = np.flatnonzero(curve.sign_flips)
            if arrived.size:
                fit["arrival"] = float(curve.steps[arrived[0]])
                # Over one more arrival time: later the norm of θ has grown, and the jitter with it shrunk.
                soon = (curve.steps > fit["arrival"]) & (curve.steps <= 2 * fit["arrival"])
                fit["jitter"] = float(np.median(curve.kl[soon])) if soon.any() else math.nan
        last = {"last_kl": curve.kl[-1] + 0.0, "sign_flips": curve.sign_flips[-1]}
        columns = {"loss": contender.name, "p": _powers(contender, 1)[0]} | fit | last
        return {name: np.array([value]) for name, value in columns.items()}

    def _answers(self, fits: Mapping[str, Any]) -> list[str]:
        said = []
        for i, loss in enumerate(fits["loss"]):
            one = {name: column[i] for name, column in fits.items()}
            why = unmeasured(one, self.num_classes)
            if why == FLOORED:
                said.append(
                    f"{loss}: reached the floor of |θ|, KL = {one['last_kl']:.2g}, before its law, {_law(one)}, "
                    "could be measured."
                )
            elif why and not math.isnan(one["decay"]):
                said.append(f"{loss}: is not yet near the target after {self.num_steps:,} steps.")
            elif not math.isnan(one["exponent"]):
                said.append(
                    f"{loss}: KL falls as t^{one['fitted_exponent']:.3f} over the last decade of steps "
                    f"(law {one['exponent']:.3f})."
                )
            elif not math.isnan(one["decay"]):
                said.append(
                    f"{loss}: KL falls as e^(−ct) with c = {one['fitted_decay']:.4g} (law {one['decay']:.4g})."
                )
            elif why:
                said.append(f"{loss}: has not arrived within {self.num_steps:,} steps.")
            else:
                said.append(
                    f"{loss}: arrives after {one['arrival']:.0f} steps (flow: {one['arrival_law']:.0f}), then "
                    f"jitters at KL = {one['jitter']:.2g} ({_jitter_law(one)}) with {one['sign_flips']:,} sign "
                    f"flips in all."
                )
        return said


class LateLaw(NamedTuple):
    """What KL and the gradient's norm tend to under the flow from the uniform start, each (R,)."""

    kl: np.ndarray
    gradient_norm: np.ndarray


def late_law(p: float | None, num_classes: int, rate: float, steps: np.ndarray) -> LateLaw:
    """The laws with their constants, for small KL.

    From the uniform start all wrong classes stay equal, θ(b) = v, and the flow keeps ‖θ‖₂² = K. With softmax,
    π(b) → 1/(K·η·t). With an escort dv/dt = −η·p·v^{p−1}/K^{p/2} near the target, so
    v → ((p − 2)·p·η·t/K^{p/2})^{−1/(p−2)} for p > 2, and v = e^{−2ηt/K} for p = 2 from the start on.

    Args:
        p: exponent of the escort transform; None for softmax.
        num_classes: K.
        rate: η.
        steps: t.

    Returns:
        NaN at t = 0, and for p < 2, where the target is reached in finite time (`arrival_step`).
    """
    time, k = np.where(steps > 0, steps, np.nan), num_classes
    if p is None:
        wrong = 1 / (k * rate * time)
        return LateLaw((k - 1) * wrong, math.sqrt(k * (k - 1)) * wrong)
    if p < 2:
        return LateLaw(np.full(len(time), math.nan), np.full(len(time), math.nan))
    if p == 2:
        share = np.exp(-2 * rate * time / k) / math.sqrt(k)
    else:  # v/√K, whose powers stay finite where K^(p/2) does not
        share = ((p - 2) * p * rate * time / k) ** (-1 / (p - 2))
    return LateLaw((k - 1) * share**p, math.sqrt((k - 1) / k) * p * share ** (p - 1))


def arrival_step(p: float, num_classes: int, rate: float) -> float:
    """When the flow reaches the target from the uniform start, for 1 ≤ p < 2.

    dv/dt = −η·p·v^{p−1}/(w^p + (K − 1)v^p) with w² + (K − 1)v² = K; in s = v^{2−p} the integrand is bounded.

    Example:
        >>> print(f"{arrival_step(1.5, 10, 0.1):.0f}")
        94
    """
    others, points = num_classes - 1, 10_000
    s = (np.arange(points) + 0.5) / points
    v = s ** (1 / (2 - p))
    norm = (num_classes - others * v**2) ** (p / 2) + others * v**p
    return float(norm.mean() / (rate * p * (2 - p)))


def jitter(p: float, num_classes: int, rate: float) -> float:
    """KL after the arrival, for 1 ≤ p < 2, with ‖θ‖₂² still K: every wrong θ(b) jumps from v to −v.

    2v = η·p·v^{p−1}/K^{p/2}, a stable orbit for 1 < p < 2. For p = 1 any v up to a whole step, η/√K, stays:
    then this is the largest KL.

    Example:
        >>> print(f"{jitter(1.5, 10, 0.1):.2e}")
        3.80e-06
    """
    k = num_classes
    step = rate * p / k ** (p / 2)
    v = step if p == 1 else (step / 2) ** (1 / (2 - p))
    return (k - 1) * (v / math.sqrt(k)) ** p


def fitted_decay(curve: DampingCurve) -> float:
    """Least-squares c of KL ~ e^{−ct} within `EXPONENTIAL_WINDOW`; NaN with fewer than three points there."""
    lowest, highest = EXPONENTIAL_WINDOW
    window = (curve.kl > lowest) & (curve.kl < highest)
    if window.sum() < 3:
        return math.nan
    return -float(np.polyfit(curve.steps[window], np.log(curve.kl[window]), 1)[0])


def _powers(contender: Contender, rows: int) -> np.ndarray:
    return np.full(rows, math.nan if contender.p is None else float(contender.p))


def _stacked(tables: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _jitter_law(fit: Mapping[str, Any]) -> str:
    return f"{'at most' if fit['p'] == 1 else 'law'} {fit['jitter_law']:.2g}"


def unmeasured(fit: Mapping[str, Any], num_classes: int) -> str:
    """Why there is no number beside a loss's law: `FLOORED`, "not yet", or nothing where there is one."""
    if not all(math.isnan(fit[name]) for name in ("fitted_exponent", "fitted_decay", "arrival")):
        return ""
    return FLOORED if _at_floor(fit["p"], num_classes, fit["last_kl"]) else "not yet"


def _at_floor(p: float | None, num_classes: int, kl: float) -> bool:
    """Whether KL has come down to where every wrong |θ| is at the escort's floor, and has no gradient any more."""
    return p is not None and bool(
        kl <= 2 * (num_classes - 1) * FLOOR**p
    )  # softmax's p, None or NaN, has no floor


def _law(fit: Mapping[str, Any]) -> str:
    if not math.isnan(fit["exponent"]):
        return f"t^{fit['exponent']:.4g}"
    if not math.isnan(fit["decay"]):
        return f"e^(−{fit['decay']:.4g}·t)"
    return f"0 at t = {fit['arrival_law']:.0f}"


def _measured(fit: Mapping[str, Any]) -> str:
    if not math.isnan(fit["exponent"]):
        return f"t^{fit['fitted_exponent']:.3f}"
    if not math.isnan(fit["decay"]):
        return f"e^(−{fit['fitted_decay']:.4g}·t)"
    return f"t = {fit['arrival']:.0f}"


def _summary(fits: Mapping[str, Any], num_classes: int) -> Summary:
    rows = []
    for i, loss in enumerate(fits["loss"]):
        one = {name: column[i] for name, column in fits.items()}
        found = unmeasured(one, num_classes) or _measured(one)
        jitters = [one["jitter"], "–" if math.isnan(one["jitter_law"]) else _jitter_law(one)]
        rows.append([loss, _law(one), found, float(one["last_kl"]), int(one["sign_flips"]), *jitters])
    headings = ["loss", "law of KL", "measured", "KL at the end", "sign flips", "jitter (KL)", "its size"]
    return Summary(headings, rows)
