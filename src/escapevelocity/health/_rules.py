"""One rule per sign: does it hold in this row, or was it not measured?"""

import math

from escapevelocity.health._memory import number
from escapevelocity.health._reading import (
    Degree,
    Patient,
    Reading,
    Rule,
    above,
    below,
    first_that_holds,
    graded,
)
from escapevelocity.health._returns import Returns
from escapevelocity.health._sampler_rules import SAMPLER_RULES
from escapevelocity.health.signs import SIGNS, Sign

_SKIPPED = ("loss/skipped_minibatches", "asr/skipped_steps")
_RANK, _DEAD = "health/actor/feature_rank_pca", "health/actor/dead_neurons"

_NO_VARIANCE = (2**-23) ** 2
"""Probabilities are of order 1 and differ by float32's ε from state to state where they differ by rounding alone."""
_NO_ENTROPY = 1e-6
"""Nats: δ + δ·log(1/δ) of a policy whose likeliest action has probability 1 − δ, with δ = 2⁻²⁴, that float32 rounds
to 1."""


def non_finite(patient: Patient) -> Reading | None:
    """A fault, a skipped step, or an infinite loss or gradient; a NaN alone only says "undefined"."""
    fault, *values = (patient.row.get(column) for column in SIGNS[Sign.NON_FINITE].columns)
    numbers = [number(value) for value in values]
    infinite = any(math.isinf(value) for value in numbers)
    holds = bool(fault) and isinstance(fault, str)
    if fault is None and all(math.isnan(value) for value in numbers):
        return None
    skipped = any(number(patient.row.get(column)) > 0 for column in _SKIPPED)
    return Reading(holds or skipped or infinite, "fault", math.nan, 0.0)


def trust_region_left(patient: Patient) -> Reading | None:
    """KL or the clip fraction is beyond its healthy range; estimates stand in where other trainers log no more."""
    t = patient.thresholds
    exact = first_that_holds(
        graded(above(patient, "trust/kl", t.kl_high.value), t.far.value),
        # A share cannot say how far: with a small ε most of a batch is clipped within a hundredth of a nat.
        above(patient, "trust/clip_fraction", t.clip_fraction_high.value),
    )
    if exact is not None:
        return exact
    return first_that_holds(
        graded(above(patient, "trust/kl_k3", t.kl_high.value), t.far.value),
        graded(above(patient, "trust/kl_k1", t.kl_high.value), t.far.value),
        above(patient, "trust/ratio_outside_fraction", t.outside_high.value),
    )


def low_ratios(patient: Patient) -> Reading | None:
    """The mean ratio below 1 − ε, or the excess ratio, is far outside."""
    t, epsilon = patient.thresholds, patient.context.clip_epsilon
    most = t.excess_ratio.value * (1 + epsilon) / (1 - epsilon)
    readings = [
        graded(below(patient, "trust/ratio_below_mean", t.ratio_below.value * (1 - epsilon)), t.far.value),
        graded(above(patient, "trust/excess_ratio", most), t.far.value),
    ]
    if number(patient.row.get("trust/ratio_below_count")) == 0:
        # No ratio is below 1 − ε: its mean is undefined, and nothing is the matter.
        readings.append(Reading(False, "trust/ratio_below_count", 0.0, 0.0))
    return first_that_holds(*readings)


def kl_up_clip_down(patient: Patient) -> Reading | None:
    """KL has grown while the clip fraction has fallen."""
    t = patient.thresholds
    kl, clipped = patient.memory.fresh("trust/kl"), patient.memory.fresh("trust/clip_fraction")
    if kl is None or clipped is None:
        return None
    bound = max(t.kl_growth.value * kl.start, t.kl_floor.value)
    holds = kl.value > bound and clipped.value < t.clip_fall.value * clipped.start
    return graded(Reading(holds, "trust/kl", kl.value, bound, kl.start), t.far.value)


def preactivation_growth(patient: Patient) -> Reading | None:
    """The norm is many times what it was, and no longer small; or large in itself."""
    t, column, width = patient.thresholds, "health/actor/preactivation_norm", patient.context.width
    series = patient.memory.fresh(column)
    if series is None:
        return None
    # Ten times a small start is still small: sparse images give a layer of 512 units a norm of 0.3.
    grown = t.grown_norm(series.start, width)
    return above(patient, column, min(t.norm_high.value, grown) if grown > 0 else t.norm_high.value)


def dead_neurons(patient: Patient) -> Reading | None:
    """Of the units that responded at the start more than a share no longer does, and with them went features."""
    t, width, series = patient.thresholds, patient.context.width, patient.memory.fresh(_DEAD)
    if width is None or series is None:
        return None
    # At the start a healthy layer on sparse images has up to half of its units dead, one with more is ill already.
    bound = t.most_dead(min(series.start, t.dead_share.value * width), width)
    far = series.value > width - (width - bound) / t.far.value
    holds = far or (series.value > bound and not _keeps_rank(patient))
    degree = Degree.TOTAL if series.value >= width else Degree.FAR if far else Degree.BEYOND
    return Reading(holds, _DEAD, series.value, bound, series.start, degree=degree)


def _keeps_rank(patient: Patient) -> bool:
    """Say whether features span as many directions as at the start: then few units say as much as many did."""
    rank = patient.memory.fresh(_RANK)
    if rank is None:
        return False
    return rank.value >= max(rank.start, patient.thresholds.rank_start_share.value * rank.high)


