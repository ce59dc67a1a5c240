"""Every update rule against another way to compute it: autodiff, Fisher matrices, SciPy, hand arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import brentq, minimize

from escapevelocity.lab import (
    Bandit,
    alternate,
    delightful,
    entropy_regularised,
    epg,
    evaluate,
    garnet,
    gnpg,
    inverse_probability,
    kl_penalised,
    mirror_descent,
    neurd,
    npg,
    spg,
    trajectory,
    tsallis,
)
from escapevelocity.policy import Escort

REWARDS = np.array([0.9, 0.3, 0.5, 0.1])
BANDIT = Bandit(REWARDS)
START = np.array([[0.05, 0.6, 0.3, 0.05], [0.25, 0.25, 0.25, 0.25]]).T
MDP = garnet(np.random.default_rng(3), num_states=5, num_actions=3, branching=2, gamma=0.9)
MDP_START = np.random.default_rng(4).dirichlet(np.ones(3), (5, 2)).transpose(2, 0, 1)


def after_one_step(method, problem=BANDIT, start=START):
    return trajectory(problem, method, start, [1]).probs[0]


def softmax_step(start, direction, rate):
    logits = np.log(start) + rate * direction
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


def value(probs, problem):
    """V(μ) of one policy (K,) or (A, S), by the definition: μᵀ(I − γP_π)⁻¹ r_π."""
    if problem is BANDIT:
        return probs @ jnp.asarray(REWARDS)
    p = jnp.einsum("as,ast->st", probs, jnp.asarray(MDP.transitions))
    reward = jnp.sum(probs * jnp.asarray(MDP.rewards), axis=0)
    return jnp.asarray(MDP.start) @ jnp.linalg.solve(jnp.eye(5) - MDP.gamma * p, reward)


def autodiff(policy_of, theta, problem):
    """∇_θ V(policy_of(θ)) for each start, actions first."""
    with jax.enable_x64(True):
        gradient = jax.grad(lambda t: value(policy_of(t), problem))
        columns = [np.asarray(gradient(jnp.asarray(column))) for column in np.moveaxis(theta, -1, 0)]
    return np.stack(columns, axis=-1)


def softmax(theta):
    return jax.nn.softmax(theta, axis=0)


CASES = [(BANDIT, START), (MDP, MDP_START)]
both_problems = pytest.mark.parametrize(("problem", "start"), CASES, ids=["bandit", "MDP"])


@both_problems
def test_softmax_policy_gradient_is_the_gradient_of_the_value(problem, start):
    expected = softmax_step(start, autodiff(softmax, np.log(start), problem), 0.7)
    np.testing.assert_allclose(after_one_step(spg(0.7), problem, start), expected, rtol=1e-10)


def test_temperature_divides_the_logits():
    def cold(theta):
        return jax.nn.softmax(theta / 0.5, axis=0)

    theta = 0.5 * np.log(START)
    moved = theta + 0.7 * autodiff(cold, theta, BANDIT)
    expected = np.exp(moved / 0.5) / np.exp(moved / 0.5).sum(axis=0)
    np.testing.assert_allclose(after_one_step(spg(0.7, temperature=0.5)), expected, rtol=1e-12)


@both_problems
@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_escort_policy_gradient_is_the_gradient_of_the_value(problem, start, p):
    family = Escort(len(start), p=float(p))

    def policy_of(theta):
        return jnp.exp(family.log_probs(theta.T)).T

    theta = start ** (1 / p)
    moved = theta + 0.3 * autodiff(policy_of, theta, problem)
    expected = np.abs(moved) ** p / (np.abs(moved) ** p).sum(axis=0)
    measured = after_one_step(epg(0.3, p, scaled=False), problem, start)
    np.testing.assert_allclose(measured, expected, rtol=1e-10)


def root_found_policy(theta, alpha):
    """The f-softargmax by SciPy: Kπ(a) = (1 + (1 − α)(λ − θ(a)))^{−1/(1−α)} with λ such that Σπ = 1, per column."""
    columns = theta.reshape(len(theta), -1).T

    def mass(excess, column):
        return (1 + (1 - alpha) * (excess + column.max() - column)) ** (-1 / (1 - alpha)) / len(column)

    # At λ = max θ no term exceeds 1/K; where z = 1 + (1 − α)(λ − max θ) is K^{α−1}, the largest term alone is 1.
    low = (len(theta) ** (alpha - 1) - 1) / (1 - alpha)
    roots = [brentq(lambda x, c=c: mass(x, c).sum() - 1, low, 0, xtol=1e-15, rtol=1e-15) for c in columns]
    return np.stack([mass(x, c) for x, c in zip(roots, columns, strict=True)], axis=1).reshape(theta.shape)


@both_problems
@pytest.mark.parametrize("alpha", [0.3, 0.8])
def test_tsallis_policy_gradient_is_the_difference_quotient_through_scipys_root_finding(
    problem, start, alpha
):
    theta = ((len(start) * start) ** (alpha - 1) - 1) / (alpha - 1)
    shape = theta.shape[:-1]
    steps = 1e-5 * np.eye(np.prod(shape)).reshape(*shape, -1)  # one parameter each, as starts
    columns = []
    for column in np.moveaxis(theta, -1, 0):
        up, down = (
            evaluate(problem, root_found_policy(column[..., None] + moved, alpha)).suboptimality
            for moved in (steps, -steps)
        )
        columns.append(((down - up) / 2e-5).reshape(shape))
    gradient = np.stack(columns, axis=-1)
    expected = root_found_policy(theta + 0.3 * gradient, alpha)
    measured = after_one_step(tsallis(0.3, alpha), problem, start)
    # Central differences of step h = 1e-5: rounding 1e-15/h = 1e-10 and, of the third derivative, h² = 1e-10.
    np.testing.assert_allclose(measured, expected, rtol=1e-7)


def test_natural_gradient_is_the_fisher_matrix_inverse_times_the_gradient():
    gradient = autodiff(softmax, np.log(START), BANDIT)
    directions = [
        np.linalg.pinv(np.diag(p) - np.outer(p, p)) @ g for p, g in zip(START.T, gradient.T, strict=True)
    ]
    expected = softmax_step(START, np.array(directions).T, 0.7)
    np.testing.assert_allclose(after_one_step(npg(0.7)), expected, rtol=1e-10)
    np.testing.assert_allclose(after_one_step(neurd(0.7)), expected, rtol=1e-10)


def test_thresholded_neurd_stops_logits_that_would_grow_beyond_the_threshold():
    # Mean-centred logits ±ln 3 (probabilities 0.9, 0.1): the first would grow, and is beyond 1 already; the
    # second would shrink below −1. With the rewards exchanged both move inwards, and are free to.
    start = np.array([[0.9], [0.1]])
    np.testing.assert_allclose(after_one_step(neurd(0.7, 1.0), Bandit([1.0, 0.0]), start), start, rtol=1e-12)
    inwards = Bandit([0.0, 1.0])
    free = after_one_step(npg(0.7), inwards, start)
    np.testing.assert_allclose(after_one_step(neurd(0.7, 1.0), inwards, start), free, rtol=1e-12)
    assert abs(free - start).max() > 0.01


@both_problems
def test_normalised_gradient_has_length_one_for_each_start(problem, start):
    gradient = autodiff(softmax, np.log(start), problem)
    norms = np.sqrt((gradient**2).sum(axis=tuple(range(gradient.ndim - 1))))
    expected = softmax_step(start, gradient / norms, 1 / 6)
    np.testing.assert_allclose(after_one_step(gnpg(1 / 6), problem, start), expected, rtol=1e-10)


def test_normalised_gradient_is_finite_where_the_gradient_is_zero_or_tiny():
    np.testing.assert_allclose(after_one_step(gnpg(0.1), Bandit(np.ones(4))), START, rtol=1e-12)
    deep = np.array([[1e-200], [1.0]])
    # near the corner ∇ ∝ (1, −1), so each logit moves by η/√2
    moved = after_one_step(gnpg(0.1), Bandit([1.0, 0.0]), deep)
    assert moved[0, 0] == pytest.approx(1e-200 * np.exp(0.1 * np.sqrt(2)), rel=1e-10, abs=0)


def test_inverse_probability_rate_divides_by_the_best_actions_probability():
    expected = softmax_step(START, autodiff(softmax, np.log(START), BANDIT) / START[0], 0.2)
    np.testing.assert_allclose(after_one_step(inverse_probability(0.2)), expected, rtol=1e-10)


@both_problems
def test_entropy_regularised_gradient_is_that_of_value_plus_discounted_entropy(problem, start):
    tau = 0.3

    def regularised(theta):
        probs = softmax(theta)
        entropy = -jnp.sum(probs * jnp.log(probs), axis=0)
        if problem is BANDIT:
            return value(probs, problem) + tau * entropy
        p = jnp.einsum("as,ast->st", probs, jnp.asarray(MDP.transitions))
        reward = jnp.sum(probs * jnp.asarray(MDP.rewards), axis=0) + tau * entropy
        return jnp.asarray(MDP.start) @ jnp.linalg.solve(jnp.eye(5) - MDP.gamma * p, reward)

    with jax.enable_x64(True):
        columns = [
            np.asarray(jax.grad(regularised)(jnp.log(jnp.asarray(c)))) for c in np.moveaxis(start, -1, 0)
        ]
    expected = softmax_step(start, np.stack(columns, axis=-1), 0.4)
    np.testing.assert_allclose(
        after_one_step(entropy_regularised(0.4, tau), problem, start), expected, rtol=1e-9
    )


def test_entropy_regularisation_converges_to_the_softmax_of_the_rewards():
    # The optimum of πᵀr + τH is π ∝ exp(r/τ).
    records = trajectory(BANDIT, entropy_regularised(1.0, 0.5), START, [3000])
    optimum = np.exp(REWARDS / 0.5) / np.exp(REWARDS / 0.5).sum()
    np.testing.assert_allclose(records.probs[0], np.tile(optimum[:, None], (1, 2)), rtol=1e-8)


def test_mirror_descent_multiplies_by_the_exponential_of_the_reward():
    weights = START * np.exp(0.8 * REWARDS)[:, None]
    np.testing.assert_allclose(after_one_step(mirror_descent(0.8)), weights / weights.sum(axis=0), rtol=1e-12)


def test_kl_penalised_step_maximises_its_objective():
    rate = 0.8
    measured = after_one_step(kl_penalised(rate))

    def loss(logits, old):
        new = np.exp(logits) / np.exp(logits).sum()
        return -(new @ REWARDS) + (old * np.log(old / new)).sum() / rate

    for column in range(2):
        old = START[:, column]
        found = minimize(loss, np.log(old), args=(old,), tol=1e-14, options={"gtol": 1e-9}).x
        expected = np.exp(found) / np.exp(found).sum()
        # BFGS with difference quotients of step 1e-8 finds the optimum to about 1e-7.
        np.testing.assert_allclose(measured[:, column], expected, atol=1e-6)


@pytest.mark.parametrize("best_prob", [1e-16, 1e-30, 0.0])
def test_kl_penalised_step_leaves_the_deepest_corner_at_once_when_its_rate_is_large(best_prob):
    """With π → e_corner, ⟨π', r⟩ + ln π'(corner)/η is largest at π'(corner) = 1/(ηΔ), the rest on the best action."""
    start = np.array([[best_prob], [best_prob], [1.0]])
    moved = after_one_step(kl_penalised(4.0), Bandit([1.0, 0.0, 0.0]), start)
    np.testing.assert_allclose(moved[:, 0], [0.75, best_prob / 4, 0.25], rtol=1e-14, atol=1e-300)


