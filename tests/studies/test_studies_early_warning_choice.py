from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from studies.early_warning.cases import Case
from studies.early_warning.choice import Choice, agreed_steps, choose, rates, split, warning_steps
from studies.early_warning.grid import (
    INSTRUMENTS,
    LEVELS,
    LIBRARY_PACE,
    NUM_LEVELS,
    PACES,
    PRIOR,
    SIGNS_ASKED,
    first_warnings,
)
from studies.early_warning.plan import PLAN
from studies.early_warning.statistics import bootstrap_median, wilson
from studies.early_warning.table import CHOOSING, choose_on, parts_of, score
from studies.early_warning.truth import Truth

from escapevelocity.health.context import Context
from escapevelocity.health.signs import SIGNS, Sign

SIGN_COUNT = len(SIGNS_ASKED)
TOTAL = 100_000


def never(runs):
    return np.full((runs, len(PACES), SIGN_COUNT, NUM_LEVELS), np.inf)


def truths(collapsed, sound):
    return np.r_[np.full(collapsed, 50_000.0), np.full(sound, np.nan)]


def test_wilsons_interval_is_scipys():
    for successes, trials in ((0, 7), (3, 10), (20, 20), (37, 41)):
        interval = binomtest(successes, trials).proportion_ci(method="wilson")
        assert wilson(successes, trials) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_bootstrap_of_a_median_has_its_known_distribution():
    values = np.arange(15.0)
    # At most k of 15 values are taken for P(median ≤ k): at least 8 of 15 draws among the k + 1 smallest.
    below = binom.sf(7, 15, np.arange(1, 16) / 15)
    median, low, high = bootstrap_median(values, seed=1)
    assert (median, low, high) == (7.0, np.searchsorted(below, 0.025), np.searchsorted(below, 0.975))


def test_the_bootstrap_repeats_itself_with_its_seed_and_says_nan_of_nothing(rng):
    values = rng.normal(size=9)
    assert bootstrap_median(values, seed=3) == bootstrap_median(values, seed=3)
    assert np.isnan(bootstrap_median(np.empty(0), seed=3)).all()


def test_the_split_halves_every_setting_and_the_whole():
    settings = np.repeat([f"setting {i}" for i in range(10)], 5)
    choosing = split(settings, seed=1)
    counts = [choosing[settings == name].sum() for name in np.unique(settings)]
    assert set(counts) == {2, 3}
    assert choosing.sum() == 25
    assert (split(settings, seed=1) == choosing).all()
    assert (split(settings, seed=2) != choosing).any()


def test_signs_of_one_instrument_count_once():
    by_sign = np.array([[10.0, 20.0, np.inf], [10.0, 20.0, 40.0]])
    instruments = np.array([0, 0, 1])
    assert agreed_steps(by_sign, instruments, 1).tolist() == [10.0, 10.0]
    assert agreed_steps(by_sign, instruments, 2).tolist() == [np.inf, 40.0]
    assert agreed_steps(by_sign, instruments, 3).tolist() == [np.inf, np.inf]


def test_instruments_are_told_apart_as_in_the_librarys_table():
    names = [SIGNS[sign].instrument for sign in SIGNS_ASKED]
    for i, j in np.ndindex(SIGN_COUNT, SIGN_COUNT):
        assert (INSTRUMENTS[i] == INSTRUMENTS[j]) == (names[i] == names[j])


def test_a_score_is_counted_by_hand():
    warned = np.array([10_000.0, 50_000.0, np.nan, np.inf, 30_000.0, 20_000.0, np.nan])
    onsets = np.array([40_000.0, 50_000.0, 20_000.0, np.nan, np.nan, np.nan, np.nan])
    sound = np.array([False, False, False, True, True, False, False])
    found = score(warned, onsets, sound, np.full(7, TOTAL))
    # In time by 30 % of training; exactly at the onset is late; never. A quiet sound run and a false alarm. Two damaged
    # runs, one of them told.
    assert (found.collapsed, found.detected, found.late) == (3, 1, 1)
    assert (found.sound, found.alarmed, found.damaged, found.told) == (2, 1, 2, 1)
    assert found.lead == (0.3, 0.3, 0.3)
    assert rates(warned, onsets, sound) == (1 / 3, 1 / 2)


def chosen_from(firsts):
    onsets = truths(10, 10)
    choice = choose(firsts, onsets, np.isnan(onsets), np.full(20, TOTAL))
    return choice, rates(warning_steps(firsts, choice), onsets, np.isnan(onsets))


def test_the_choice_takes_the_level_that_tells_and_drops_the_sign_that_does_not():
    firsts = never(20)
    firsts[:, :, 0, :] = 10_000.0  # Always told: says nothing.
    firsts[:, :, 1, :2] = 10_000.0  # Too sensitive at the first two levels,
    firsts[:10, :, 1, 2] = 20_000.0  # right at the third.
    choice, found = chosen_from(firsts)
    assert choice.levels == (-1, 2, *[-1] * (SIGN_COUNT - 2))
    assert (choice.agreeing, choice.pace, found) == (1, LIBRARY_PACE, (1.0, 0.0))


