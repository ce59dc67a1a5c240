"""Moving rewards: the processes by hand, the accumulated-gap law and the integrated system against simulation."""

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import (
    Bandit,
    Constant,
    Growing,
    Oscillating,
    Piecewise,
    VaryingBandit,
    accumulated_gap_escape_time,
    corner_starts,
    escape_time,
    integrated_escape_time,
    reward_table,
    spg,
)

ETA = 0.4
SPG = spg(ETA)
FLAT, HIGH = np.full(6, 0.2), np.array([0.7, 0.2, 0.2, 0.2, 0.2, 0.2])
STARTS = corner_starts(6, 5, [1e-3, 1e-4, 1e-5])
PROCESSES = {
    "constant": Constant(HIGH),
    "oscillating": Oscillating((FLAT + HIGH) / 2, (HIGH - FLAT) / 2, period=700.0),
    "growing": Growing(FLAT, HIGH, half_time=3000.0),
    "flat first": Piecewise([0, 5000], [FLAT, HIGH]),
}


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
def test_the_accumulated_gap_is_the_clock_of_the_well(process):
    times = escape_time(VaryingBandit(process, 0), SPG, STARTS, 0.9, 600_000)
    table = reward_table(process, 600_000)
    law = accumulated_gap_escape_time(table[:, 0] - table[:, 5], STARTS[0], ETA)
    assert not times.censored.any()
    # within 1 % (the issue): O(1) steps of gap 0.5 against 2500 and more
    np.testing.assert_allclose(law, times.steps, rtol=0.01)


# theory.md: r₃ = 0.5, 0.65, 0.0 instead of the corner's 0.2 change T from 2500 to 2010, 1765, 2838 (three actions).
@pytest.mark.parametrize(("third", "reference"), [(0.5, 2010), (0.65, 1765), (0.0, 2838)])
def test_allies_shorten_and_drags_lengthen_the_escape_as_the_integrated_system_says(third, reference):
    rewards = np.array([0.7, third, 0.2])
    starts = corner_starts(3, 2, [1e-3, 1e-4])
    times = escape_time(VaryingBandit(Constant(rewards), 0), SPG, starts, 0.9, 40_000)
    assert times.steps[0] == reference
    predicted = integrated_escape_time(np.tile(rewards, (40_000, 1)), starts, 0, ETA)
    # A flow is ahead of its steps by O(1) of them.
    np.testing.assert_allclose(predicted, times.steps, rtol=1e-3, atol=3)


def test_the_integrated_system_follows_unequal_rewards_that_move():
    process = Oscillating([0.6, 0.4, 0.1, 0.3], [0.3, -0.3, 0.1, 0.2], period=900.0)
    starts = corner_starts(4, 3, [1e-3, 3e-4])
    times = escape_time(VaryingBandit(process, 0), SPG, starts, 0.9, 50_000)
    predicted = integrated_escape_time(reward_table(process, 50_000), starts, 0, ETA)
    assert not times.censored.any()
    np.testing.assert_allclose(predicted, times.steps, rtol=1e-3, atol=3)


@pytest.mark.parametrize("rewards", [(0.7, 0.2, 0.2), (0.7, 0.65, 0.2), (0.7, 0.0, 0.0, 0.0, 0.0, 0.2)])
def test_a_start_that_is_not_near_the_corner_is_followed_as_well(rewards):
    starts = corner_starts(len(rewards), len(rewards) - 1, [2e-2, 1e-2])
    times = escape_time(VaryingBandit(Constant(np.array(rewards)), 0), SPG, starts, 0.9, 2000)
    predicted = integrated_escape_time(np.tile(rewards, (2000, 1)), starts, 0, ETA)
    np.testing.assert_allclose(predicted, times.steps, rtol=1e-3, atol=3)


def test_every_context_escapes_by_its_own_gap():
    gaps = np.array([0.2, 0.4, 0.8])
    rewards = np.stack([0.1 + gaps, np.full(3, 0.1), np.full(3, 0.1)])
    start = np.tile(corner_starts(3, 2, [1e-3])[:, None], (1, 3, 1))
    problem = VaryingBandit(Constant(rewards), 0)
    # Three contexts of weight 1/3: the rate per context is a third.
    times = escape_time(problem, spg(1.2), start, 0.9, 20_000, per_state=True)
    np.testing.assert_allclose(times.steps[:, 0], 1 / (2 * 0.4 * gaps * 1e-3), rtol=0.01)


def test_a_constant_process_is_the_plain_bandit():
    starts = corner_starts(6, 5, [1e-2])
    plain = escape_time(Bandit(HIGH), SPG, starts, 0.45, 1000).steps
    assert escape_time(VaryingBandit(Constant(HIGH), 0), SPG, starts, 0.9, 1000).steps == plain == [254]