def test_delightful_gradient_is_the_gated_mean_of_score_functions():
    temperature = 0.5
    moved = []
    for probs in START.T:
        advantage = REWARDS - probs @ REWARDS
        gate = 1 / (1 + np.exp(advantage * np.log(probs) / temperature))
        scores = np.eye(4) - probs
        moved.append(sum(probs[a] * gate[a] * advantage[a] * scores[a] for a in range(4)))
    expected = softmax_step(START, np.array(moved).T, 0.7)
    np.testing.assert_allclose(after_one_step(delightful(0.7, temperature)), expected, rtol=1e-12)


def test_delightful_gradient_at_temperature_zero_keeps_the_good_actions_only():
    limit = after_one_step(delightful(0.7, 0))
    np.testing.assert_allclose(after_one_step(delightful(0.7, 1e-6)), limit, rtol=1e-12)
    assert abs(after_one_step(delightful(0.7, 1.0)) - limit).max() > 1e-3


def test_the_alternate_estimator_is_in_the_mean_the_softmax_gradient():
    np.testing.assert_allclose(after_one_step(alternate(0.7)), after_one_step(spg(0.7)), rtol=1e-12)


@pytest.mark.parametrize("make", [spg, npg, gnpg, inverse_probability, alternate, delightful, mirror_descent])
def test_plain_sgd_of_optax_is_plain_ascent(make):
    plain = trajectory(BANDIT, make(0.3), START, [1, 20]).probs
    through = trajectory(BANDIT, make(optax.sgd(0.3)), START, [1, 20]).probs
    np.testing.assert_allclose(through, plain, rtol=1e-12)


