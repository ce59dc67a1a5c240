"""The box of a continuous family: what reaches the environment, and which bounds are refused."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.policy import DiagonalNormal, TanhNormal

LOW, HIGH = [-0.4, -2.0, 1.0], [0.4, 3.0, 1.5]


def test_environment_actions_never_leave_the_box_and_reach_its_corners(rng):
    # Random float32 bounds: mid + half · 1 rounds past the bound in many of them.
    low, high = np.sort(rng.normal(size=(500, 2)).astype(np.float32), axis=1).T
    rounding = np.finfo(np.float32).eps * (np.abs(low) + np.abs(high))
    for policy in (TanhNormal(low, high), DiagonalNormal(low, high)):
        for scale in (1.0, 60.0):
            actions = np.asarray(policy.to_environment(jnp.array([[-scale], [scale]]) * jnp.ones((2, 500))))
            assert np.all((actions >= low) & (actions <= high))
        assert np.all(np.abs(actions - np.stack([low, high])) <= rounding)


def test_to_environment_is_tanh_and_affine_for_tanh_normal_and_a_clip_for_diagonal_normal():
    u = jnp.array([0.5, -1.0, 0.2])
    expected = [0.4 * math.tanh(0.5), 0.5 + 2.5 * math.tanh(-1.0), 1.25 + 0.25 * math.tanh(0.2)]
    np.testing.assert_allclose(TanhNormal(LOW, HIGH).to_environment(u), expected, rtol=1e-6)
    np.testing.assert_allclose(DiagonalNormal(LOW, HIGH).to_environment(u), [0.4, -1.0, 1.0], rtol=1e-6)


def test_diagonal_normal_without_bounds_leaves_actions_alone():
    policy = DiagonalNormal([-np.inf, 0.0], [np.inf, np.inf])
    np.testing.assert_array_equal(policy.to_environment(jnp.array([-1e30, -1.0])), np.float32([-1e30, 0.0]))


@pytest.mark.parametrize("family", [TanhNormal, DiagonalNormal])
@pytest.mark.parametrize(
    ("low", "high", "std", "message"),
    [
        ([0.0, 1.0], [1.0, 1.0], "exp", r"low\[1\] = 1.0: must be below high\[1\] = 1.0"),
        ([0.0], [np.nan], "exp", r"low\[0\] = 0.0: must be below high\[0\] = nan"),
        ([0.0], [1.0, 2.0], "exp", r"high = \[1.0, 2.0\]: must be one upper bound for each of low's 1"),
        ([], [], "exp", r"low = \[\]: must be one lower bound per action dimension"),
        (np.zeros((1, 1)), np.ones((1, 1)), "exp", r"low = .*: must be one lower bound per action dimension"),
    ],
)
def test_bad_bounds_are_refused_in_one_line(family, low, high, std, message):
    with pytest.raises(UserError, match=message):
        family(low, high, std=std)


def test_tanh_normal_refuses_infinite_bounds_and_names_the_alternative():
    with pytest.raises(UserError, match=r"low\[0\] = -inf: must be finite .* use DiagonalNormal"):
        TanhNormal([-np.inf], [1.0])
    with pytest.raises(UserError, match=r"high\[1\] = inf: must be finite .* use DiagonalNormal"):
        TanhNormal([0.0, 0.0], [1.0, np.inf])


def test_wrong_last_axis_is_refused_even_inside_jit():
    policy = DiagonalNormal([0.0], [1.0])
    with pytest.raises(UserError, match=r"outputs.shape = \(5, 4\): must be an array whose last axis has 2"):
        jax.jit(policy.params)(jnp.zeros((5, 4)))
    with pytest.raises(UserError, match=r"params.shape = \(4,\): must be an array whose last axis has 2"):
        policy.base_entropy(jnp.zeros(4))


def test_an_unknown_std_rule_is_refused_by_name(monkeypatch):
    # A spec file comes past the annotation, which in tests would answer first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UserError, match="std = 'relu': must be 'softplus' or 'exp'"):
        TanhNormal([0.0], [1.0], std="relu")
