"""Rewards by hand arithmetic."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.rewards import reward, reward_metric

METRICS = jnp.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.9, 0.9], jnp.float32)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((0.5, 0.0, 0.0, 0.0, 0.5), 0.35),
        ((1.0, 0.0, 0.0, 0.0, 0.0), 0.1),
        ((0.0, 0.0, 0.0, 0.0, 2.0), 0.6),
        # (0.1 + 2·0.2 + 3·0.3 + 4·0.4 + 0.6)/11 = 3.6/11
        ((1.0, 2.0, 3.0, 4.0, 1.0), 3.6 / 11),
    ],
)
def test_the_metric_is_the_weighted_mean(weights, expected):
    assert float(reward_metric(METRICS, weights)) == pytest.approx(expected, rel=1e-6)


def test_metrics_without_weight_may_be_undefined_and_those_with_one_may_not():
    holes = METRICS.at[1].set(jnp.nan)
    assert float(reward_metric(holes, (0.5, 0.0, 0.0, 0.0, 0.5))) == pytest.approx(0.35, rel=1e-6)
    assert np.isnan(float(reward_metric(holes, (0.5, 0.1, 0.0, 0.0, 0.5))))


@pytest.mark.parametrize(
    ("kind", "metric", "previous", "expected"),
    [
        ("sign", 0.6, 0.5, 1.0),
        ("sign", 0.4, 0.5, -1.0),
        ("sign", 0.5, 0.5, 0.0),
        ("change", 0.75, 0.5, 0.25),
        ("level", 0.75, 0.5, 0.75),
        ("level", 0.75, np.nan, 0.75),
        ("sign", 0.75, np.nan, np.nan),
        ("change", np.nan, 0.5, np.nan),
    ],
)
def test_rewards_pay_for_the_change_its_sign_or_the_level(kind, metric, previous, expected):
    paid = float(reward(kind, jnp.float32(metric), jnp.float32(previous)))
    np.testing.assert_equal(paid, expected)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_the_sign_is_that_of_the_change_and_turns_with_it(metric, previous):
    now, before = jnp.float32(metric), jnp.float32(previous)
    assert float(reward("sign", now, before)) == -float(reward("sign", before, now))
    assert float(reward("sign", now, before)) == np.sign(float(reward("change", now, before)))


def test_unknown_rewards_and_weights_are_refused():
    with pytest.raises(UserError, match=r"reward = 'recall': must be one of sign, change, level"):
        reward("recall", jnp.float32(1), jnp.float32(0))
    for weights in ((0.0,) * 5, (1.0, 1.0), (1.0, -1.0, 0.0, 0.0, 1.0)):
        with pytest.raises(
            UserError, match=r"reward-weights = .*: must be five numbers of at least 0, not all 0"
        ):
            reward_metric(METRICS, weights)
