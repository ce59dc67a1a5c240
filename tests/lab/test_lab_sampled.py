"""Sampled updates: unbiased where they should be, and how often they commit to the wrong arm."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, binomtest

from escapevelocity.errors import UserError
from escapevelocity.lab import (
    Bandit,
    alternate,
    commitment,
    delightful,
    dense_mdp,
    entropy_regularised,
    epg,
    escape_time,
    evaluate,
    gnpg,
    inverse_probability,
    mirror_descent,
    npg,
    sampled,
    spg,
    trajectory,
    tsallis,
    wilson_interval,
)

BANDIT = Bandit([0.9, 0.3, 0.5])
START = np.array([0.2, 0.5, 0.3])
DRAWS = 20_000


def raw_parameters(state):
    """θ of any gradient method; escort's is put together from its direction and its length."""
    if hasattr(state, "theta"):
        return np.asarray(state.theta)
    return np.asarray(jnp.exp(state.log_scale) * state.direction)


def parameter_steps(method, problem, start, draws=DRAWS):
    """Exact step of θ and `draws` sampled ones, from one policy: (..., 1) and (..., draws)."""
    with jax.enable_x64(True):
        many = jnp.asarray(np.repeat(start[..., None], draws, axis=-1))
        state = method.init(many)
        at = problem.evaluate(many)
        if method.temperature:
            at = problem.evaluate(many, 0, -method.temperature * jnp.log(many))
        exact = raw_parameters(method.update(state, at)) - raw_parameters(state)
        estimated = method.update(state, method.sample(jax.random.key(1), at))
        return exact[..., :1], raw_parameters(estimated) - raw_parameters(state)


def assert_unbiased(exact, steps):
    error = steps.std(axis=-1, ddof=1) / np.sqrt(steps.shape[-1])
    # five standard errors: one false alarm in 10⁶ per entry
    assert (abs(steps.mean(axis=-1) - exact[..., 0]) <= 5 * error + 1e-12).all()
    assert (error > 0).any()


LINEAR = [
    spg(0.1),
    npg(0.1),
    mirror_descent(0.1),
    inverse_probability(0.1),
    tsallis(0.1, 0.5),
    entropy_regularised(0.1, 0.2),
    epg(0.1, 1, scaled=False),
    epg(0.1, 2),
    epg(0.1, 3),
]


@pytest.mark.parametrize("baseline", ["value", 0.0, 0.4])
@pytest.mark.parametrize("method", LINEAR, ids=lambda m: m.name)
def test_sampled_updates_have_the_exact_one_as_their_mean(method, baseline):
    assert_unbiased(*parameter_steps(sampled(method, baseline, reward_noise=0.3), BANDIT, START))


@pytest.mark.parametrize("method", [alternate(0.1), delightful(0.1)], ids=lambda m: m.name)
def test_alternate_and_delightful_are_unbiased_with_the_true_baseline(method):
    assert_unbiased(*parameter_steps(sampled(method, "value"), BANDIT, START))


def test_the_alternate_estimator_is_biased_with_another_baseline():
    exact, steps = parameter_steps(sampled(alternate(0.1), 0.0), BANDIT, START)
    # E = η·π·r, not η·π·A
    np.testing.assert_allclose(steps.mean(axis=-1), 0.1 * START * BANDIT.rewards, rtol=0.05)
    assert abs(steps.mean(axis=-1) - exact[..., 0]).max() > 0.005


def test_sampled_updates_of_an_mdp_are_unbiased_in_every_state():
    rng = np.random.default_rng(0)
    mdp = dense_mdp(rng.dirichlet(np.ones(2), (3, 2)), rng.random((3, 2)), 0.8)
    start = rng.dirichlet(np.ones(3), 2).T
    assert_unbiased(*parameter_steps(sampled(spg(0.1)), mdp, start))


def test_one_sampled_softmax_step_is_reinforce():
    _, steps = parameter_steps(sampled(spg(0.1), 0.4), BANDIT, START, draws=500)
    scores = [0.1 * (BANDIT.rewards[a] - 0.4) * (np.eye(3)[a] - START) for a in range(3)]
    kinds = [int(np.argmin([abs(step - score).max() for score in scores])) for step in steps.T]
    np.testing.assert_allclose(steps.T, np.array(scores)[kinds], atol=1e-14)
    # Actions come with their probabilities, within five standard errors.
    counts = np.bincount(kinds, minlength=3)
    assert (abs(counts - 500 * START) <= 5 * np.sqrt(500 * START * (1 - START))).all()


