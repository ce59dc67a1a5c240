"""Many starts advance in blocks: whatever the block, each start does what it does in a smaller company."""

import jax
import numpy as np
import optax
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import (
    Bandit,
    corner_starts,
    epg,
    escape_time,
    kl_penalised,
    sampled,
    spg,
    trajectory,
)
from escapevelocity.lab._blocks import BLOCK

BANDIT = Bandit([0.9, 0.3, 0.5])
COUNT = 300
STARTS = corner_starts(3, 1, np.geomspace(1e-3, 0.3, COUNT))
RATES = np.linspace(0.1, 2.0, COUNT)
PIECE = slice(90, 190)


def test_the_starts_above_fill_no_block_and_the_piece_is_parted_between_two():
    assert COUNT > 2 * BLOCK
    assert COUNT % BLOCK
    assert PIECE.start < BLOCK < PIECE.stop
    assert PIECE.stop - PIECE.start <= BLOCK


@pytest.mark.parametrize(
    "make",
    [spg, lambda rate: epg(rate / 10, 1), kl_penalised, lambda rate: spg(optax.adam(0.1))],
    ids=["SPG", "EPG(1)", "KL-penalised", "Adam"],
)
def test_starts_of_many_blocks_go_the_way_they_go_in_one(make):
    together = escape_time(BANDIT, make(RATES), STARTS, 0.2, 300)
    alone = escape_time(BANDIT, make(RATES[PIECE]), STARTS[:, PIECE], 0.2, 300)
    for all_starts, piece in zip(together, alone, strict=True):
        assert all_starts.shape == (COUNT,)
        np.testing.assert_array_equal(all_starts[PIECE], piece)
    assert len(np.unique(alone.steps)) > 5


def test_trajectories_and_times_per_state_are_put_together_in_the_order_of_the_starts():
    bandit = Bandit([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])
    starts = np.stack([STARTS, STARTS[:, ::-1]], axis=1)
    records = trajectory(bandit, METHOD, starts, [0, 20])
    np.testing.assert_allclose(records.probs[0], starts, rtol=1e-12)
    alone = trajectory(bandit, METHOD, starts[..., PIECE], [0, 20])
    np.testing.assert_allclose(records.probs[..., PIECE], alone.probs, rtol=1e-12)
    np.testing.assert_allclose(records.suboptimality[:, PIECE], alone.suboptimality, rtol=1e-12)
    times = escape_time(bandit, METHOD, starts, 0.2, 500, per_state=True)
    assert times.steps.shape == (2, COUNT)
    steps = escape_time(bandit, METHOD, starts[..., PIECE], 0.2, 500, per_state=True).steps
    np.testing.assert_array_equal(times.steps[:, PIECE], steps)
    assert len(np.unique(steps)) > 5


METHOD = spg(0.5)


def test_no_two_sampled_starts_of_any_blocks_draw_alike():
    # With noisy rewards every start goes its own way, unless two blocks share their random numbers.
    method = sampled(spg(0.1), reward_noise=1.0)
    start = np.tile([[0.2], [0.5], [0.3]], (1, COUNT))
    one, again = (trajectory(BANDIT, method, start, [3], jax.random.key(0)).probs[0] for _ in range(2))
    assert len(np.unique(one[0])) == COUNT
    np.testing.assert_array_equal(one, again)


def test_signs_are_counted_until_the_escape_of_each_start():
    # From (0.1, 0.9) with η = 20 the first step leads out of the well and turns one sign; every later one, which
    # the other start's tiny rate makes the loop take, would turn another.
    starts = np.tile([[0.1], [0.9]], (1, 2))
    times = escape_time(Bandit([1.0, 0.0]), epg(np.array([20.0, 1e-6]), 1), starts, 0.8, 5)
    assert times.steps.tolist() == [1, 5]
    assert times.sign_flips.tolist() == [1, 0]


def test_the_signs_of_a_start_are_counted_until_its_last_state_escapes():
    # The same start in two contexts, the second with a rate so small, by its weight, that it never escapes.
    bandit = Bandit([[1.0, 1.0], [0.0, 0.0]], weights=[1 - 1e-9, 1e-9])
    start = np.array([[0.1, 0.1], [0.9, 0.9]])[..., None]
    times = escape_time(bandit, epg(20.0, 1), start, 0.8, 3, per_state=True)
    assert times.steps.tolist() == [[1], [3]]
    assert times.sign_flips[0] > 1


@pytest.mark.parametrize("make", [spg, lambda rates: epg(rates, 2), kl_penalised])
def test_there_must_be_one_rate_for_each_start(make):
    with pytest.raises(UserError, match="step_size holds 2 rates: must be one rate, or 3, one per start"):
        escape_time(BANDIT, make([0.1, 0.2]), STARTS[:, :3], 0.2, 10)