def test_escort_through_optax_is_plain_ascent_at_the_raw_parameters():
    plain = trajectory(BANDIT, epg(0.3, 1.5, scaled=False), START, [1, 20]).probs
    np.testing.assert_allclose(
        trajectory(BANDIT, epg(optax.sgd(0.3), 1.5), START, [1, 20]).probs, plain, rtol=1e-10
    )


def test_momentum_adds_a_share_of_the_last_step():
    first = autodiff(softmax, np.log(START), BANDIT)
    middle = softmax_step(START, first, 0.3)
    second = autodiff(softmax, np.log(middle), BANDIT) + 0.9 * first
    expected = softmax_step(START, first + second, 0.3)
    measured = trajectory(BANDIT, spg(optax.sgd(0.3, momentum=0.9)), START, [2]).probs[0]
    np.testing.assert_allclose(measured, expected, rtol=1e-10)


def test_adams_first_step_has_the_learning_rates_size_in_every_logit():
    signs = np.sign(autodiff(softmax, np.log(START), BANDIT))
    expected = softmax_step(START, signs, 0.1)
    # ε = 1e-8 against gradients of at least 1e-2
    np.testing.assert_allclose(after_one_step(spg(optax.adam(0.1))), expected, rtol=1e-6)


def test_an_optimiser_sees_each_start_on_its_own():
    clipped = optax.chain(optax.clip_by_global_norm(1e-3), optax.sgd(1.0))
    together = after_one_step(spg(clipped))
    alone = [after_one_step(spg(clipped), start=START[:, [i]])[:, 0] for i in range(2)]
    np.testing.assert_allclose(together, np.array(alone).T, rtol=1e-12)


def test_the_evaluation_of_a_bandit_is_hand_arithmetic():
    at = evaluate(Bandit([1.0, 0.0, 0.5]), [[0.2], [0.5], [0.3]])
    assert at.state_values[0] == pytest.approx(0.35)
    np.testing.assert_allclose(at.advantage[:, 0], [0.65, -0.35, 0.15], rtol=1e-12)
    assert at.suboptimality[0] == pytest.approx(0.65)
    assert at.best_prob[0, 0] == pytest.approx(0.2)
