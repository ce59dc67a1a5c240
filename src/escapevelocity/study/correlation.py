"""How far the five definitions of rank agree along a run (Moalla et al. 2024, Appendix E, Figures 36–41)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from escapevelocity.errors import require

RANKS = ("effective_rank", "feature_rank_pca", "srank", "feature_rank_lyle", "numerical_rank")
"""The columns compared, in the paper's order (there: Vetterli, PCA, Kumar, Lyle, PyTorch); its code reads those
measured after the update, `health/actor/NAME_after`, as recorded: thinned to 0.1 %, not smoothed."""

CONSTANT = 1e-12
"""A curve that moves by no more than this share of its size is constant."""


@dataclass(frozen=True)
class Agreement:
    """Pairwise agreement of K curves: symmetric K×K matrices, NaN where undefined."""

    kendall: Float[np.ndarray, "K K"]
    """Kendall's τ-b, which allows for ties."""
    spearman: Float[np.ndarray, "K K"]
    pearson: Float[np.ndarray, "K K"]
    distance: Float[np.ndarray, "K K"]
    """L2 distance over √T·D: the root mean square difference as a share of the width; the paper draws 1 − it."""


@dataclass(frozen=True)
class AgreementOverRuns:
    """Agreement over the runs of a study."""

    mean: Agreement
    """Mean over the runs in which a pair is defined."""
    worst: Agreement
    """Least correlation and greatest distance over the same runs."""
    defined: Int[np.ndarray, "K K"]
    """Runs in which a pair's correlations are defined: those that mean and worst are over."""
    constant: Int[np.ndarray, " K"]
    """Runs in which a curve is constant (or never measured), of all runs given."""
    left_out: tuple[int, ...]
    """Indices of the runs left out altogether."""


def agreement(curves: Float[np.ndarray, "K T"], width: int) -> Agreement:
    """Compare the curves of one run, pair by pair, over the points at which both are defined.

    Args:
        curves: one row for each definition of rank, NaN where it was not measured.
        width: D, the number of features.

    Returns:
        Correlations are NaN where one of the two curves is constant over their shared points or they share
        fewer than two; the distance where they share none. A curve agrees with itself: 1, and distance 0.

    Raises:
        UserError: when `curves` is not a matrix or `width` is not positive.
    """
    require(curves.ndim == 2, "curves.shape", curves.shape, "(curves, points)")
    require(width >= 1, "width", width, "at least 1")
    count = len(curves)
    matrices = np.full((4, count, count), np.nan)
    for i in range(count):
        for j in range(i, count):
            both = np.isfinite(curves[i]) & np.isfinite(curves[j])
            x, y = (np.asarray(curve[both], np.float64) for curve in (curves[i], curves[j]))
            matrices[:, i, j] = matrices[:, j, i] = _pair(x, y, width)
    return Agreement(*matrices)


def agreement_over_runs(
    runs: Sequence[Float[np.ndarray, "K _"]], widths: int | Sequence[int], *, leave_out_constant: bool = True
) -> AgreementOverRuns:
    """Compare the curves within each run (of one seed), then take the mean and the worst case over runs.

    **Left out.** The paper leaves out "runs that collapse at once". By its code these are the runs in which *any* of
    the curves is constant over all its defined points (one defined at fewer than two included). That also
    meets a healthy run whose numerical rank stands at D throughout, as small networks' does: `constant` says
    which rank it was. With `leave_out_constant=False` such runs stay, and only the pairs with a constant
    curve are undefined in them.

    Source:
        Moalla et al. 2024, Appendix E and code. The code divides distances by 512 for every network; here by
        each one's width.

    Args:
        runs: of each run the curves (K, T), NaN where not measured; T may differ between runs.
        widths: D of all runs, or of each.
        leave_out_constant: whether a run with a constant curve is left out altogether.

    Returns:
        Matrices of NaN, with counts of 0, where no run is left.

    Raises:
        UserError: when there is no run, the numbers of curves or widths differ, or a width is not positive.
    """
    require(len(runs) > 0, "runs", len(runs), "at least one run")
    require(
        len({len(curves) for curves in runs}) == 1, "curves", [len(c) for c in runs], "as many in every run"
    )
    each = [widths] * len(runs) if isinstance(widths, int) else list(widths)
    require(len(each) == len(runs), "widths", widths, f"one, or one for each of the {len(runs)} runs")
    constant = np.array([[_is_constant(curve) for curve in curves] for curves in runs])
    dropped = [leave_out_constant and bool(row.any()) for row in constant]
    kept = [
        agreement(curves, width) for curves, width, drop in zip(runs, each, dropped, strict=True) if not drop
    ]
    names = ("kendall", "spearman", "pearson", "distance")
    size = len(runs[0])
    stacks = {name: np.array([getattr(run, name) for run in kept]).reshape(-1, size, size) for name in names}
    # A pair whose correlations are undefined has a distance all the same; left in, the two would be over
    # different runs.
    stacks["distance"] = np.where(np.isnan(stacks["pearson"]), np.nan, stacks["distance"])
    worst = {name: np.fmax.reduce if name == "distance" else np.fmin.reduce for name in names}
    return AgreementOverRuns(
        mean=Agreement(*(_reduced(stacks[name], _mean) for name in names)),
        worst=Agreement(*(_reduced(stacks[name], worst[name]) for name in names)),
        defined=(~np.isnan(stacks["pearson"])).sum(axis=0),
        constant=constant.sum(axis=0),
        left_out=tuple(np.flatnonzero(dropped).tolist()),
    )


def _pair(x: np.ndarray, y: np.ndarray, width: int) -> tuple[float, float, float, float]:
    distance = float(np.sqrt(np.mean((x - y) ** 2)) / width) if x.size else np.nan
    if _is_constant(x) or _is_constant(y):
        return np.nan, np.nan, np.nan, distance
    # pyright does not know the fields of SciPy's results.
    tests: list[Any] = [stats.kendalltau(x, y), stats.spearmanr(x, y), stats.pearsonr(x, y)]
    kendall, spearman, pearson = (float(test.statistic) for test in tests)
    return kendall, spearman, pearson, distance


def _is_constant(curve: np.ndarray) -> bool:
    values = curve[np.isfinite(curve)]
    # Less than rounding leaves of a correlation is no change.
    return values.size < 2 or bool(np.ptp(values) <= CONSTANT * np.abs(values).max())


def _mean(stack: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(stack)
    counts = defined.sum(axis=0)
    sums = np.where(defined, stack, 0.0).sum(axis=0)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def _reduced(stack: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return reduce(stack) if len(stack) else np.full(stack.shape[1:], np.nan)
