"""The thresholds to choose from, and when each would have warned."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from escapevelocity.health.context import Context
from escapevelocity.health.signs import SIGNS, Sign
from escapevelocity.health.thresholds import Thresholds
from escapevelocity.health.watch import Watch

PACES: tuple[dict[str, float], ...] = (
    {"smoothing": 1, "persistence": 2},
    {"smoothing": 3, "persistence": 2},
    {"smoothing": 3, "persistence": 3},
    {"smoothing": 5, "persistence": 3},
    {"smoothing": 5, "persistence": 5},
)
"""How much a sign is smoothed and how long it must hold, the same for all signs; from the fastest to the surest."""

LIBRARY_PACE = 3
"""The library's. It is not chosen here: the signs of the return, which have no say, go by it too."""

LEVELS: dict[Sign, tuple[dict[str, float], ...]] = {
    Sign.TRUST_REGION_LEFT: (
        {"kl_high": 0.3, "clip_fraction_high": 0.4},
        {"kl_high": 1, "clip_fraction_high": 0.5},
        {"kl_high": 3, "clip_fraction_high": 0.6},
        {"kl_high": 10, "clip_fraction_high": 0.7},
    ),
    Sign.LOW_RATIOS: (
        {"ratio_below": 0.6, "excess_ratio": 1.7},
        {"ratio_below": 0.5, "excess_ratio": 2},
        {"ratio_below": 0.4, "excess_ratio": 3},
        {"ratio_below": 0.25, "excess_ratio": 5},
    ),
    Sign.KL_UP_CLIP_DOWN: ({"kl_growth": 2}, {"kl_growth": 3}, {"kl_growth": 10}),
    Sign.PREACTIVATION_GROWTH: (
        {"norm_growth": 5},
        {"norm_growth": 10},
        {"norm_growth": 20},
        {"norm_growth": 50},
    ),
    Sign.DEAD_NEURONS: (
        {"dead_share": 0.15},
        {"dead_share": 0.25},
        {"dead_share": 0.5},
        {"dead_share": 0.75},
    ),
    Sign.RANK_DECLINE: (
        {"rank_low": 20, "rank_start_share": 0.5},
        {"rank_low": 10, "rank_start_share": 0.5},
        {"rank_low": 10, "rank_start_share": 0.35},
        {"rank_low": 5, "rank_start_share": 0.35},
    ),
    Sign.DEGENERATE_POLICY: ({"variance_low": 1e-4}, {"variance_low": 1e-6}),
    Sign.ENTROPY_COLLAPSE: (
        {"entropy_low": 0.2, "entropy_drop": 1},
        {"entropy_low": 0.1, "entropy_drop": 2},
        {"entropy_low": 0.05, "entropy_drop": 3},
    ),
    Sign.VALUE_FAILURE: ({"value_unexplained": 3}, {"value_unexplained": 10}, {"value_unexplained": 100}),
    Sign.VANISHING_GRADIENT: ({"gradient_share": 0.05}, {"gradient_share": 0.01}),
}
"""Thresholds of each sign, from the most to the least sensitive. Signs of the return are left out: the return is part
of the truth. Capacity and the best action's probability are not in these records."""

PRIOR: dict[Sign, int] = {
    Sign.TRUST_REGION_LEFT: 1,
    Sign.LOW_RATIOS: 1,
    Sign.KL_UP_CLIP_DOWN: 1,
    Sign.PREACTIVATION_GROWTH: 3,
    Sign.DEAD_NEURONS: 2,
    Sign.RANK_DECLINE: 1,
    Sign.DEGENERATE_POLICY: 1,
    Sign.ENTROPY_COLLAPSE: 2,
    Sign.VALUE_FAILURE: 1,
    Sign.VANISHING_GRADIENT: 1,
}
"""Levels that the library had before the study, most of them healthy ranges of docs/metrics.md."""

SIGNS_ASKED = tuple(LEVELS)
NUM_LEVELS = max(map(len, LEVELS.values()))
INSTRUMENTS = np.array(
    [list(dict.fromkeys(SIGNS[s].instrument for s in LEVELS)).index(SIGNS[s].instrument) for s in LEVELS]
)
"""(signs,) which instrument each sign is read off."""


def first_warnings(rows: Sequence[Mapping[str, Any]], context: Context) -> np.ndarray:
    """Find when each sign would first have been told.

    Args:
        rows: records of one member, in order.
        context: the run's settings.

    Returns:
        (paces, signs, levels) environment steps of the row that confirms the sign; inf where none does, and at levels
        that the sign does not have.
    """
    found = np.full((len(PACES), len(LEVELS), NUM_LEVELS), np.inf)
    for p, pace in enumerate(PACES):
        for level in range(NUM_LEVELS):
            values = dict(pace)
            for levels in LEVELS.values():
                values |= levels[level] if level < len(levels) else {}
            firsts = confirmed_at(rows, context, Thresholds().with_values(values, "grid"))
            for s, sign in enumerate(SIGNS_ASKED):
                if level < len(LEVELS[sign]):
                    found[p, s, level] = firsts.get(sign, np.inf)
    return found


def confirmed_at(
    rows: Sequence[Mapping[str, Any]], context: Context, thresholds: Thresholds
) -> dict[Sign, int]:
    """Give the step at which each sign was first told, with these thresholds."""
    watch = Watch(thresholds, context)
    return {onset.sign: onset.confirmed for row in rows for onset in watch.update({**row, "seed": 0})}
