"""The two-state clipping example: the published numbers, PyTorch, hand arithmetic and symmetries."""

import doctest
import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.lab.toy import PUBLISHED_FEATURE, PUBLISHED_THETA, clipping_toy, random_toys


@pytest.mark.parametrize(
    ("alpha", "x", "y"),
    [(3.0, 1.103, 1.253), (-1.0, 0.989, 1.012), (-2.0, 0.941, 1.141)],
)
def test_final_ratios_are_those_of_the_published_run(alpha, x, y):
    """ppo_collapse.md, "The toy clipping example": three decimals."""
    np.testing.assert_allclose(clipping_toy(alpha).ratios[-1], [x, y], atol=5e-4)


def test_the_published_start_is_seed_one_of_pytorch():
    """A Linear(1, 2) without bias is U(−1, 1), then φ(x) ~ N(0, 1): the law that `random_toys` draws from."""
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theta = torch.nn.Linear(1, 2, bias=False).weight.detach().numpy().ravel()
        feature = torch.randn(1).item()
    np.testing.assert_allclose(theta, PUBLISHED_THETA, atol=5e-6)
    assert feature == pytest.approx(PUBLISHED_FEATURE, abs=5e-7)


@pytest.mark.parametrize("alpha", [3.0, -1.0, -2.0, 0.4])
def test_every_step_agrees_with_ppo_in_pytorch(alpha):
    torch = pytest.importorskip("torch")
    theta = torch.tensor(PUBLISHED_THETA, dtype=torch.float64, requires_grad=True)
    features = torch.tensor([PUBLISHED_FEATURE, alpha * PUBLISHED_FEATURE], dtype=torch.float64)
    optimiser = torch.optim.SGD([theta], lr=1.5)

    def probs():
        return torch.softmax(features[:, None] * theta[None], dim=1)[:, 0]

    old = probs().detach()
    ratios, thetas = [np.ones(2)], [theta.detach().numpy().copy()]
    for step in range(20):
        optimiser.zero_grad()
        ratio = (probs() / old)[step % 2]
        (-torch.minimum(ratio, torch.clamp(ratio, 0.9, 1.1))).backward()
        optimiser.step()
        ratios.append((probs() / old).detach().numpy())
        thetas.append(theta.detach().numpy().copy())
    run = clipping_toy(alpha)
    np.testing.assert_allclose(run.ratios, ratios, rtol=1e-12)
    np.testing.assert_allclose(run.theta, thetas, rtol=1e-12)
    np.testing.assert_allclose(run.probs, run.ratios * old.numpy(), rtol=1e-12)


def test_the_first_step_by_hand():
    """Δθ = lr·φ·π(1 − π)/π·(1, −1), as the ratio's gradient at ratio 1 is that of log π."""
    feature, (one, two) = PUBLISHED_FEATURE, PUBLISHED_THETA
    pi = 1 / (1 + math.exp(feature * (two - one)))
    change = 1.5 * feature * (1 - pi)
    theta = clipping_toy(3.0, num_steps=1).theta
    np.testing.assert_allclose(theta, [[one, two], [one + change, two - change]], rtol=1e-14)


def test_the_state_with_the_larger_feature_crosses_first_and_is_pushed_on_by_the_other():
    run = clipping_toy(3.0)
    x, y = run.ratios.T
    crossing_y, crossing_x = np.argmax(y > 1.1), np.argmax(x > 1.1)
    assert 0 < crossing_y < crossing_x
    assert y[crossing_x] > y[crossing_y] + 0.05
    moved = np.any(np.diff(run.theta, axis=0) != 0, axis=1)
    # After y has crossed, its own steps (the odd ones) do nothing; x's go on until x has crossed too.
    for step in range(crossing_y, 20):
        assert moved[step] == (step % 2 == 0 and step < crossing_x)
    assert np.all(moved[:crossing_y])


def test_once_both_are_clipped_nothing_moves_any_more():
    long, short = clipping_toy(3.0, num_steps=200).ratios, clipping_toy(3.0).ratios
    np.testing.assert_array_equal(long[:21], short)
    np.testing.assert_array_equal(long[21:], np.broadcast_to(short[-1], (180, 2)))


def test_features_of_opposite_sign_interfere():
    """Each state's own step raises its ratio and lowers the other's, as long as it is not clipped."""
    change = np.diff(np.log(clipping_toy(-1.0).ratios), axis=0)
    for step in range(20):
        own, other = change[step, step % 2], change[step, 1 - step % 2]
        assert own > 0 > other


