"""Choose thresholds on one half of the runs; the other half has no say."""

from dataclasses import dataclass

import numpy as np

from studies.early_warning.grid import INSTRUMENTS

MOST_FALSE_ALARMS = 0.1
"""Share of the runs without a collapse that may be warned about."""
MOST_INSTRUMENTS = 3


@dataclass(frozen=True)
class Choice:
    """A rule: warn when `agreeing` instruments have shown a sign.

    Attributes:
        pace: index into `grid.PACES`.
        levels: for each sign the index of its thresholds, or -1 where the sign is not used.
        agreeing: instruments that must have spoken.
    """

    pace: int
    levels: tuple[int, ...]
    agreeing: int


def split(settings: np.ndarray, seed: int) -> np.ndarray:
    """Put the seeds of every setting into two halves, at random.

    Args:
        settings: (runs,) name of each run's setting.
        seed: of the draw.

    Returns:
        (runs,) True for the half to choose on. Of an odd number of seeds, every other setting gives one more.
    """
    generator, choosing, extra = np.random.default_rng(seed), np.zeros(len(settings), bool), 0
    for setting in np.unique(settings):
        members = generator.permutation(np.flatnonzero(settings == setting))
        half = (len(members) + extra) // 2
        extra ^= len(members) % 2
        choosing[members[:half]] = True
    return choosing


def choose(firsts: np.ndarray, onsets: np.ndarray, totals: np.ndarray) -> Choice:
    """Find the rule that detects most at no more than `MOST_FALSE_ALARMS`.

    For every pace, each sign first gets the level with the largest Youden index (detected share − false-alarm share);
    a sign whose index is not above 0 is not used. Then the number of agreeing instruments and the pace are chosen by
    detected share, and among equals by median lead. If no rule keeps to `MOST_FALSE_ALARMS`, the largest Youden index
    decides.

    Args:
        firsts: (runs, paces, signs, levels) step at which each sign is first told, inf if never.
        onsets: (runs,) step of the collapse, NaN where there was none.
        totals: (runs,) steps of the whole run.
    """
    rules = []
    for pace in range(firsts.shape[1]):
        indices = np.array(
            [[_youden(column, onsets) for column in sign.T] for sign in np.moveaxis(firsts[:, pace], 1, 0)]
        )
        levels = tuple(int(np.argmax(row)) if row.max() > 0 else -1 for row in indices)
        for agreeing in range(1, MOST_INSTRUMENTS + 1):
            choice = Choice(pace, levels, agreeing)
            warned = warning_steps(firsts, choice)
            detected, alarmed = rates(warned, onsets)
            leads = (onsets - warned)[warned < onsets] / totals[warned < onsets]
            lead = float(np.median(leads)) if len(leads) else 0.0
            allowed = alarmed <= MOST_FALSE_ALARMS
            rules.append((allowed, detected if allowed else detected - alarmed, lead, choice))
    return max(rules, key=lambda rule: rule[:3])[-1]


def warning_steps(firsts: np.ndarray, choice: Choice) -> np.ndarray:
    """Give the step (runs,) at which a rule warns, inf if never."""
    used = [s for s, level in enumerate(choice.levels) if level >= 0]
    if not used:
        return np.full(len(firsts), np.inf)
    by_sign = np.stack([firsts[:, choice.pace, s, choice.levels[s]] for s in used], axis=1)
    return agreed_steps(by_sign, INSTRUMENTS[used], choice.agreeing)


def agreed_steps(by_sign: np.ndarray, instruments: np.ndarray, agreeing: int) -> np.ndarray:
    """Give the step (runs,) at which `agreeing` instruments have shown a sign, inf if never.

    Args:
        by_sign: (runs, signs) step at which each sign is first told.
        instruments: (signs,) which instrument each is read off.
        agreeing: how many.
    """
    by_instrument = [by_sign[:, instruments == i].min(axis=1) for i in np.unique(instruments)]
    if len(by_instrument) < agreeing:
        return np.full(len(by_sign), np.inf)
    return np.sort(np.stack(by_instrument, axis=1), axis=1)[:, agreeing - 1]


def rates(warned: np.ndarray, onsets: np.ndarray) -> tuple[float, float]:
    """Give the share of collapses that were warned of in time, and of other runs that were warned of at all."""
    collapsed = np.isfinite(onsets)
    detected = (warned < onsets)[collapsed]
    alarmed = np.isfinite(warned)[~collapsed]
    return (float(detected.mean()) if len(detected) else 0.0), (
        float(alarmed.mean()) if len(alarmed) else 0.0
    )


def _youden(warned: np.ndarray, onsets: np.ndarray) -> float:
    detected, alarmed = rates(warned, onsets)
    return detected - alarmed
