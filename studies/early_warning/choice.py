"""Choose thresholds on one half of the runs; the other half has no say."""

from dataclasses import dataclass

import numpy as np

from escapevelocity.health.signs import Sign
from studies.early_warning.grid import INSTRUMENTS, LEVELS, LIBRARY_PACE, PRIOR, SIGNS_ASKED

MOST_FALSE_ALARMS = 0.1
"""Share of the sound runs that may be warned about."""
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


def choose(
    firsts: np.ndarray, onsets: np.ndarray, sound: np.ndarray, steps: np.ndarray, pace: int = LIBRARY_PACE
) -> Choice:
    """Find the rule that warns of most collapses in time, at no more than `MOST_FALSE_ALARMS`.

    First each sign gets its level, then the number of agreeing instruments is chosen by the share warned of in time,
    and among equals by median lead. If no number keeps to `MOST_FALSE_ALARMS`, the fewest false alarms decide.

    Args:
        firsts: (runs, paces, signs, levels) step at which each sign is first told, inf if never.
        onsets: (runs,) step of the collapse, NaN where there was none.
        sound: (runs,) whether the run stayed sound; damaged runs are neither, and have no say.
        steps: (runs,) of the whole run.
        pace: index into `grid.PACES`.
    """
    levels = tuple(_level(firsts[:, pace, s], onsets, sound, sign) for s, sign in enumerate(SIGNS_ASKED))
    rules = []
    for agreeing in range(1, MOST_INSTRUMENTS + 1):
        choice = Choice(pace, levels, agreeing)
        warned = warning_steps(firsts, choice)
        detected, alarmed = rates(warned, onsets, sound)
        leads = (onsets - warned)[warned < onsets] / steps[warned < onsets]
        excess = max(0.0, alarmed - MOST_FALSE_ALARMS)
        rules.append(((-excess, detected, np.median(leads) if len(leads) else 0.0), choice))
    return max(rules, key=lambda rule: rule[0])[1]


def _level(firsts: np.ndarray, onsets: np.ndarray, sound: np.ndarray, sign: Sign) -> int:
    """Choose a sign's level: of those that keep to `MOST_FALSE_ALARMS`, the one with the largest Youden index (share
    warned of in time − share of false alarms). The library's own stays if it is worse by no more than one run; a sign
    without a level whose index is above 0 is not used: -1.

    Args:
        firsts: (runs, levels) step at which the sign is first told.
        onsets: (runs,) as for `choose`.
        sound: (runs,) as for `choose`.
        sign: which.
    """
    index = np.full(len(LEVELS[sign]), -np.inf)
    for level in range(len(index)):
        detected, alarmed = rates(firsts[:, level], onsets, sound)
        if alarmed <= MOST_FALSE_ALARMS:
            index[level] = detected - alarmed
    best = int(np.argmax(index))
    if index[best] <= 0:
        return -1
    one_run = 1 / max(1, min(np.isfinite(onsets).sum(), sound.sum()))
    prior = PRIOR[sign]
    # The last term: 1/12 must count as one run of twelve, whatever the rounding.
    return prior if index[prior] > 0 and index[prior] >= index[best] - one_run - 1e-9 else best


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


def rates(warned: np.ndarray, onsets: np.ndarray, sound: np.ndarray) -> tuple[float, float]:
    """Give the share of collapses that were warned of in time, and of sound runs that were warned of at all."""
    detected, alarmed = (warned < onsets)[np.isfinite(onsets)], np.isfinite(warned)[sound]
    return (float(detected.mean()) if len(detected) else 0.0), (
        float(alarmed.mean()) if len(alarmed) else 0.0
    )