def test_processes_are_their_formulas():
    t = np.arange(1000.0)
    one, two = np.array([0.2, 0.6]), np.array([0.5, 0.1])
    cases = [
        (Constant(one), np.tile(one, (1000, 1))),
        (Growing(one, two, 50.0), one + (t / (t + 50))[:, None] * (two - one)),
        (Oscillating(one, [0.1, -0.2], 33.0), one + np.sin(2 * np.pi * t / 33)[:, None] * [0.1, -0.2]),
        (Piecewise([0, 10, 500], [one, two, one]), np.where(((t >= 10) & (t < 500))[:, None], two, one)),
    ]
    for process, expected in cases:
        np.testing.assert_allclose(reward_table(process, 1000), expected, atol=1e-12)
        assert process.shape == (2,)


def test_a_recorded_reward_comes_back_row_by_row_and_its_last_row_stays():
    recorded = np.random.default_rng(0).random((7, 3))
    table = reward_table(Piecewise(np.arange(7), recorded), 9)
    np.testing.assert_array_equal(table, np.concatenate([recorded, recorded[[-1, -1]]]))


def test_the_clock_by_hand():
    # 1/(2·0.5·0.1) = 10: gaps 0, 1, −1, 1, 1, … have summed to 10 after step 12, i.e. in 13 updates: 0, then
    # one forth and one back, then ten.
    gaps = [0.0, 1.0, -1.0] + [1.0] * 20
    assert accumulated_gap_escape_time(gaps, [0.1], 0.5).tolist() == [13]
    assert accumulated_gap_escape_time(gaps[:12], [0.1], 0.5).tolist() == [np.inf]


def test_a_record_that_ends_in_the_well_has_no_escape():
    starts = corner_starts(3, 2, [1e-3])
    assert integrated_escape_time(np.tile([0.7, 0.2, 0.2], (100, 1)), starts, 0, ETA).tolist() == [np.inf]


OK_TABLE, OK_STARTS = np.full((5, 3), 0.5), corner_starts(3, 2, [1e-3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Constant([0.5, 1.2]), r"rewards\[1\] = 1\.2: must be in \[0, 1\]"),
        (lambda: Constant([0.5, np.nan]), r"rewards\[1\] = nan: must be finite"),
        (lambda: Growing([0.5, 0.2], [0.5], 10.0), r"last has shape \(1,\): must be that of first, \(2,\)"),
        (lambda: Growing([0.5, 0.2], [0.5, 0.3], 0.0), r"half_time = 0\.0: must be a finite number > 0"),
        (lambda: Oscillating([0.5, 0.2], [0.6, 0.0], 9.0), r"mean \+ \|amplitude\|\[0\] = 1\.1: must be in"),
        (
            lambda: Oscillating([0.5, 0.2], [0.0, 0.3], 9.0),
            r"mean - \|amplitude\|\[1\] = -0\.\d+: must be in",
        ),
        (lambda: Oscillating([0.5, 0.2], [0.1], 9.0), r"amplitude has shape \(1,\): must be that of mean"),
        (lambda: Oscillating([0.5, 0.2], [0.1, 0.1], -9.0), r"period = -9\.0: must be a finite number > 0"),
        (lambda: Piecewise([0, 5, 5], np.zeros((3, 2))), r"times = .*must be increasing, starting with 0"),
        (lambda: Piecewise([1, 5], np.zeros((2, 2))), r"times = .*must be increasing, starting with 0"),
        (lambda: Piecewise([0, 5], np.zeros((3, 2))), "table has 3 rows: must be 2, one per time"),
        (lambda: VaryingBandit(Constant([0.5, 0.2]), 2), r"best_action = 2: must be an action in 0\.\.1"),
        (lambda: reward_table(Constant([0.5, 0.2]), 0), "num_steps = 0: must be an integer ≥ 1"),
        (
            lambda: accumulated_gap_escape_time([1.5], [0.1], 0.4),
            r"\|gaps\|\[0\] = 1\.5: must be in \[0, 1\]",
        ),
        (lambda: accumulated_gap_escape_time([0.5], [1.0], 0.4), r"best_prob = 1\.0: must be in \(0, 1\)"),
        (lambda: accumulated_gap_escape_time([0.5], [0.1], 0.0), r"rate = 0\.0: must be a finite number > 0"),
        (
            lambda: integrated_escape_time(OK_TABLE * 3, OK_STARTS, 0, 0.4),
            r"rewards\[0, 0\] = 1\.5: must be in",
        ),
        (
            lambda: integrated_escape_time(OK_TABLE, OK_STARTS * 2, 0, 0.4),
            "starts sums to 2: must sum to 1",
        ),
        (
            lambda: integrated_escape_time(OK_TABLE, [[0.0], [0.5], [0.5]], 0, 0.4),
            r"starts = 0\.0: must be pos",
        ),
        (lambda: integrated_escape_time(OK_TABLE[:, :2], OK_STARTS, 0, 0.4), r"starts has shape \(3, 1\)"),
        (
            lambda: integrated_escape_time(OK_TABLE, OK_STARTS, -1, 0.4),
            "best_action = -1: must be an action",
        ),
        (
            lambda: integrated_escape_time(OK_TABLE, OK_STARTS, 0, -1),
            "rate = -1: must be a finite number > 0",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
