"""Every finished episode counts once, in the batch where it ends, with all its rewards."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.ppo.episodes import EpisodeTracker


def column(values, dtype=np.float32):
    """One member with one environment."""
    return np.array(values, dtype).reshape(-1, 1, 1)


def test_two_batches_worked_by_hand():
    tracker = EpisodeTracker(members=1, envs=2)
    rewards = np.array([[1, 10], [2, 20], [3, 30], [4, 40]], np.float32).reshape(4, 1, 2)
    ended = np.array([[0, 0], [1, 0], [0, 0], [0, 0]], bool).reshape(4, 1, 2)
    (first,) = tracker.add(rewards, ended)
    assert first == (3.0, 3.0, 2.0, 1)  # 1 + 2, in two steps.
    np.testing.assert_array_equal(tracker.unfinished(), [2])

    ended = np.array([[1, 0], [0, 0], [0, 1], [1, 1]], bool).reshape(4, 1, 2)
    (second,) = tracker.add(rewards, ended)
    # Environment 0: 3 + 4 + 1 in 3 steps, then 2 + 3 + 4 in 3. Environment 1: 100 + 60 in 7 steps, then 40 in 1.
    assert second == ((8 + 9 + 160 + 40) / 4, 160.0, (3 + 3 + 7 + 1) / 4, 4)
    np.testing.assert_array_equal(tracker.unfinished(), [0])


def test_an_episode_may_be_longer_than_a_batch():
    tracker = EpisodeTracker(1, 1)
    for _ in range(3):
        (summary,) = tracker.add(column([1, 1]), column([0, 0], bool))
        assert summary.episodes == 0
    (summary,) = tracker.add(column([1, 1]), column([1, 0], bool))
    assert summary == (7.0, 7.0, 7.0, 1)


def test_a_batch_without_an_end_has_no_mean():
    (summary,) = EpisodeTracker(1, 1).add(column([1, 2]), column([0, 0], bool))
    assert math.isnan(summary.return_mean)
    assert math.isnan(summary.return_max)
    assert math.isnan(summary.length_mean)
    assert summary.episodes == 0


def test_members_have_their_own_episodes():
    tracker = EpisodeTracker(members=2, envs=1)
    rewards = np.array([[1, 5], [2, 6]], np.float32).reshape(2, 2, 1)
    ended = np.array([[0, 1], [1, 0]], bool).reshape(2, 2, 1)
    assert tracker.add(rewards, ended) == [(3.0, 3.0, 2.0, 1), (5.0, 5.0, 1.0, 1)]
    np.testing.assert_array_equal(tracker.unfinished(), [0, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_reward_spoils_only_its_own_episode(bad):
    tracker = EpisodeTracker(1, 1)
    tracker.add(column([1, bad]), column([1, 0], bool))
    (summary,) = tracker.add(column([0, 2, 3, 4, 5]), column([1, 0, 1, 0, 0], bool))
    assert summary.episodes == 2
    assert not math.isfinite(summary.return_mean)  # It is shown, not hidden.
    (summary,) = tracker.add(column([6, 7]), column([1, 1], bool))
    assert summary == (11.0, 15.0, 2.0, 2)  # 4 + 5 + 6 in three steps, 7 in one.


def test_a_non_finite_reward_does_not_reach_later_episodes_of_its_batch():
    tracker = EpisodeTracker(1, 1)
    tracker.add(column([np.nan, 2, 3, 4]), column([1, 0, 1, 0], bool))
    (summary,) = tracker.add(column([5]), column([1], bool))
    assert summary == (9.0, 9.0, 2.0, 1)


def test_small_rewards_are_not_lost_beside_large_ones():
    """2²⁴ + 101 is no float32: sums must be float64."""
    (summary,) = EpisodeTracker(1, 1).add(column([2.0**24, *[1.0] * 101]), column([0] * 101 + [1], bool))
    assert summary.return_mean == 2**24 + 101


@settings(deadline=None)
@given(st.data())
def test_any_cut_into_batches_gives_every_episode_once(data):
    """Against a plain loop over the uncut stream."""
    members, envs, total = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 25)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rewards = rng.integers(-5, 6, (total, members, envs)).astype(np.float32)
    ended = rng.random((total, members, envs)) < data.draw(st.sampled_from([0.0, 0.2, 0.6, 1.0]))
    cuts = sorted(data.draw(st.sets(st.integers(1, total))) | {0, total})

    tracker = EpisodeTracker(members, envs)
    found = [tracker.add(rewards[a:b], ended[a:b]) for a, b in itertools.pairwise(cuts)]

    expected = [[[] for _ in range(members)] for _ in cuts[1:]]
    for member, env in np.ndindex(members, envs):
        reward_sum, length, batch = 0.0, 0, 0
        for t in range(total):
            batch += t == cuts[batch + 1]
            reward_sum, length = reward_sum + float(rewards[t, member, env]), length + 1
            if ended[t, member, env]:
                expected[batch][member].append((reward_sum, length))
                reward_sum, length = 0.0, 0
    for found_batch, expected_batch in zip(found, expected, strict=True):
        for summary, episodes in zip(found_batch, expected_batch, strict=True):
            assert summary.episodes == len(episodes)
            if episodes:
                returns, lengths = zip(*episodes, strict=True)
                assert summary.return_mean == pytest.approx(sum(returns) / len(returns), abs=1e-12)
                assert summary.return_max == max(returns)
                assert summary.length_mean == pytest.approx(sum(lengths) / len(lengths), abs=1e-12)
    np.testing.assert_array_equal(tracker.unfinished(), (~ended[-1]).sum(axis=1))