def test_the_same_key_gives_the_same_run_and_another_key_another():
    one, again, other = (
        trajectory(BANDIT, SAMPLED, START[:, None], [50], key=jax.random.key(k)).probs for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert abs(one - other).max() > 1e-6


SAMPLED = sampled(spg(0.1))


def test_sampled_softmax_also_escapes_a_shallow_well():
    start = np.repeat([[0.05], [0.95]], 50, axis=1)
    times = escape_time(Bandit([1.0, 0.0]), SAMPLED, start, 0.9, 20_000, key=jax.random.key(2))
    assert not times.censored.any()
    assert len(np.unique(times.steps)) > 5


def exact_failure_probability(step, steps, tolerance=0.01):
    """Sum over all 2^steps action sequences of a two-armed bandit from θ = 0, by plain NumPy."""
    total = 0.0
    for actions in itertools.product((0, 1), repeat=steps):
        theta, likelihood = np.zeros(2), 1.0
        for action in actions:
            probs = np.exp(theta - theta.max())
            probs /= probs.sum()
            likelihood *= probs[action]
            if likelihood < 1e-15:  # of no weight; the estimator would divide by almost zero
                break
            theta = theta + step(action, probs)
        final = expit(theta[0] - theta[1])
        total += likelihood * (final < tolerance)
    return total


REWARDS = np.array([1.0, 0.9])


def npg_step(action, probs):
    return 0.5 * np.eye(2)[action] * REWARDS[action] / probs[action]


def gnpg_step(action, probs):
    gradient = REWARDS[action] * (np.eye(2)[action] - probs)
    return 0.5 * gradient / np.linalg.norm(gradient)


@pytest.mark.parametrize(
    ("method", "step"), [(npg(0.5), npg_step), (gnpg(0.5), gnpg_step)], ids=["NPG", "GNPG"]
)
def test_the_failure_probability_is_that_of_all_action_sequences(method, step):
    runs, steps = 20_000, 10
    outcome = commitment(Bandit(REWARDS), sampled(method, 0.0), [0.5, 0.5], runs, steps, jax.random.key(4))
    truth = exact_failure_probability(step, steps)
    assert 0.05 < truth < 0.95
    assert abs(outcome.fraction - truth) < 5 * np.sqrt(truth * (1 - truth) / runs)
    assert outcome.low < outcome.fraction < outcome.high
    assert outcome.wrong == round(outcome.fraction * runs)


def test_without_a_baseline_natural_gradient_commits_and_softmax_hardly_ever_does():
    key = jax.random.key(5)
    natural = commitment(Bandit([1.0, 0.8]), sampled(npg(0.5), 0.0), [0.5, 0.5], 2000, 500, key)
    softmax = commitment(Bandit([1.0, 0.8]), sampled(spg(0.05), 0.0), [0.5, 0.5], 2000, 500, key)
    assert natural.low > 0.2
    assert softmax.high < 0.01


@pytest.mark.parametrize(("successes", "trials"), [(0, 100), (3, 50), (25, 50), (50, 50)])
def test_the_interval_is_scipys_wilson_interval(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("trials", [1, 37, 300, 4000])
def test_the_interval_of_none_begins_at_exactly_zero_and_that_of_all_ends_at_one(trials):
    assert wilson_interval(0, trials)[0] == 0.0
    assert wilson_interval(trials, trials)[1] == 1.0


def test_no_trials_have_no_interval():
    with pytest.raises(UserError, match="trials = 0: must be an integer ≥ 1"):
        wilson_interval(0, 0)
    with pytest.raises(UserError, match=r"successes = 3: must be in 0\.\.2 \(trials\)"):
        wilson_interval(3, 2)


def test_the_interval_covers_at_nearly_the_stated_rate():
    p, n = 0.3, 200
    covered = sum(
        binom.pmf(k, n, p) for k in range(n + 1) if wilson_interval(k, n)[0] <= p <= wilson_interval(k, n)[1]
    )
    assert covered == pytest.approx(0.95, abs=0.02)


def test_the_evaluation_that_is_sampled_stays_exact_for_the_caller():
    at = evaluate(BANDIT, START[:, None])
    assert (at.importance == 1).all()
    np.testing.assert_array_equal(at.outcome, at.advantage)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sampled(spg(0.1), float("nan")), 'baseline = nan: must be "value" or a finite number'),
        (
            lambda: sampled(spg(0.1), reward_noise=-1.0),
            r"reward_noise = -1\.0: must be a finite standard dev",
        ),
        (
            lambda: commitment(BANDIT, spg(0.1), START, 5, 5, jax.random.key(0)),
            "method = 'SPG': must be a sampled",
        ),
        (
            lambda: commitment(BANDIT, SAMPLED, START, 0, 5, jax.random.key(0)),
            "runs = 0: must be an integer ≥ 1",
        ),
        (
            lambda: commitment(BANDIT, SAMPLED, START, 5, 0, jax.random.key(0)),
            "steps = 0: must be an integer ≥ 1",
        ),
        (lambda: commitment(BANDIT, SAMPLED, 2 * START, 5, 5, jax.random.key(0)), "starts sums to 2"),
        (
            lambda: commitment(BANDIT, SAMPLED, START, 5, 5, jax.random.key(0), tolerance=1.5),
            r"tolerance = 1\.5: must be in \(0, 1\)",
        ),
        (
            lambda: commitment(Bandit(np.eye(2)), SAMPLED, START, 5, 5, jax.random.key(0)),
            r"problem = \(2, 2\): must be a bandit without contexts",
        ),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
