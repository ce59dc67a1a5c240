"""A well in a curve as numbers: how deep it is, when it began, how long it lasted, what it cost, what came of it.

The curve is a measure that should rise, such as Recall@1, over steps; between its points it is taken as straight. M is
its running maximum, the drop at a point is M − value. Sources: Dou et al. 2022 (the "ASR gravity well": curves plunge
before they climb above the others); the measures are ours. A shift of the values changes no measure but `final`, a
factor multiplies depth, area, final and gain, and a factor on the steps multiplies onset, bottom, duration and area.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import UserError, require
from escapevelocity.health._arrays import as_numpy
from escapevelocity.health.measured import Measured, explain

TO_STD = 1 / 0.6744897501960817
"""Standard deviation of a normal distribution over its median absolute value."""

NOISE_POINTS = 8
"""Six residuals: their median is none of the two corners that a well has."""

_NO_WELL = "the curve never falls below its running maximum by more than its noise"


def curve_noise(steps: Any, values: Any) -> float:
    """Estimate the standard deviation of the noise on a curve, whatever its course.

    1.4826 · median |r_i| with r_i = (v_i − a·v_{i−1} − b·v_{i+1})/√(1 + a² + b²), where a·v_{i−1} + b·v_{i+1} is the
    straight line between the neighbours: the pseudo-residuals of Gasser, Sroka & Jennen-Steinmetz 1986 (Biometrika 73,
    625–633), by their median, so that a few corners do not count. For independent normal noise on a curve that is
    straight from point to point it is consistent; a curve of straight pieces without noise has 0.

    Args:
        steps: rising.
        values: alike; those that are not finite are left out.

    Returns:
        The standard deviation; NaN with fewer than eight points, where corners would be taken for noise.

    Raises:
        UserError: see `measure_well`.

    Example:
        >>> curve_noise(range(9), [0.0, 1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0, 0.0])
        0.0
    """
    return _noise(*_curve(steps, values, "values"))


def noise_depth(noise: float, points: int) -> float:
    """Give the depth up to which a drop may be noise: 2·σ·√(2·ln n).

    The expected largest of n independent normal values is at most σ·√(2·ln n) above their mean, and the least as far
    below it; a curve that only wavers falls no deeper than from the one to the other, and rarely so far.

    Args:
        noise: σ of one point; NaN counts as 0.
        points: n.

    Example:
        >>> round(noise_depth(0.01, 100), 4)
        0.0607
    """
    return 2 * noise * math.sqrt(2 * math.log(points)) if points > 1 and noise == noise else 0.0


def measure_well(
    steps: Any,
    values: Any,
    *,
    window: int = 1,
    min_depth: float | int | None = None,
    reference: tuple[Any, Any] | None = None,
) -> Measured:
    """Measure the deepest well of a curve.

    Args:
        steps: (n,), rising.
        values: (n,); those that are not finite are left out with their steps.
        window: odd number of points of a centred running mean that the curve is smoothed by; at its ends over the
            points that there are on both sides. 1 leaves it as it is.
        min_depth: a drop of at most this depth is no well; by default `noise_depth` of the curve's own noise, which
            smoothing divides by √window, and 0 where there are too few points to tell noise.
        reference: steps and values of another curve, smoothed alike, for `final_gain`.

    Returns:
        `depth`: the largest drop, 0 without a well;
        `onset`: step of the running maximum at the deepest point, where the drop begins; its last point, of several;
        `bottom`: step of the deepest point;
        `duration`: steps from the onset until the old maximum is regained, between points by straight lines; 0 without
        a well, NaN where it is never regained (`censored` is then 1, else 0);
        `lasted`: the same, where it is never regained until the last point: what a survival analysis needs;
        `area`: ∫ max(0, M − value) d step over the whole curve, trapezoidal between its points; 0 without a well;
        `final`: the last value;
        `final_gain`: final − the reference's final;
        `noise`, `min_depth`: of a point of the smoothed curve, and what was taken as noise.
        What is undefined is NaN with a reason: all of them with fewer than two points, onset and bottom without a well.

    Raises:
        UserError: arrays that are not one-dimensional or not of equal length, steps that do not rise, a window that is
            not odd, a negative `min_depth`.

    Example:
        >>> found = measure_well([0, 10, 20, 40], [0.0, 1.0, 0.4, 1.2])
        >>> {name: round(found.values[name], 6) for name in ("depth", "onset", "duration", "area")}
        {'depth': 0.6, 'onset': 10.0, 'duration': 25.0, 'area': 9.0}
    """
    require(window >= 1 and window % 2 == 1, "window", window, "an odd number of at least 1")
    fine = min_depth is None or 0 <= min_depth < math.inf
    require(fine, "min_depth", min_depth, "a finite number of at least 0, or None")
    x, raw = _curve(steps, values, "values")
    if len(x) < 2:
        return explain(dict.fromkeys(_NAMES, math.nan), f"a well needs two points, there are {len(x)}")
    y = _smoothed(raw, window)
    noise = _noise(x, raw) / math.sqrt(window)
    least = noise_depth(noise, len(x)) if min_depth is None else float(min_depth)
    found: dict[str, object] = {"final": y[-1], "noise": noise, "min_depth": least}
    reasons = {"noise": f"noise needs {NOISE_POINTS} points, there are {len(x)}"}
    gain, reasons["final_gain"] = _gain(float(y[-1]), reference, window)
    running = np.maximum.accumulate(y)
    drops = running - y
    bottom = int(drops.argmax())
    if drops[bottom] <= least:
        found |= dict.fromkeys(("depth", "duration", "lasted", "area", "censored"), 0.0)
        reasons |= dict.fromkeys(("onset", "bottom"), _NO_WELL)
        return _ordered(found | {"final_gain": gain}, reasons)
    onset = float(x[np.flatnonzero(y[: bottom + 1] == running[bottom])[-1]])
    regained = _regained(x, y, bottom, float(running[bottom]))
    duration = regained - onset
    reasons["duration"] = f"the old maximum is not regained by the last step, {x[-1]:g}"
    censored = math.isnan(duration)
    found |= {
        "depth": drops[bottom],
        "onset": onset,
        "bottom": x[bottom],
        "duration": duration,
        "censored": float(censored),
        "lasted": x[-1] - onset if censored else duration,
        "area": float(np.sum((drops[1:] + drops[:-1]) / 2 * np.diff(x))),
        "final_gain": gain,
    }
    return _ordered(found, reasons)


_NAMES = (
    "depth", "onset", "bottom", "duration", "censored", "lasted", "area", "final", "final_gain", "noise", "min_depth",
)  # fmt: skip


def _ordered(found: Mapping[str, object], reasons: Mapping[str, str]) -> Measured:
    return explain({name: found.get(name, math.nan) for name in _NAMES}, reasons)


def _gain(final: float, reference: tuple[Any, Any] | None, window: int) -> tuple[float, str]:
    """The gain over a reference curve, and why there is none."""
    if reference is None:
        return math.nan, "no reference curve was given"
    _, raw = _curve(*reference, "reference")
    if len(raw) == 0:
        return math.nan, "the reference curve has no finite value"
    return final - float(_smoothed(raw, window)[-1]), ""


def _regained(x: np.ndarray, y: np.ndarray, bottom: int, maximum: float) -> float:
    """Step after the bottom at which the curve is at `maximum` again, on the line between points; NaN if never."""
    above = np.flatnonzero(y[bottom:] >= maximum)
    if len(above) == 0:
        return math.nan
    after = bottom + int(above[0])
    share = (maximum - y[after - 1]) / (y[after] - y[after - 1])
    return float(x[after - 1] + share * (x[after] - x[after - 1]))


def _noise(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < NOISE_POINTS:
        return math.nan
    before = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    after = 1 - before
    residuals = y[1:-1] - before * y[:-2] - after * y[2:]
    return float(TO_STD * np.median(np.abs(residuals) / np.sqrt(1 + before**2 + after**2)))


def _smoothed(y: np.ndarray, window: int) -> np.ndarray:
    """Centred running mean; where the window would reach beyond an end, it is narrowed on both sides."""
    half = window // 2
    if half == 0:
        return y
    index = np.arange(len(y))
    reach = np.minimum(half, np.minimum(index, len(y) - 1 - index))
    # Sums of deviations from the mean: large values would cancel.
    centre = y.mean()
    sums = np.concatenate([[0.0], np.cumsum(y - centre)])
    return centre + (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)


def _curve(
    steps: Any, values: Any, field: str
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Steps and values of the points whose value is finite, float64."""
    x, y = (as_numpy(array, name, min_ndim=1) for array, name in ((steps, "steps"), (values, field)))
    if x.ndim != 1 or x.shape != y.shape:
        raise UserError(f"{field} has shape {y.shape}: must be one value for each of steps, {x.shape}")
    kept = np.isfinite(y)
    x, y = x[kept].astype(np.float64), y[kept].astype(np.float64)
    rising = bool(np.isfinite(x).all() and (np.diff(x) > 0).all())
    require(rising, "steps", "not rising", "finite numbers, each above the one before")
    return x, y
