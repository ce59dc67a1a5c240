import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from studies.early_warning.readout import readable_share
from studies.early_warning.truth import Truth, readable_last, representation_onset, return_onset

STEPS = np.arange(1, 101) * 1000
SNAPSHOTS = np.arange(41) * 2500


def noisy(returns, rng, size=5.0):
    return np.asarray(returns) + size * rng.normal(size=len(returns))


def rise(length):
    return np.linspace(0.0, 100.0, length)


def test_a_return_that_falls_and_stays_low_is_lost_where_it_falls(rng):
    returns = noisy(np.concatenate([rise(60), np.full(40, 10.0)]), rng)
    # A window of 10 batches centred on the fall is half high and half low: the onset is at most 5 batches off.
    assert return_onset(STEPS, returns) == pytest.approx(60_500, abs=5_000)


def test_a_return_that_rises_or_stays_is_not_lost(rng):
    assert return_onset(STEPS, noisy(rise(100), rng)) is None
    assert return_onset(STEPS, noisy(np.concatenate([rise(50), np.full(50, 100.0)]), rng)) is None


def test_a_return_that_recovers_is_not_lost(rng):
    dip = np.concatenate([rise(40), np.full(30, 5.0), np.full(30, 95.0)])
    assert return_onset(STEPS, noisy(dip, rng)) is None


def test_losing_a_third_of_what_was_gained_is_not_a_loss_and_losing_two_thirds_is(rng):
    for left, lost in ((67.0, False), (33.0, True)):
        returns = noisy(np.concatenate([rise(50), np.full(50, left)]), rng, size=1.0)
        assert (return_onset(STEPS, returns) is not None) == lost


def test_a_return_below_the_untrained_policys_is_lost_though_nothing_was_gained(rng):
    # CartPole: 22 at random, 9.4 for a policy that always pushes to one side.
    onset = return_onset(STEPS, noisy(np.r_[22.0, np.full(99, 9.4)], rng, size=0.5))
    assert onset is not None
    assert onset <= 6_000


def test_noise_around_a_constant_return_is_no_loss():
    # The chance that 100 draws beat three standard errors to the very end: a few of 200 runs would already be too many.
    lost = [return_onset(STEPS, np.random.default_rng(seed).normal(size=100)) for seed in range(200)]
    assert sum(onset is not None for onset in lost) <= 4


def test_a_fall_in_the_last_tenth_is_too_late_to_say_that_it_lasts(rng):
    assert return_onset(STEPS, noisy(np.concatenate([rise(97), np.zeros(3)]), rng)) is None


def test_batches_without_an_episode_are_passed_over(rng):
    returns = noisy(np.concatenate([rise(60), np.full(40, 10.0)]), rng)
    with_gaps = np.where(np.arange(100) % 3 == 1, np.nan, returns)
    assert return_onset(STEPS, with_gaps) == pytest.approx(60_500, abs=8_000)


def test_shifting_returns_or_scaling_rewards_moves_no_onset(rng):
    returns = noisy(np.concatenate([rise(60), np.full(40, 10.0)]), rng)
    assert return_onset(STEPS, 7.0 * returns - 300.0) == return_onset(STEPS, returns)


def test_a_representation_is_lost_from_where_it_stays_below_half_of_the_start():
    shares = np.where(np.arange(41) < 20, 0.8, 0.39)
    assert representation_onset(SNAPSHOTS, shares) == 50_000
    assert representation_onset(SNAPSHOTS, np.where(np.arange(41) < 20, 0.8, 0.41)) is None
    assert representation_onset(SNAPSHOTS, np.where(np.arange(41) < 20, 0.8, 0.41), left=2 / 3) == 50_000


def test_one_snapshot_neither_loses_nor_restores_a_representation():
    healthy, ill = np.full(41, 0.9), np.r_[0.9, np.full(40, 0.3)]
    healthy[20], ill[20] = 0.3, 0.9
    assert representation_onset(SNAPSHOTS, healthy) is None
    assert representation_onset(SNAPSHOTS, ill) == 2_500


def test_a_representation_that_comes_back_is_not_lost():
    shares = np.r_[np.full(10, 0.9), np.full(20, 0.3), np.full(11, 0.8)]
    assert representation_onset(SNAPSHOTS, shares) is None


@pytest.mark.parametrize(
    ("truth", "onset", "kind", "outcome"),
    [
        (Truth(None, None, None, 0.97), None, "", "sound"),
        (Truth(None, None, None, 0.6), None, "", "damaged"),
        (Truth(8_000, None, None, 0.97), 8_000, "return", "collapsed"),
        (Truth(8_000, 5_000, None, 0.2), 5_000, "representation, return", "collapsed"),
        (Truth(None, 5_000, 3_000, 0.2), 3_000, "representation, fault", "collapsed"),
    ],
)
def test_a_run_collapses_where_the_first_loss_begins_and_is_sound_only_if_nothing_is_lost(
    truth, onset, kind, outcome
):
    assert (truth.onset, truth.kind, truth.outcome) == (onset, kind, outcome)


def test_what_is_readable_at_the_end_is_a_median_relative_to_the_start():
    # Of 41 snapshots the last tenth is 4.
    assert readable_last(np.r_[0.8, np.ones(36), 0.4, 0.4, 0.4, 0.0]) == pytest.approx(0.5)


def test_the_readable_share_is_held_out_r2_as_scikit_learn_has_it(rng):
    targets = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5))
    features = np.tanh(targets @ rng.normal(size=(5, 8)))
    fitted = LinearRegression().fit(features[:200], targets[:200])
    # R² is taken around the mean of the first half here and of the second half there: they differ by a mean squared
    # over a variance, 1/200 + 1/200 of what is left unexplained and below.
    expected = np.clip(
        r2_score(targets[200:], fitted.predict(features[200:]), multioutput="raw_values"), 0, 1
    )
    assert readable_share(features, targets) == pytest.approx(expected.mean(), abs=0.01)


def test_what_a_few_units_can_tell_is_their_share_of_the_directions(rng):
    states = rng.normal(size=(4000, 8))
    for units in (0, 2, 4, 8):
        features = states @ np.eye(8)[:, :units] if units else np.zeros((4000, 16))
        # A regression on noise explains 1/2000 by chance and direction.
        assert readable_share(features, states) == pytest.approx(units / 8, abs=0.01)


def test_the_readable_share_knows_no_units_and_skips_entries_that_never_change(rng):
    states = rng.normal(size=(400, 4))
    features = np.maximum(states @ rng.normal(size=(4, 6)), 0)
    constant = np.column_stack([states, np.ones(400)])  # Such as Hopper's time in a batch of first steps.
    assert readable_share(1e4 * features, 1e-3 * states) == pytest.approx(
        readable_share(features, states), rel=1e-6
    )
    assert readable_share(features, constant) == pytest.approx(readable_share(features, states), rel=1e-12)
