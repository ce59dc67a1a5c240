"""Adam's reset and β₂, the shared trunk, and the reward mask's rate."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from remedy_views import batch_end, network
from scipy.stats import binom

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedies import AdamBeta2, AdamReset, RewardMask, SharedTrunk


def test_the_reset_zeroes_both_moments_and_the_step_count_and_nothing_else(rng):
    parameters = network(rng, (3, 4, 2), "tanh")
    adam = optax.scale_by_adam()
    with jax.numpy_dtype_promotion("standard"):  # Optax does not trace under "strict".
        _, moments = adam.update(parameters, adam.init(parameters))
    assert moments.count == 1
    assert all(np.all(np.asarray(leaf) != 0) for leaf in jax.tree.leaves((moments.mu, moments.nu)))
    changed, numbers = AdamReset().after_batch(batch_end(agent=parameters, moments=moments, state=()))
    assert changed.agent is parameters
    assert numbers == {}
    fresh, reset = jax.tree.flatten(adam.init(parameters)), jax.tree.flatten(changed.moments)
    assert fresh[1] == reset[1]
    for one, other in zip(fresh[0], reset[0], strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_the_mask_zeroes_rewards_independently_at_its_rate():
    rewards = jnp.arange(1.0, 20_001.0).reshape(1000, 20)
    kept, numbers = jax.jit(RewardMask(0.9).rewards)(rewards, jax.random.key(0))
    masked = np.asarray(kept) == 0
    np.testing.assert_array_equal(np.asarray(kept)[~masked], np.asarray(rewards)[~masked])
    np.testing.assert_allclose(numbers["masked"], masked.mean(), rtol=1e-6)
    # Exact binomial intervals that a correct mask leaves once in a million seeds, for the count and for the count of
    # neighbours in time that are both masked, of which pairs (0, 1), (2, 3), … are independent.
    for count, trials, rate in (
        (masked.sum(), masked.size, 0.9),
        ((masked[0::2] & masked[1::2]).sum(), masked.size // 2, 0.81),
    ):
        low, high = binom.interval(1 - 1e-6, trials, rate)
        assert low <= count <= high


def test_another_key_masks_other_rewards():
    rewards = jnp.ones((50, 4))
    first, second = (RewardMask(0.5).rewards(rewards, jax.random.key(i))[0] for i in range(2))
    assert np.any(np.asarray(first) != np.asarray(second))


def test_a_mask_of_probability_zero_is_idle_and_one_of_probability_one_leaves_nothing():
    assert RewardMask(0.0).is_idle()
    assert not RewardMask().is_idle()
    kept, numbers = RewardMask(1.0).rewards(jnp.ones((5, 2)), jax.random.key(0))
    assert not np.any(kept)
    assert numbers["masked"] == 1.0


def test_settings_remedies_change_their_settings_and_no_other():
    spec = PPOSpec()
    assert AdamBeta2().configure(spec).optimizer.adam_beta2 == 0.9
    assert AdamBeta2(0.5).configure(spec).network == spec.network
    shared = SharedTrunk(updates="twice").configure(spec)
    assert (shared.network.trunk, shared.network.trunk_updates) == ("shared", "twice")
    assert shared.optimizer == spec.optimizer


@pytest.mark.parametrize(
    ("remedy", "value", "message"),
    [
        (AdamBeta2, 1.0, "adam-beta2.value = 1.0: must be at least 0 and below 1"),
        (RewardMask, 1.5, "reward-mask.probability = 1.5: must be between 0 and 1"),
    ],
)
def test_wrong_fields_are_refused(remedy, value, message):
    with pytest.raises(UserError, match=re.escape(message)):
        remedy(value)
