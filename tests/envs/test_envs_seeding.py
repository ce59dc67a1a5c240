"""A stream depends on member seed, purpose, segment and index alone: not on threads or neighbours."""

import itertools

import numpy as np
import pytest

from envs.probes import BACKENDS, needs_envpool
from envs.walks import walk
from escapevelocity.envs import Purpose, describe_task, environment_seeds, measure_observations


def flat_walk(backend, seeds, threads=1, name="Hopper-v4"):
    """120 steps in which every environment gets the same actions, whatever its neighbours; limit 20 for many resets."""
    task = describe_task(name, backend, episode_limit=20)
    sequence = iter(np.random.default_rng(3).uniform(-1, 1, (120, 1, task.actions.size)).astype(np.float32))
    return walk(task, seeds, 120, lambda before: np.repeat(next(sequence), len(before), axis=0), threads)


def assert_same(one, other):
    for column, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_seeds_give_the_same_streams(backend):
    assert_same(flat_walk(backend, [4, 9]), flat_walk(backend, [4, 9]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_seeds_give_other_streams(backend):
    rows = flat_walk(backend, [4, 9])
    assert (rows.observations[:, 0] != rows.observations[:, 1]).any(axis=-1).all()


@needs_envpool
def test_the_number_of_threads_changes_nothing():
    seeds = [4, 9, 1, 7, 30]
    one = flat_walk("envpool", seeds, threads=1)
    for threads in (2, 5, 64):
        assert_same(flat_walk("envpool", seeds, threads), one)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_environment_alone_is_the_one_among_others(backend):
    seeds = [4, 9, 1, 7]
    among = flat_walk(backend, seeds, threads=2)
    for index, seed in enumerate(seeds):
        alone = flat_walk(backend, [seed])
        assert_same(alone, type(among)(*(column[:, index : index + 1] for column in among)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_member_measures_the_same_alone_and_in_a_population(backend):
    task = describe_task("Pendulum-v1", backend)
    together = measure_observations(task, [5, 6, 7], num_envs=2, steps=500, threads=2)
    for index, seed in enumerate((5, 6, 7)):
        alone = measure_observations(task, [seed], num_envs=2, steps=500)
        np.testing.assert_array_equal(together.mean[index], alone.mean[0])
        np.testing.assert_array_equal(together.std[index], alone.std[0])
    assert len({tuple(mean) for mean in together.mean}) == 3


def test_no_two_streams_share_a_seed():
    """Among the 24,000 of this grid a fair draw from 2³¹ would collide with probability 12 %; these do not."""
    grid = [
        environment_seeds(range(20), 10, segment, purpose)
        for segment, purpose in itertools.product(range(40), Purpose)
    ]
    seeds = list(itertools.chain(*grid))
    assert len(seeds) == len(set(seeds)) == 20 * 10 * 40 * len(Purpose)
    assert all(isinstance(seed, int) and 0 <= seed < 2**31 for seed in seeds)


def test_seeds_come_member_by_member_whatever_the_population_and_the_number_of_environments():
    together = np.array(environment_seeds([7, 25, 64], 4, segment=3)).reshape(3, 4)
    for member, seed in enumerate((7, 25, 64)):
        assert environment_seeds([seed], 4, segment=3) == together[member].tolist()
        assert environment_seeds([seed], 2, segment=3) == together[member, :2].tolist()


def test_training_in_the_first_segment_is_the_default():
    assert environment_seeds([1], 2) == environment_seeds([1], 2, segment=0, purpose=Purpose.TRAINING)


def test_seeds_stay_what_they_are():
    """Values of November 2026: a change would silently change what every recorded run repeats to."""
    assert environment_seeds([1], 2) == [917752063, 581343550]
    assert environment_seeds([1], 1, segment=2, purpose=Purpose.EVALUATION) == [1933120797]
