"""One-step problems, and what the whole room promises: documented names, examples that run."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import escapevelocity.lab as lab
from escapevelocity.errors import UserError
from escapevelocity.lab import (
    Bandit,
    CrossEntropyProblem,
    classification,
    corner_starts,
    dense_mdp,
    epg,
    evaluate,
    spg,
    trajectory,
)
from escapevelocity.lab.problems import require_action


def test_a_contextual_bandit_is_its_bandits_weighted():
    rewards = np.array([[0.9, 0.1], [0.2, 0.6], [0.5, 0.3]])
    probs = np.random.default_rng(0).dirichlet(np.ones(3), (2, 4)).transpose(2, 0, 1)
    together = evaluate(Bandit(rewards, weights=[0.3, 0.7]), probs)
    apart = [evaluate(Bandit(rewards[:, s]), probs[:, s]) for s in range(2)]
    expected = 0.3 * apart[0].suboptimality + 0.7 * apart[1].suboptimality
    np.testing.assert_allclose(together.suboptimality, expected, rtol=1e-12)
    for s in range(2):
        np.testing.assert_allclose(together.advantage[:, s], apart[s].advantage, rtol=1e-12)
    np.testing.assert_allclose(together.visitation[0, :, 0], [0.3, 0.7])


def test_advantages_keep_their_digits_deep_in_a_well():
    """Of A(corner) = −π₁Δ, the difference of two numbers near Δ, rounding leaves nothing at π₁ = 1e-20."""
    start, shares = np.array([[1e-20], [1e-20], [1.0]]), np.ones((3, 1, 1))
    exact = np.array([[0.5], [-0.5e-20], [-0.5e-20]])
    one_state = dense_mdp(shares, [[0.7], [0.2], [0.2]], gamma=0.0)
    for advantage in (evaluate(Bandit([0.7, 0.2, 0.2]), start).advantage,
                      evaluate(one_state, start[:, None]).advantage[:, 0]):  # fmt: skip
        np.testing.assert_allclose(advantage, exact, rtol=1e-14)


def test_the_gap_is_the_distance_to_the_second_best_reward():
    assert Bandit([0.7, 0.2, 0.7, 0.4]).gap == pytest.approx(0.3)
    assert Bandit([0.5, 0.5]).gap == 0
    np.testing.assert_allclose(Bandit([[0.9, 0.1], [0.4, 0.2]]).gap, [0.5, 0.1])


def test_classification_by_reward_is_expected_accuracy():
    probs = np.random.default_rng(1).dirichlet(np.ones(3), (4, 2)).transpose(2, 0, 1)
    labels = [2, 0, 1, 2]
    at = evaluate(classification(labels, 3), probs)
    accuracy = np.mean([probs[label, i] for i, label in enumerate(labels)], axis=0)
    np.testing.assert_allclose(1 - at.suboptimality, accuracy, rtol=1e-12)


@pytest.mark.parametrize("p", [None, 1.5, 2, 3])
def test_descent_on_cross_entropy_is_autodiff_of_the_negative_log_likelihood(p):
    labels = np.array([2, 0, 1, 2])
    start = np.random.default_rng(2).dirichlet(np.ones(3), 4).T
    theta = np.log(start) if p is None else start ** (1 / p)

    def probs_of(theta):
        weights = jnp.exp(theta) if p is None else jnp.abs(theta) ** p
        return weights / jnp.sum(weights, axis=0, keepdims=True)

    def loss(theta):
        return -jnp.mean(jnp.log(probs_of(theta)[labels, np.arange(4)]))

    with jax.enable_x64(True):
        moved = jnp.asarray(theta) - 0.5 * jax.grad(loss)(jnp.asarray(theta))
        expected, start_loss = np.asarray(probs_of(moved)), float(loss(jnp.asarray(theta)))
    method = spg(0.5) if p is None else epg(0.5, p, scaled=False)
    records = trajectory(CrossEntropyProblem(labels, 3), method, start[..., None], [0, 1])
    np.testing.assert_allclose(records.probs[1, ..., 0], expected, rtol=1e-10)
    assert records.suboptimality[0, 0] == pytest.approx(start_loss, rel=1e-12)


def test_cross_entropy_stays_finite_where_the_label_has_no_probability():
    start = np.array([[0.0], [1.0]])[..., None]
    records = trajectory(CrossEntropyProblem([0], 2), spg(1.0), start, [0, 1, 5])
    assert np.isfinite(records.suboptimality).all()
    # y − π = (1, −1) moves the log-odds by 2 a step.
    assert records.suboptimality[0, 0] - records.suboptimality[1, 0] == pytest.approx(2)


def test_corner_starts_hold_what_is_left_in_the_corner():
    starts = corner_starts(4, 2, [0.1, 1e-3])
    np.testing.assert_array_equal(corner_starts(np.int64(4), np.int32(2), [0.1, 1e-3]), starts)
    np.testing.assert_allclose(starts[:, 0], [0.1, 0.1, 0.7, 0.1])
    np.testing.assert_allclose(starts.sum(axis=0), 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bandit([1.0, np.inf]), r"rewards\[1\] = inf: must be finite"),
        (lambda: Bandit([1.0]), r"rewards = \(1,\): must be of at least two actions"),
        (lambda: Bandit(1.0), r"rewards has shape \(\): must be a non-empty array with 1 or 2 axes"),
        (lambda: Bandit([1.0, 0.0], weights=[1.0]), "weights = .*must be None for a bandit without contexts"),
        (lambda: Bandit(np.eye(2), weights=[1.0]), r"weights has shape \(1,\): must be \(2,\)"),
        (lambda: Bandit(np.eye(2), weights=[0.5, 0.6]), r"weights sums to 1\.1: must sum to 1"),
        (lambda: classification([0, 3], 3), r"labels\[1\] = 3\.0: must be an integer in 0\.\.2"),
        (lambda: classification([0, 0.5], 3), r"labels\[1\] = 0\.5: must be an integer in 0\.\.2"),
        (lambda: CrossEntropyProblem([0], 1), "num_classes = 1: must be an integer ≥ 2"),
        (lambda: corner_starts(3, 3, [0.1]), r"corner = 3: must be an action in 0\.\.2"),
        (lambda: corner_starts(3, True, [0.1]), r"corner = True: must be an action in 0\.\.2"),
        (lambda: corner_starts(3, 0, [0.1, 0.5]), r"other_probs\[1\] = 0\.5: must be in \(0, 0\.5\)"),
        (lambda: corner_starts(1, 0, [0.1]), "num_actions = 1: must be an integer ≥ 2"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("value", [2.0, np.float64(1.0), True, -1, 3, np.int64(3), "1", None])
def test_an_action_is_an_integer_in_range(value):
    """2.0 is in range(3) too, and no index of an array."""
    with pytest.raises(UserError, match=r"corner = .*: must be an action in 0\.\.2"):
        require_action(value, 3, "corner")


def test_every_public_name_is_there_and_documented():
    for name in lab.__all__:
        value = getattr(lab, name)
        assert isinstance(value, str | tuple) or (value.__doc__ or "").strip(), name


MODULES = [
    *("bounds", "escort_gradient", "garnet", "geometry", "mdp", "methods"),
    *("problems", "rewards", "rooms", "sampled", "simulate", "classifier_objective", "images"),
    *(
        "experiments._bootstrap",
        "experiments._contest",
        "experiments._escapes_by_size",
        "experiments._rate_study",
    ),
    *(
        "experiments.damping",
        "experiments.experiment",
        "experiments.trajectories",
        "experiments.uniform_starts",
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    module = importlib.import_module(f"escapevelocity.lab.{name}")
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
