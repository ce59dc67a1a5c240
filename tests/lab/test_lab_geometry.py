"""The non-uniform Łojasiewicz inequality on thousands of policies, its two sides against NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.lab import (
    Bandit,
    CrossEntropyProblem,
    corner_starts,
    epg,
    garnet,
    log_spaced,
    lojasiewicz,
    lojasiewicz_along,
    spg,
    trajectory,
)
from escapevelocity.policy import Escort, escort_policy_gradient

TRANSFORMS = [None, 1, 1.5, 2, 4]
every_transform = pytest.mark.parametrize("p", TRANSFORMS)
# Both sides carry a few dozen float64 roundings.
SLACK = 1 + 1e-12


def policies(seed, shape, starts=200):
    """From uniform to deep in a corner: Dirichlet of concentration 10⁻² … 1."""
    rng = np.random.default_rng(seed)
    concentration = 10 ** rng.uniform(-2, 0)
    probs = rng.dirichlet(np.full(shape[0], concentration), (*shape[1:], starts))
    # XLA computes with subnormal numbers as it likes (a power of 1e-313 is off by a factor of 4,000): none is drawn.
    probs[probs < np.finfo(np.float64).tiny] = 0
    return np.moveaxis(probs, -1, 0)


@every_transform
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=184)  # drew a probability of 1e-313
@example(seed=416)  # holds a policy so deep in a corner that the squares of its gradient are below 1e-308
def test_the_inequality_holds_for_bandits_and_its_sides_are_the_formulas(p, seed):
    rewards = np.random.default_rng(seed + 1).random(4)
    probs = policies(seed, (4,))
    sides = lojasiewicz(Bandit(rewards), probs, p)
    advantage = rewards[:, None] - rewards @ probs
    slope = probs if p is None else np.where(probs > 0, p * probs ** (1 - 1 / p), 0)  # sgn 0 = 0
    np.testing.assert_allclose(
        sides.gradient_norm, np.linalg.norm(slope * advantage, axis=0), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(sides.coefficient, slope[rewards.argmax()], rtol=1e-12)
    np.testing.assert_allclose(sides.suboptimality, rewards.max() - rewards @ probs, atol=1e-14)
    assert (sides.gradient_norm * SLACK >= sides.coefficient * sides.suboptimality).all()


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_the_gradient_norm_is_that_of_the_escort_transform_also_at_zero(p):
    bandit = Bandit([1.0, 0.0, 0.4])
    for probs in ([0.0, 1.0, 0.0], [0.0, 0.3, 0.7], [0.2, 0.5, 0.3]):
        theta = np.array(probs) ** (1 / p)
        gradient = escort_policy_gradient(Escort(3, p), jnp.asarray(theta), jnp.asarray([1.0, 0.0, 0.4]))
        sides = lojasiewicz(bandit, np.array(probs)[:, None], p)
        np.testing.assert_allclose(sides.gradient_norm, np.linalg.norm(gradient), rtol=1e-6, atol=1e-7)


@every_transform
def test_the_inequality_holds_for_mdps(p):
    mdp = garnet(np.random.default_rng(1), 6, 3, 2, 0.9)
    sides = lojasiewicz(mdp, np.concatenate([policies(seed, (3, 6)) for seed in range(10)], axis=-1), p)
    assert (sides.gradient_norm * SLACK >= sides.coefficient * sides.suboptimality).all()
    assert (sides.coefficient > 0).any()
    assert (sides.suboptimality > 0.1).any()


def test_the_mdp_coefficient_is_its_formula():
    mdp = garnet(np.random.default_rng(1), 6, 3, 2, 0.9)
    probs = policies(0, (3, 6), starts=1)[..., 0]

    def visits(policy):
        p = np.einsum("as,ast->st", policy, mdp.transitions)
        return np.linalg.solve(np.eye(6) - 0.9 * p.T, mdp.start)

    best = mdp.best_actions
    assert (best.sum(axis=0) == 1).all()
    ratio = (best * probs).sum(axis=0) * visits(probs) / visits(best)
    sides = lojasiewicz(mdp, probs[..., None])
    assert sides.coefficient[0] == pytest.approx(ratio.min() / np.sqrt(6), rel=1e-10, abs=0)


def test_contexts_use_their_weights():
    bandit = Bandit([[1.0, 0.0], [0.0, 1.0]], weights=[0.25, 0.75])
    sides = lojasiewicz(bandit, np.full((2, 2, 1), 0.5))
    # gradient per context: w·π·A = w·(¼, −¼); C = ½/√2; sub-optimality ½
    assert sides.gradient_norm[0] == pytest.approx(np.sqrt(2 * (0.25**2 + 0.75**2)) / 4)
    assert sides.coefficient[0] == pytest.approx(0.5 / np.sqrt(2))
    assert sides.suboptimality[0] == pytest.approx(0.5)


def test_of_tied_best_actions_the_likelier_counts():
    sides = lojasiewicz(Bandit([1.0, 1.0, 0.0]), [[0.1], [0.3], [0.6]])
    assert sides.coefficient[0] == pytest.approx(0.3)


def test_temperature_divides_coefficient_and_gradient():
    hot, plain = (lojasiewicz(Bandit([1.0, 0.0]), [[0.3], [0.7]], temperature=t) for t in (2.0, 1.0))
    assert hot.coefficient[0] == pytest.approx(plain.coefficient[0] / 2)
    assert hot.gradient_norm[0] == pytest.approx(plain.gradient_norm[0] / 2)


@pytest.mark.parametrize(("method", "p"), [(spg(0.4), None), (epg(0.4, 2), 2), (epg(0.4, 4), 4)])
def test_the_inequality_holds_along_trajectories_out_of_the_well(method, p):
    bandit = Bandit([0.7, 0.2, 0.5, 0.0])
    records = trajectory(bandit, method, corner_starts(4, 1, [1e-2, 1e-4]), log_spaced(30_000, 60))
    sides = lojasiewicz_along(bandit, records, p)
    assert sides.coefficient.shape == (len(records.steps), 2)
    np.testing.assert_allclose(sides.suboptimality, records.suboptimality, rtol=1e-9, atol=1e-300)
    assert (sides.gradient_norm * SLACK >= sides.coefficient * sides.suboptimality).all()
    slope = records.probs[:, 0] if p is None else p * records.probs[:, 0] ** (1 - 1 / p)
    np.testing.assert_allclose(sides.coefficient, slope, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lojasiewicz(Bandit([1.0, 0.0]), [[0.5], [0.6]]), r"starts sums to 1\.1: must sum to 1"),
        (
            lambda: lojasiewicz(Bandit([1.0, 0.0]), [[0.5], [0.5]], p=0.5),
            r"p = 0\.5: must be a finite number ≥ 1",
        ),
        (lambda: lojasiewicz(Bandit([1.0, 0.0]), [[0.5], [0.5]], temperature=-1.0), r"temperature = -1\.0"),
        (
            lambda: lojasiewicz(CrossEntropyProblem([0], 2), np.full((2, 1, 1), 0.5)),
            "problem is a CrossEntropyProblem: must be a Bandit or a TabularMDP",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
