"""Tabular MDPs: solves against iteration and SciPy, the policy-gradient theorem against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import coo_matrix, identity
from scipy.sparse.linalg import spsolve

from escapevelocity.errors import UserError
from escapevelocity.lab import dense_mdp, evaluate, garnet, sparse_mdp

GAMMA = 0.9


def small(seed=0, sparse=False, states=6, gamma=GAMMA):
    return garnet(np.random.default_rng(seed), states, num_actions=3, branching=2, gamma=gamma, sparse=sparse)


def random_policies(shape, starts=4, seed=1):
    return np.moveaxis(np.random.default_rng(seed).dirichlet(np.ones(shape[0]), (*shape[1:], starts)), -1, 0)


def test_values_are_what_iterating_the_bellman_equation_converges_to():
    mdp, probs = small(), random_policies((3, 6))
    at = evaluate(mdp, probs)
    for start in range(4):
        policy, v = probs[..., start], np.zeros(6)
        for _ in range(400):  # 0.9^400 = 5e-19
            q = mdp.rewards + GAMMA * mdp.transitions @ v
            v = (policy * q).sum(axis=0)
        np.testing.assert_allclose(at.state_values[:, start], v, rtol=1e-12)
        np.testing.assert_allclose(at.action_values[..., start], q, rtol=1e-12)
        np.testing.assert_allclose(at.advantage[..., start], q - v, atol=1e-12)


def test_visitation_is_the_discounted_sum_of_state_distributions():
    mdp, probs = small(), random_policies((3, 6))
    at = evaluate(mdp, probs)
    for start in range(4):
        p = np.einsum("as,ast->st", probs[..., start], mdp.transitions)
        total, distribution = np.zeros(6), mdp.start
        for t in range(400):
            total += GAMMA**t * distribution
            distribution = distribution @ p
        np.testing.assert_allclose(at.visitation[0, :, start], total, rtol=1e-12)
    np.testing.assert_allclose(at.visitation.sum(axis=(0, 1)), 1 / (1 - GAMMA), rtol=1e-12)


def test_policy_gradient_theorem_is_autodiff_through_the_linear_solve():
    mdp = small()
    theta = np.random.default_rng(2).normal(size=(3, 6))

    def value(theta):
        probs = jax.nn.softmax(theta, axis=0)
        p = jnp.einsum("as,ast->st", probs, jnp.asarray(mdp.transitions))
        reward = jnp.sum(probs * jnp.asarray(mdp.rewards), axis=0)
        return jnp.asarray(mdp.start) @ jnp.linalg.solve(jnp.eye(6) - GAMMA * p, reward)

    with jax.enable_x64(True):
        expected = np.asarray(jax.grad(value)(jnp.asarray(theta)))
        probs = np.asarray(jax.nn.softmax(jnp.asarray(theta), axis=0))
        up, down = (
            np.array([float(value(jnp.asarray(theta + s * 1e-6 * d))) for d in np.eye(18).reshape(18, 3, 6)])
            for s in (1, -1)
        )
    at = evaluate(mdp, probs[..., None])
    theorem = (at.visitation * at.probs * at.advantage)[..., 0]
    np.testing.assert_allclose(theorem, expected, rtol=1e-10, atol=1e-12)
    # central differences of step 1e-6: rounding of V ≈ 5 gives 5·1e-16/1e-6 = 5e-10 absolute
    np.testing.assert_allclose(theorem.ravel(), (up - down) / 2e-6, rtol=1e-6, atol=5e-9)


def test_optimal_values_are_those_of_value_iteration():
    mdp = small()
    v = np.zeros(6)
    for _ in range(400):
        v = (mdp.rewards + GAMMA * mdp.transitions @ v).max(axis=0)
    np.testing.assert_allclose(mdp.optimal_values, v, rtol=1e-12)
    assert mdp.optimal_value == pytest.approx(v.mean(), rel=1e-12)


def test_suboptimality_is_the_difference_of_values_and_exact_where_that_cancels():
    mdp, probs = small(), random_policies((3, 6))
    at = evaluate(mdp, probs)
    direct = mdp.optimal_values[:, None] - at.state_values
    np.testing.assert_allclose(at.state_suboptimality, direct, rtol=1e-11)
    np.testing.assert_allclose(at.suboptimality, direct.mean(axis=0), rtol=1e-11)
    # A share ε off the optimal policy costs, to first order, ε·Σ ρ*·(gap of the uniform choice).
    best = mdp.best_actions / mdp.best_actions.sum(axis=0)
    tiny = [evaluate(mdp, ((1 - e) * best + e / 3)[..., None]).suboptimality[0] for e in (1e-20, 1e-22)]
    assert tiny[0] / tiny[1] == pytest.approx(100, rel=1e-9)


def test_ties_between_actions_count_as_equally_good():
    mdp = dense_mdp(np.ones((3, 1, 1)), [[1.0], [1.0], [0.5]], gamma=0.5)
    assert mdp.best_actions[:, 0].tolist() == [1, 1, 0]
    at = evaluate(mdp, np.array([[0.2], [0.3], [0.5]])[..., None])
    assert at.best_prob[0, 0, 0] == pytest.approx(0.5)
    assert at.suboptimality[0] == pytest.approx(0.5 * 0.5 / (1 - 0.5))


def test_an_absorbing_end_makes_the_value_of_a_corridor_a_power_of_gamma():
    # 0 → 1 → 2 → end, reward 1 on entering the end; the other action stays.
    forward, stay = np.eye(4)[[1, 2, 3, 3]], np.eye(4)
    rewards = np.zeros((2, 4))
    rewards[0, 2] = 1.0
    mdp = dense_mdp([forward, stay], rewards, gamma=0.5, start=[1.0, 0, 0, 0])
    np.testing.assert_allclose(mdp.optimal_values, [0.25, 0.5, 1.0, 0.0])


def test_sparse_and_dense_forms_of_one_garnet_agree():
    dense, sparse, probs = small(7), small(7, sparse=True), random_policies((3, 6))
    for one, two in zip(evaluate(dense, probs), evaluate(sparse, probs), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(sparse.optimal_values, dense.optimal_values, rtol=1e-12)


@pytest.mark.parametrize(("states", "gamma"), [(10_000, 0.9), (1000, 0.99)])
def test_a_large_sparse_mdp_is_solved_as_by_scipys_sparse_lu(states, gamma):
    mdp = garnet(np.random.default_rng(5), states, 2, 2, gamma, sparse=True)
    probs = random_policies((2, states), starts=1)
    at = evaluate(mdp, probs)
    if states == 10_000:
        # A direct factorisation of a random graph fills in; the residual of Bellman's equation says as much:
        # error ≤ residual/(1 − γ).
        v = at.state_values[:, 0]
        q = mdp.rewards + gamma * (mdp.successor_probs * v[mdp.successors]).sum(axis=-1)
        assert abs((probs[..., 0] * q).sum(axis=0) - v).max() < 1e-13
        assert at.visitation.sum() == pytest.approx(1 / (1 - gamma), rel=1e-11)
        return
    rows = np.broadcast_to(np.arange(states)[None, :, None], mdp.successors.shape)
    weights = probs[..., 0][..., None] * mdp.successor_probs
    p = coo_matrix((weights.ravel(), (rows.ravel(), mdp.successors.ravel())), shape=(states, states)).tocsc()
    system = identity(states, format="csc") - gamma * p
    reward = (probs[..., 0] * mdp.rewards).sum(axis=0)
    np.testing.assert_allclose(at.state_values[:, 0], spsolve(system, reward), rtol=1e-11)
    expected = spsolve(system.T.tocsc(), mdp.start)
    np.testing.assert_allclose(at.visitation[0, :, 0], expected, rtol=1e-9, atol=1e-13)


def test_garnets_have_distinct_successors_and_repeat_for_the_same_seed():
    mdp = garnet(np.random.default_rng(0), 20, 3, 4, 0.9)
    assert ((mdp.transitions > 0).sum(axis=2) == 4).all()
    np.testing.assert_allclose(mdp.transitions.sum(axis=2), 1)
    assert (mdp.rewards >= 0).all()
    assert (mdp.rewards <= 1).all()
    again = garnet(np.random.default_rng(0), 20, 3, 4, 0.9)
    np.testing.assert_array_equal(mdp.transitions, again.transitions)
    # uniform successors and uniform spacings: every state is entered with mean probability 1/20, ±5 standard
    # errors of 60 rows of variance below 1/20
    assert abs(mdp.transitions.mean(axis=(0, 1)) - 0.05).max() < 5 * np.sqrt(0.05 / 60)


P, R = np.full((2, 3, 3), 1 / 3), np.ones((2, 3))
WRONG_ROW = P.copy()
WRONG_ROW[1, 2] = [0.5, 0.4, 0.0]
NEGATIVE = P.copy()
NEGATIVE[0, 1] = [1.5, -0.5, 0.0]
NOT_A_NUMBER = P.copy()
NOT_A_NUMBER[0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dense_mdp(WRONG_ROW, R, 0.9), r"transitions\[1, 2\] sums to 0\.9: must sum to 1"),
        (lambda: dense_mdp(NEGATIVE, R, 0.9), r"transitions\[0, 1, 1\] = -0\.5: must be a probability"),
        (lambda: dense_mdp(NOT_A_NUMBER, R, 0.9), r"transitions\[0, 0, 0\] = nan: must be finite"),
        (lambda: dense_mdp(P[:, :, :2], R, 0.9), r"transitions has shape \(2, 3, 2\): must be \(A, S, S\)"),
        (lambda: dense_mdp(P, R[:, :2], 0.9), r"rewards has shape \(2, 2\): must be \(2, 3\)"),
        (lambda: dense_mdp(P, R * np.nan, 0.9), r"rewards\[0, 0\] = nan: must be finite"),
        (lambda: dense_mdp(P, R, 1.0), r"gamma = 1\.0: must be a discount in \[0, 1\)"),
        (lambda: dense_mdp(P, R, -0.1), r"gamma = -0\.1: must be a discount"),
        (lambda: dense_mdp(P, R, float("nan")), "gamma = nan: must be a discount"),
        (lambda: dense_mdp(P, R, 0.9, start=[1.0, 1.0, 0.0]), "start sums to 2: must sum to 1"),
        (lambda: dense_mdp(P, R, 0.9, start=[1.0]), r"start has shape \(1,\): must be \(3,\)"),
        (
            lambda: sparse_mdp(np.full((2, 3, 1), 3), np.ones((2, 3, 1)), R, 0.9),
            r"successors\[0, 0, 0\] = 3\.0: must be a state in 0\.\.2",
        ),
        (
            lambda: sparse_mdp(np.zeros((2, 3, 2)), np.ones((2, 3, 1)), R, 0.9),
            r"successors has shape \(2, 3, 2\): must be that of successor_probs",
        ),
        (
            lambda: sparse_mdp(np.zeros((2, 3, 1)), 0.5 * np.ones((2, 3, 1)), R, 0.9),
            r"successor_probs\[0, 0\] sums to 0\.5",
        ),
        (
            lambda: garnet(np.random.default_rng(0), 5, 2, 6, 0.9),
            r"branching = 6: must be an integer in 1\.\.5",
        ),
        (lambda: garnet(np.random.default_rng(0), 0, 2, 1, 0.9), "num_states = 0: must be an integer ≥ 1"),
        (lambda: garnet(np.random.default_rng(0), 2, 0, 1, 0.9), "num_actions = 0: must be an integer ≥ 1"),
    ],
)
def test_a_broken_mdp_is_refused_with_the_place_and_the_value(make, message):
    with pytest.raises(UserError, match=message):
        make()