def test_a_state_without_features_keeps_its_probability_of_one_half():
    run = clipping_toy(0.0)
    np.testing.assert_array_equal(run.ratios[:, 1], 1.0)
    np.testing.assert_array_equal(run.probs[:, 1], 0.5)
    assert run.ratios[-1, 0] > 1.05


def test_a_random_start_overshoots_in_both_states_in_about_four_of_five_draws():
    n = 4000
    run = random_toys(3.0, n, np.random.default_rng(7))
    share = np.mean(np.all(run.ratios[:, -1] > 1.1, axis=-1))
    # 0.8 to one digit, and three standard errors √(0.8 · 0.2/n) = 0.006 on top
    assert abs(share - 0.8) < 0.05 + 3 * math.sqrt(0.16 / n)
    assert run.ratios.shape == (n, 21, 2)


def test_random_starts_are_uniform_weights_and_repeat_with_the_generator():
    one, same = (random_toys(2.0, 2000, np.random.default_rng(3), num_steps=2) for _ in range(2))
    np.testing.assert_array_equal(one.theta, same.theta)
    start = one.theta[:, 0]
    assert np.abs(start).max() <= 1
    # mean 0 and variance 1/3; four standard errors of 4000 numbers
    assert abs(start.mean()) < 4 * math.sqrt(1 / 3 / start.size)
    assert abs((start**2).mean() - 1 / 3) < 4 * math.sqrt((1 / 5 - 1 / 9) / start.size)


def test_a_sweep_is_one_call_and_equals_its_single_runs():
    alphas, features = np.array([-2.0, 1.0, 3.0]), np.array([[0.05], [1.0]])
    sweep = clipping_toy(alphas, features)
    assert sweep.ratios.shape == (2, 3, 21, 2)
    for i in range(2):
        for j in range(3):
            one = clipping_toy(alphas[j], features[i, 0])
            np.testing.assert_allclose(sweep.ratios[i, j], one.ratios, rtol=1e-14)


@settings(deadline=None, max_examples=30)
@given(st.floats(-4, 4), st.floats(-3, 3), st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2))
def test_the_sign_of_the_features_and_a_shift_of_the_weights_do_not_matter(alpha, feature, one, two, shift):
    run = clipping_toy(alpha, feature, [one, two])
    mirrored = clipping_toy(alpha, -feature, [-one, -two])
    shifted = clipping_toy(alpha, feature, [one + shift, two + shift])
    np.testing.assert_allclose(mirrored.ratios, run.ratios, rtol=1e-14)
    np.testing.assert_allclose(mirrored.theta, -run.theta, rtol=1e-14, atol=1e-15)
    # A ratio that a shift's rounding puts on the other side of 1 + ε takes another path from there.
    undecided = np.any(np.abs(run.ratios - 1.1) < 1e-9)
    if not undecided:
        np.testing.assert_allclose(shifted.ratios, run.ratios, rtol=1e-10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": math.nan}, r"alpha\[\] = nan: must be finite"),
        ({"feature": [0.1, math.inf]}, r"feature\[1\] = inf: must be finite"),
        ({"theta": [1.0, 2.0, 3.0]}, r"theta.shape = \(3,\): must be \(\*batch, 2\), one weight per action"),
        ({"clip_epsilon": 0.0}, "clip_epsilon = 0.0: must be a number strictly between 0 and 1"),
        ({"clip_epsilon": 1.0}, "clip_epsilon = 1.0: must be a number strictly between 0 and 1"),
        ({"learning_rate": -1.5}, "learning_rate = -1.5: must be a finite number > 0"),
        ({"num_steps": 0}, "num_steps = 0: must be an integer ≥ 1"),
        (
            {"alpha": [1.0, 2.0], "feature": [0.1, 0.2, 0.3]},
            r"batch shapes of alpha, feature, theta = \(\(2,\), \(3,\), \(\)\): must broadcast",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    with pytest.raises(UserError, match=message):
        clipping_toy(**({"alpha": 3.0} | change))


def test_no_draws_are_refused():
    with pytest.raises(UserError, match="num_draws = 0: must be an integer of at least 1"):
        random_toys(3.0, 0, np.random.default_rng(0))


@pytest.mark.parametrize("module", ["damping", "toy"])
def test_examples_in_the_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(f"escapevelocity.lab.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
