"""The rules of a run whose sampler chooses negatives: the distribution, its controller, retrieval."""

import math

from escapevelocity.health._reading import Patient, Reading, Rule, above
from escapevelocity.health.signs import Sign

_ACTIONS = 3
"""Of a bin: lower, stay, raise."""


def broad_sampling(patient: Patient) -> Reading | None:
    """The distribution began with nearly the largest entropy; what became of it does not matter."""
    entropy, bins = patient.memory.fresh("asr/entropy"), bins_of(patient)
    if entropy is None or bins is None:
        return None
    bound = patient.thresholds.broad_entropy.value * math.log(bins)
    start = entropy.start
    return Reading(start > bound, "asr/entropy", start, bound, start)


def floor_bins(patient: Patient) -> Reading | None:
    """Most bins are at the floor, of a distribution that a controller moves."""
    bins = bins_of(patient)
    if bins is None or patient.memory.fresh("asr/policy_entropy") is None:
        return None
    return above(patient, "asr/floor_bins", patient.thresholds.floor_share.value * bins)


def undecided_controller(patient: Patient) -> Reading | None:
    """A bin's action has nearly the entropy of chance."""
    return above(patient, "asr/policy_entropy", patient.thresholds.undecided.value * math.log(_ACTIONS))


def retrieval_plunge(patient: Patient) -> Reading | None:
    """Retrieval is below its best by more than noise and a share of it."""
    retrieval = patient.retrieval
    if not _is_fresh(patient):
        return None
    least = retrieval.least_fall()
    if math.isnan(least):
        return None
    holds = retrieval.fall > 0 and retrieval.fall >= least
    bound = retrieval.best - least
    # The drop begins at the best, not where it has gone far enough.
    return Reading(holds, retrieval.column, retrieval.value, bound, retrieval.start, retrieval.best_at)


def retrieval_flat(patient: Patient) -> Reading | None:
    """Retrieval has never risen above its noise."""
    retrieval = patient.retrieval
    if not _is_fresh(patient):
        return None
    holds = retrieval.is_unmoved()
    return Reading(holds, retrieval.column, retrieval.value, math.nan, retrieval.start, retrieval.began)


def bins_of(patient: Patient) -> int | None:
    """Bins of the sampling distribution; None where neither the settings nor the row tell."""
    if patient.context.bins is not None:
        return patient.context.bins
    distribution = patient.row.get("asr/distribution")
    known = hasattr(distribution, "__len__") and not isinstance(distribution, str)
    return len(distribution) if known and len(distribution) > 1 else None  # pyright: ignore[reportArgumentType]


def _is_fresh(patient: Patient) -> bool:
    retrieval = patient.retrieval
    measured = retrieval.count > 0 and retrieval.step == patient.memory.step
    return measured and retrieval.value == retrieval.value


SAMPLER_RULES: dict[Sign, Rule] = {
    Sign.BROAD_SAMPLING: broad_sampling,
    Sign.FLOOR_BINS: floor_bins,
    Sign.UNDECIDED_CONTROLLER: undecided_controller,
    Sign.RETRIEVAL_PLUNGE: retrieval_plunge,
    Sign.RETRIEVAL_FLAT: retrieval_flat,
}
"""Rules of the signs that only such a run can have."""
