"""The controller's observation against PADS's bookkeeping, written as its lists and queues."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.metric_learning.state import (
    METRIC_NAMES,
    controller_state,
    empty_history,
    metric_vector,
    observe,
    state_size,
)

MASSES = jnp.array([1.0, 3.0, 4.0], jnp.float32)


def pads_state(metrics, masses, progress):
    """As PADS does it: a list padded with copies of the first metrics, queues that are not."""
    collected, queues = [], [collections.deque(maxlen=n) for n in (2, 8, 16, 32)]
    for row in metrics:
        collected.append(row)
        while len(collected) < 20:
            collected.append(row)
        for queue in queues:
            queue.append(row)
    means = [np.mean(np.array(queue), axis=0) for queue in queues]
    parts = [np.array(collected[-20:]).ravel(), *means, masses / masses.sum(), [progress]]
    return np.concatenate(parts)


@pytest.mark.parametrize("decisions", [1, 2, 5, 19, 20, 21, 33, 70])
def test_the_state_is_that_of_pads(rng, decisions):
    metrics = rng.uniform(0, 1, (decisions, 7)).astype(np.float32)
    history = empty_history()
    for row in metrics:
        history = observe(history, jnp.asarray(row))
    state = controller_state(history, MASSES, jnp.float32(0.25))
    assert state.dtype == jnp.float32
    assert state.shape == (state_size(3),)
    # Sums of at most 32 float32 numbers.
    np.testing.assert_allclose(
        state, pads_state(metrics.astype(np.float64), np.asarray(MASSES), 0.25), rtol=1e-5
    )


def test_the_size_counts_24_values_of_seven_metrics_the_bins_and_the_progress():
    assert state_size(29) == 24 * 7 + 29 + 1


def test_running_means_are_exact_over_the_newest_values():
    history = empty_history()
    for value in range(40):
        history = observe(history, jnp.full(7, value, jnp.float32))
    state = controller_state(history, MASSES, jnp.float32(1))
    # Means of 38..39, 32..39, 24..39, 8..39.
    np.testing.assert_array_equal(state[140:168].reshape(4, 7)[:, 0], [38.5, 35.5, 31.5, 23.5])
    np.testing.assert_array_equal(state[:140].reshape(20, 7)[:, 3], np.arange(20, 40))


def test_a_metric_that_is_not_finite_counts_as_what_it_was():
    history = observe(empty_history(), jnp.full(7, 0.5, jnp.float32))
    row = jnp.array([0.6, np.nan, np.inf, 0.6, 0.6, 0.6, 0.6], jnp.float32)
    history = observe(history, row)
    np.testing.assert_allclose(history.values[-1], [0.6, 0.5, 0.5, 0.6, 0.6, 0.6, 0.6], rtol=1e-6)
    first = observe(empty_history(), jnp.full(7, jnp.nan, jnp.float32))
    assert bool(jnp.isfinite(controller_state(first, MASSES, jnp.float32(0))).all())


def test_metrics_are_put_in_order_by_name():
    named = {name: float(i) for i, name in enumerate(METRIC_NAMES)} | {"f1": 9.0}
    vector = metric_vector(dict(reversed(named.items())))
    np.testing.assert_array_equal(vector, np.arange(7))
    assert vector.dtype == np.float32
    with pytest.raises(KeyError):
        metric_vector({"nmi": 0.5})


def test_a_population_has_its_own_histories(rng):
    metrics = jnp.asarray(rng.uniform(0, 1, (5, 3, 7)), jnp.float32)
    histories = jax.vmap(lambda _: empty_history())(jnp.arange(3))
    for row in metrics:
        histories = jax.vmap(observe)(histories, row)
    for member in range(3):
        alone = empty_history()
        for row in metrics[:, member]:
            alone = observe(alone, row)
        np.testing.assert_array_equal(histories.values[member], alone.values)