def rank_decline(patient: Patient) -> Reading | None:
    """The rank is low, also for a layer of this width and for what it has been; or there is none."""
    t, width, series = patient.thresholds, patient.context.width, patient.memory.fresh(_RANK)
    if series is None:
        return None
    # A network may begin with a single direction (sparse images) and find its features in training.
    best = max(series.start, series.high)
    bounds = [t.rank_low.value, t.rank_start_share.value * best]
    if width is not None:
        bounds.append(t.rank_width_share.value * width)
    # A single direction, of many, is the features' mean (they are not centred): hardly a state is told from another.
    degree = Degree.FAR if series.value <= 1 and best >= t.rank_low.value else Degree.BEYOND
    found = Reading(series.value < min(bounds), _RANK, series.value, min(bounds), series.start, degree=degree)
    # Features that are all zero tell no states apart, whatever the rank has been.
    return found._replace(holds=True, degree=Degree.TOTAL) if series.value <= 0 else found


def capacity_loss(patient: Patient) -> Reading | None:
    """A probe network is fitted worse than at the start."""
    readings = []
    for column in SIGNS[Sign.CAPACITY_LOSS].columns:
        series = patient.memory.fresh(column)
        if series is not None:
            bound = patient.thresholds.capacity_growth.value * series.start
            readings.append(above(patient, column, bound))
    return first_that_holds(*readings)


def degenerate_policy(patient: Patient) -> Reading | None:
    """The variance over states is gone, while the entropy is as high as an untrained policy's."""
    t, context = patient.thresholds, patient.context
    variance = patient.memory.fresh("policy/variance")
    entropy = patient.memory.fresh("policy/entropy_base" if context.continuous else "policy/entropy")
    if variance is None or entropy is None:
        return None
    bound = t.variance_low.value
    most = entropy.start
    if context.continuous is False and context.action_size is not None:
        most = math.log(context.action_size)
    # A differential entropy has no zero: a share of it means nothing.
    enough = most if context.continuous else t.entropy_high.value * most
    varied = variance.high >= t.variance_fall.value * bound
    # What differs by rounding alone does not differ. An untrained policy's variance is small, but not so small.
    constant = variance.value < _NO_VARIANCE < max(variance.start, variance.high)
    holds = (constant or (variance.value < bound and varied)) and entropy.value >= enough
    degree = Degree.TOTAL if constant else Degree.BEYOND
    return Reading(holds, "policy/variance", variance.value, bound, variance.start, degree=degree)


def entropy_collapse(patient: Patient) -> Reading | None:
    """Hardly any entropy is left."""
    t, context = patient.thresholds, patient.context
    if context.continuous is None or (context.continuous and context.action_size is None):
        return None
    column = "policy/entropy_base" if context.continuous else "policy/entropy"
    series = patient.memory.fresh(column)
    if series is None:
        return None
    if context.continuous:
        return below(patient, column, series.start - t.entropy_drop.value * (context.action_size or 1))
    found = below(patient, column, t.entropy_low.value * series.start)
    return found._replace(degree=Degree.TOTAL) if found and series.value < _NO_ENTROPY else found


def value_failure(patient: Patient) -> Reading | None:
    """The critic's squared error is many times the variance of its values; no unit of reward is left in it."""
    loss, spread = patient.memory.fresh("loss/value"), patient.memory.fresh("value/std")
    if loss is None or spread is None:
        return None
    variance = spread.value**2
    unexplained = loss.value / variance if variance > 0 else (math.inf if loss.value > 0 else 0.0)
    bound = patient.thresholds.value_unexplained.value
    return Reading(unexplained > bound, "loss/value ÷ value/std²", unexplained, bound)


def vanishing_gradient(patient: Patient) -> Reading | None:
    """The actor's gradient is a small share of the largest it has been."""
    series = patient.memory.fresh("norm/actor_gradient")
    if series is None:
        return None
    return below(patient, "norm/actor_gradient", patient.thresholds.gradient_share.value * series.high)


def trapped(patient: Patient) -> Reading | None:
    """The best action is unlikely."""
    return below(patient, "gravity/best_prob", patient.thresholds.trapped.value)


def performance_collapse(patient: Patient) -> Reading | None:
    """The return has fallen from its best."""
    returns = _fresh_returns(patient)
    if returns is None:
        return None
    # Its bound is the best return, which most values lie below: here it begins where it first holds.
    step = patient.memory.step
    return Reading(returns.has_fallen(), "perf/return_mean", returns.value, returns.best, returns.start, step)


def plateau(patient: Patient) -> Reading | None:
    """The return has not improved for long, and is not at its ceiling."""
    returns = _fresh_returns(patient)
    if returns is None:
        return None
    share, since = returns.flat_share(), returns.improved_at
    return Reading(returns.is_flat(), "perf/return_mean", returns.value, share, returns.start, since)


RULES: dict[Sign, Rule] = {
    Sign.NON_FINITE: non_finite,
    Sign.TRUST_REGION_LEFT: trust_region_left,
    Sign.LOW_RATIOS: low_ratios,
    Sign.KL_UP_CLIP_DOWN: kl_up_clip_down,
    Sign.PREACTIVATION_GROWTH: preactivation_growth,
    Sign.DEAD_NEURONS: dead_neurons,
    Sign.RANK_DECLINE: rank_decline,
    Sign.CAPACITY_LOSS: capacity_loss,
    Sign.DEGENERATE_POLICY: degenerate_policy,
    Sign.ENTROPY_COLLAPSE: entropy_collapse,
    Sign.VALUE_FAILURE: value_failure,
    Sign.VANISHING_GRADIENT: vanishing_gradient,
    Sign.TRAPPED: trapped,
    Sign.PERFORMANCE_COLLAPSE: performance_collapse,
    Sign.PLATEAU: plateau,
    **SAMPLER_RULES,
}
"""Every sign has one."""


def _fresh_returns(patient: Patient) -> Returns | None:
    returns = patient.returns
    return returns if returns.step == patient.memory.step and returns.value == returns.value else None