def test_a_level_with_more_false_alarms_than_allowed_is_not_taken_however_much_it_detects():
    firsts = never(20)
    firsts[:12, :, 1, 0] = 20_000.0  # All collapses, and two of ten sound runs.
    firsts[:3, :, 1, 2] = 20_000.0  # Three collapses, no sound run.
    choice, found = chosen_from(firsts)
    assert choice.levels[1] == 2
    assert found == (0.3, 0.0)


def test_the_librarys_own_level_stays_unless_another_is_better_by_more_than_one_run():
    s = SIGNS_ASKED.index(Sign.DEAD_NEURONS)
    for better_by, level in ((1, PRIOR[Sign.DEAD_NEURONS]), (2, 0)):
        firsts = never(20)
        firsts[:5, :, s, :] = 20_000.0
        firsts[: 5 + better_by, :, s, 0] = 20_000.0
        assert chosen_from(firsts)[0].levels[s] == level


def test_the_choice_asks_for_two_instruments_where_each_alone_gives_false_alarms():
    firsts = never(20)
    firsts[:10, :, :2, :] = 20_000.0
    firsts[10, :, 0, :] = 10_000.0  # One of ten is allowed to each sign; the two together have two.
    firsts[11, :, 1, :] = 10_000.0
    choice, found = chosen_from(firsts)
    assert SIGNS[SIGNS_ASKED[0]].instrument != SIGNS[SIGNS_ASKED[1]].instrument
    assert (choice.agreeing, found) == (2, (1.0, 0.0))


def test_among_equals_the_choice_takes_the_longer_lead():
    firsts = never(20)
    firsts[:10, :, 0, :] = 20_000.0
    firsts[:10, :, 1, :] = 30_000.0
    # One instrument warns at 20,000, two agree at 30,000: both in time.
    assert chosen_from(firsts)[0].agreeing == 1


def test_damaged_runs_have_no_say():
    firsts, onsets = never(30), np.r_[truths(10, 10), np.full(10, np.nan)]
    firsts[:10, :, 1, :] = 20_000.0
    sound = np.r_[np.zeros(10, bool), np.ones(10, bool), np.zeros(10, bool)]
    steps = np.full(30, TOTAL)
    quiet = choose(firsts, onsets, sound, steps)
    firsts[20:, :, 1, :] = 10_000.0
    assert choose(firsts, onsets, sound, steps) == quiet


def test_a_choice_without_signs_never_warns():
    choice = Choice(0, (-1,) * SIGN_COUNT, 1)
    assert np.isinf(warning_steps(never(3), choice)).all()


def made_up_cases(rng):
    cases = []
    for setting in PLAN:
        for seed in range(1, 6):
            onset = 60_000 if setting.expected else None
            told = rng.random(never(1)[0].shape) < (0.6 if setting.expected else 0.05)
            firsts = np.where(told, rng.choice([10_000.0, 40_000.0], size=told.shape), np.inf)
            cases.append(Case(setting, seed, TOTAL, Truth(onset, None, None), None, 0.0, firsts, "learning"))
    return cases


def test_only_the_choosing_half_has_a_say_in_the_choice(rng):
    cases = made_up_cases(rng)
    parts = parts_of(cases)
    chosen = choose_on(cases, parts)
    flipped = Truth(10_000, None, None)
    others = [
        case if part == CHOOSING else replace(case, truth=flipped, firsts=0.5 * case.firsts[:, ::-1])
        for case, part in zip(cases, parts, strict=True)
    ]
    assert choose_on(others, parts) == chosen
    changed = [
        replace(c, firsts=c.firsts[::-1, ::-1]) if part == CHOOSING else c
        for c, part in zip(cases, parts, strict=True)
    ]
    assert choose_on(changed, parts) != chosen


def test_each_level_of_a_sign_is_held_against_the_records_on_its_own():
    dead = [0.0] * 10 + [20.0] * 10 + [40.0] * 10
    rows = [{"env_steps": 10 * (i + 1), "health/actor/dead_neurons": value} for i, value in enumerate(dead)]
    firsts = first_warnings(rows, Context(width=64))[:, SIGNS_ASKED.index(Sign.DEAD_NEURONS)]
    pace = PACES.index({"smoothing": 1, "persistence": 2})
    # 20 of 64 is above 0.15 and 0.25 of the layer, 40 above 0.5, neither above 0.75; told at the second row in a row.
    assert [levels["dead_share"] for levels in LEVELS[Sign.DEAD_NEURONS]] == [0.15, 0.25, 0.5, 0.75]
    assert firsts[pace].tolist() == [120.0, 120.0, 220.0, np.inf]
    # A median of three rises with the second high value, and must then hold for three.
    slower = PACES.index({"smoothing": 3, "persistence": 3})
    assert firsts[slower].tolist() == [140.0, 140.0, 240.0, np.inf]
    quiet = np.delete(first_warnings(rows, Context(width=64)), SIGNS_ASKED.index(Sign.DEAD_NEURONS), axis=1)
    assert np.isinf(quiet).all()
