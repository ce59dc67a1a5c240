"""What speaks for and against an ASR gravity well, in sentences with numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from escapevelocity.health._memory import number
from escapevelocity.health.context import Context
from escapevelocity.health.signs import RETRIEVAL_COLUMNS
from escapevelocity.health.thresholds import Thresholds
from escapevelocity.health.verdict import MULTIPLICATIVE_WELL, SAMPLER_CAUSES, Cause, Verdict
from escapevelocity.health.wells import measure_well

_ASR_WELL = SAMPLER_CAUSES[Verdict.ASR_GRAVITY_WELL]

_LEAST_RATIO = 1e-50
"""1e-25/1e25, what actions are clipped to: a share that was rounded to 0 is no further below the largest."""


def well_evidence(
    rows: Sequence[Mapping[str, Any]], thresholds: Thresholds, context: Context, cause: Cause | None
) -> tuple[str, ...]:
    """Tell of the deepest well in retrieval, and of the sampler if the run is in one.

    Args:
        rows: one seed's records, in order.
        thresholds: what counts as undecided.
        context: the run's settings.
        cause: what made the verdict.
    """
    told = [_plunge(rows)]
    if cause in (_ASR_WELL, MULTIPLICATIVE_WELL):
        told.append(_validation(rows))
    if cause is _ASR_WELL:
        told += [_distribution(rows, context), _controller(rows, thresholds)]
    return tuple(text for text in [*told, _way_up(rows, context)] if text)


def _plunge(rows: Sequence[Mapping[str, Any]]) -> str:
    column = next((c for c in RETRIEVAL_COLUMNS if len(_series(rows, c)[0])), "")
    well = measure_well(*_series(rows, column)).values
    if not well["depth"] > 0:
        return ""
    end = f"has not regained it in {well['lasted']:,.0f} steps"
    if not well["censored"]:
        end = f"regained it {well['duration']:,.0f} steps after"
    noise = f"; up to {well['min_depth']:.2g} would be noise" if well["min_depth"] > 0 else ""
    return (
        f"{column} fell by {well['depth']:.3g} from its best at step {well['onset']:,.0f} to step "
        f"{well['bottom']:,.0f} and {end}{noise}"
    )


def _validation(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the classes that the controller is paid for fell as well, where the test classes did."""
    test, validation = (_series(rows, column) for column in RETRIEVAL_COLUMNS)
    if len(test[0]) == 0 or len(validation[0]) < 2:
        return ""
    well = measure_well(*validation).values
    if well["depth"] > 0:
        return (
            f"for it: the validation classes fell too, by {well['depth']:.3g} from step {well['onset']:,.0f}"
        )
    return "against it: the validation classes did not fall"


def _distribution(rows: Sequence[Mapping[str, Any]], context: Context) -> str:
    _, entropy = _series(rows, "asr/entropy")
    q = _newest_distribution(rows)
    bins = context.bins or (len(q) if q is not None else None)
    if len(entropy) == 0 or bins is None:
        return ""
    first, last = entropy[0] / math.log(bins), entropy[-1] / math.log(bins)
    return (
        f"for it: the sampling distribution began with {first:.0%} of the largest entropy{_distances(rows, 0)} and "
        f"has {last:.0%} now{_distances(rows, -1)}"
    )


def _distances(rows: Sequence[Mapping[str, Any]], index: int) -> str:
    mean, std = (_series(rows, f"asr/distance_{name}")[1] for name in ("mean", "std"))
    return f" (distance {mean[index]:.2f} ± {std[index]:.2f})" if len(mean) and len(std) else ""


def _controller(rows: Sequence[Mapping[str, Any]], thresholds: Thresholds) -> str:
    _, entropy = _series(rows, "asr/policy_entropy")
    if len(entropy) == 0:
        return ""
    share = float(np.median(entropy[-int(thresholds.smoothing.value) :])) / math.log(3)
    if share > thresholds.undecided.value:
        return f"for it: the controller's actions have {share:.0%} of the entropy of chance: it found no direction"
    return f"against it: the controller is decided, its actions have {share:.0%} of the entropy of chance"


def _way_up(rows: Sequence[Mapping[str, Any]], context: Context) -> str:
    """The multiplicative well: raises until the lowest bin is level with the largest."""
    _, floored = _series(rows, "asr/floor_bins")
    if len(floored) == 0 or floored[-1] == 0 or len(_series(rows, "asr/policy_entropy")[0]) == 0:
        return ""
    q = _newest_distribution(rows)
    if q is None or not np.isfinite(q).all() or q.max() <= 0:
        return ""
    ratio = max(float(q.min() / q.max()), _LEAST_RATIO)
    raises = math.ceil(-math.log(ratio) / math.log(context.step_up) - 1e-9)
    every = context.decision_every
    steps = f", {raises * every:,} training steps" if every is not None else ""
    return (
        f"{floored[-1]:.0f} of {len(q)} bins are at the floor: the lowest takes {raises} raises of "
        f"×{context.step_up:g} in a row to be level with the largest{steps}"
    )


def _newest_distribution(rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    found = (row.get("asr/distribution") for row in reversed(rows))
    q = next((one for one in found if one is not None and not isinstance(one, float)), None)
    return None if q is None else np.asarray(q, np.float64)


def _series(rows: Sequence[Mapping[str, Any]], column: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows that measured a column; of rows at one step the last."""
    found = {number(row["env_steps"]): number(row.get(column)) for row in rows}
    kept = [(step, value) for step, value in found.items() if abs(value) < math.inf]
    steps, values = zip(*kept, strict=True) if kept else ((), ())
    return np.asarray(steps, np.float64), np.asarray(values, np.float64)
