"""How remedies are stepped through: their random numbers, and their states where a run branches off."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from escapevelocity.ppo.config import NetworkConfig
from escapevelocity.ppo.initialization import initial_agent
from escapevelocity.ppo.passes import in_passes
from escapevelocity.ppo.remedies import CChain, L2Init, ShrinkPerturb
from escapevelocity.ppo.treatment import Moment, _batch_key, _Place


def test_places_batches_and_remedies_have_random_numbers_of_their_own():
    keys = []
    for remedy, number in itertools.product((ShrinkPerturb(), L2Init()), (0, 1)):
        moment = Moment(jax.random.key(3), jnp.int32(number), jnp.float32(0))
        rewards, step, batch = (
            _batch_key(remedy, moment, place) for place in (_Place.REWARDS, _Place.STEP, _Place.BATCH)
        )
        # As `Treatment` derives them: one per gradient step, and two at the end of the batch.
        keys += [rewards, *(jax.random.fold_in(step, i) for i in range(4)), *jax.random.split(batch)]
    drawn = {jax.random.key_data(key).tobytes() for key in keys}
    assert len(drawn) == len(keys) == 4 * 7


def test_where_a_run_branches_off_churn_starts_from_there_and_the_pull_from_the_members_start():
    config = NetworkConfig(hidden=(4,))
    start, now = (initial_agent(jax.random.key(seed), config, 3, 2) for seed in (0, 1))
    assert CChain().at_branch(now, CChain().initial(start)) is now
    assert L2Init().at_branch(now, L2Init().initial(start)) is start


def test_passes_see_every_sample_once_in_order():
    sizes = []

    def look(rows):
        sizes.append(rows.shape[0])
        return rows * 2, jnp.stack([rows, rows], axis=-1)

    doubled, pairs = in_passes(look, 600)
    assert max(sizes) == 200  # the largest divisor of 600 that is at most 256
    np.testing.assert_array_equal(doubled, 2 * np.arange(600))
    np.testing.assert_array_equal(pairs, np.stack([np.arange(600)] * 2, axis=-1))
