"""Damping: the laws' slopes and constants, an ODE solver, and a NumPy loop as independent truths."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from escapevelocity.errors import UserError
from escapevelocity.lab.damping import damping_curve, damping_exponent, log_log_slope
from escapevelocity.policy import EscortCrossEntropy, SoftmaxCrossEntropy


@pytest.mark.parametrize(
    ("loss", "start", "exponent"),
    [
        (SoftmaxCrossEntropy(), 0.0, -1.0),
        (EscortCrossEntropy(3), 1.0, -3.0),
        (EscortCrossEntropy(4), 1.0, -2.0),
    ],
    ids=["SCE", "ECE(3)", "ECE(4)"],
)
@pytest.mark.parametrize("num_classes", [3, 10])
def test_fitted_slopes_are_those_of_the_law(loss, start, exponent, num_classes):
    """theory.md, "Damping": SCE −1, ECE(3) −3, ECE(4) −2, within 0.05 over t = 2·10⁴ … 2·10⁵."""
    curve = damping_curve(loss, np.full(num_classes, start), 0, learning_rate=0.3, num_steps=200_000)
    assert damping_exponent(loss) == exponent
    assert log_log_slope(curve.steps, curve.kl, 2e4, 2e5) == pytest.approx(exponent, abs=0.05)
    assert np.all(np.diff(curve.kl) < 0)
    assert curve.sign_flips[-1] == 0


def test_from_the_uniform_start_the_softmax_loss_has_the_laws_constant():
    """With x = θ(y) − θ(b), dx/dt = η·e(1 + 1/(K − 1)), e = (K − 1)e^{−x}: so KL → (K − 1)/(K·η·t)."""
    curve = damping_curve(SoftmaxCrossEntropy(), np.zeros(5), 2, learning_rate=0.5, num_steps=100_000)
    # what is left out is of the order of log(ηt)/(ηt) = 2e-4
    assert curve.kl[-1] * 0.5 * 100_000 == pytest.approx(4 / 5, rel=1e-3)


def test_the_square_escort_falls_exponentially_at_the_laws_rate():
    """The flow keeps ‖θ‖₂² = K; near the target dθ(b)/dt = −2ηθ(b)/K, so d ln KL/dt = −4η/K."""
    rate, num_classes = 0.003, 3
    curve = damping_curve(EscortCrossEntropy(2), np.ones(num_classes), 0, rate, 12_000, num_points=2000)
    window = (curve.kl < 1e-5) & (curve.kl > 1e-18)
    steps, log_kl = curve.steps[window], np.log(curve.kl[window])
    slope, offset = np.polyfit(steps, log_kl, 1)
    # the step's own growth of ‖θ‖₂² and (1 − x)² against e^{−2x} are of the order of the rate, 0.3 %
    assert slope == pytest.approx(-4 * rate / num_classes, rel=0.01)
    # straight on a semilog plot, over 13 orders of magnitude
    assert np.max(np.abs(slope * steps + offset - log_kl)) < 0.01
    assert damping_exponent(EscortCrossEntropy(2)) == -math.inf


@pytest.mark.parametrize("rate", [0.01, 0.001])
def test_the_escort_with_p_one_arrives_in_finite_time_and_then_jitters_by_a_step(rate):
    """For p = 1 and θ(b) = v, dv/dt = −η/(θ(y) + (K − 1)v) with θ(y)² + (K − 1)v² = K kept by the flow."""
    k = 3
    arrival, _ = scipy.integrate.quad(lambda v: math.sqrt(k - (k - 1) * v**2) + (k - 1) * v, 0, 1)
    steps = int(2 * arrival / rate)
    curve = damping_curve(EscortCrossEntropy(1), np.ones(k), 0, rate, steps, num_points=3000)
    time = curve.steps * rate
    # A step is at most η/‖θ‖₁ long and ‖θ‖₁ ≥ √K: afterwards |θ(b)| is at most that, KL ≤ Σ|θ(b)|/θ(y).
    jitter = (k - 1) * rate / k
    assert np.all(curve.kl[time < 0.98 * arrival] > 2 * jitter)
    assert np.all(curve.kl[time > 1.02 * arrival] <= jitter)
    assert curve.sign_flips[time < 0.98 * arrival][-1] == 0
    assert curve.sign_flips[-1] > 0
    assert damping_exponent(EscortCrossEntropy(1)) == -math.inf


@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_small_steps_follow_the_gradient_flow_of_an_ode_solver(p):
    start, target, horizon, rate = np.array([0.5, 1.0, -1.5, 0.8]), 1, 3.0, 1e-3

    def flow(_, theta):
        pi = np.abs(theta) ** p / np.sum(np.abs(theta) ** p)
        return p / theta * (np.eye(4)[target] - pi)

    end = scipy.integrate.solve_ivp(flow, (0, horizon if p > 1.5 else 0.5), start, rtol=1e-10, atol=1e-12)
    theta = np.abs(end.y[:, -1]) ** p
    expected = -math.log(theta[target] / theta.sum())
    curve = damping_curve(EscortCrossEntropy(p), start, target, rate, round(end.t[-1] / rate), num_points=3)
    # Euler's method: an error of the order of the rate, here times a time of 3 and a p of 3
    assert curve.kl[-1] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), EscortCrossEntropy(4)], ids=str)
def test_every_recorded_number_is_that_of_a_plain_numpy_loop(loss):
    start, one_hot, rate = np.array([0.3, -1.2, 0.7]), np.array([0.0, 0.0, 1.0]), 0.2

    def probs_and_gradient(theta):
        if loss == SoftmaxCrossEntropy():
            pi = np.exp(theta) / np.exp(theta).sum()
            return pi, pi - one_hot
        pi = theta**4 / (theta**4).sum()
        return pi, 4 / theta * (pi - one_hot)

    curve = damping_curve(loss, start, 2, rate, 50, num_points=50)
    theta, seen, flips = start.copy(), {}, 0
    for step in range(51):
        pi, gradient = probs_and_gradient(theta)
        seen[step] = (-math.log(pi[2]), np.linalg.norm(gradient), flips)
        flips += int(np.sum(np.sign(theta - rate * gradient) == -np.sign(theta)))
        theta = theta - rate * gradient
    assert (curve.steps[0], curve.steps[-1]) == (0, 50)
    kl, norms, flips = np.array([seen[step] for step in curve.steps]).T
    np.testing.assert_allclose(curve.kl, kl, rtol=1e-10)
    np.testing.assert_allclose(curve.gradient_norm, norms, rtol=1e-10)
    np.testing.assert_array_equal(curve.sign_flips, flips)


def test_sign_flips_are_counted_as_they_happen():
    """p = 1, θ = (1, 0.1): the first step takes θ₂ from 0.1 to 0.1 − 0.5/1.1 < 0, and the norm of ∇ is by hand."""
    curve = damping_curve(EscortCrossEntropy(1), [1.0, 0.1], 0, learning_rate=0.5, num_steps=1)
    np.testing.assert_array_equal(curve.sign_flips, [0, 1])
    # (1/θ)(π − y): (1/1.1 − 1, 1/1.1)
    assert curve.gradient_norm[0] == pytest.approx(math.hypot(0.1 / 1.1, 1 / 1.1), rel=1e-12)
    assert curve.kl[0] == pytest.approx(math.log(1.1), rel=1e-12)


def test_curves_are_float64_numpy_whatever_the_process_is_set_to():
    curve = damping_curve(SoftmaxCrossEntropy(), jnp.zeros(3), 0, learning_rate=1.0, num_steps=10)
    assert curve.kl.dtype == curve.gradient_norm.dtype == np.float64
    assert jnp.zeros(1).dtype == jnp.float32
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": np.zeros(3)}, r"start = \[0.0, 0.0, 0.0\]: must be different from 0 somewhere"),
        ({"start": [1.0, np.nan]}, r"start\[1\] = nan: must be finite"),
        ({"start": [1.0]}, r"start.shape = \(1,\): must be \(K,\) with K of at least 2"),
        ({"target": 3}, r"target = 3: must be a class in 0..2"),
        ({"target": -1}, r"target = -1: must be a class in 0..2"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: must be a finite number > 0"),
        ({"learning_rate": math.inf}, "learning_rate = inf: must be a finite number > 0"),
        ({"num_steps": 0}, "num_steps = 0: must be an integer ≥ 1"),
        ({"num_points": 0}, "num_points = 0: must be an integer ≥ 1"),
        ({"num_points": True}, "num_points = True: must be an integer ≥ 1"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    good = {"start": np.ones(3), "target": 0, "learning_rate": 0.1, "num_steps": 5}
    with pytest.raises(UserError, match=message):
        damping_curve(EscortCrossEntropy(2), **(good | change))


def test_a_softmax_may_start_from_zero_logits():
    curve = damping_curve(SoftmaxCrossEntropy(), np.zeros(4), 0, learning_rate=0.1, num_steps=1)
    assert curve.kl[0] == pytest.approx(math.log(4), rel=1e-14)


def test_the_slope_is_that_of_the_window_alone():
    steps = np.array([0.0, 1, 2, 4, 8, 16])
    values = np.array([0.0, 99.0, 3 * 2**-1.5, 3 * 4**-1.5, 3 * 8**-1.5, 0.0])
    assert log_log_slope(steps, values, 2, 8) == pytest.approx(-1.5, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2, 3], [1.0, 2.0], 1, 3), r"values.shape = \(2,\): must be that of steps, \(3,\)"),
        (([1, 2, 3], [1.0, 1.0, 1.0], 3, 9), r"\[first, last\] = \[3, 9\]: must be a window that holds"),
        (([0, 2, 3], [1.0, 1.0, 1.0], 0, 3), "first = 0: must be above 0"),
        (([1, 2, 3], [1.0, 0.0, 1.0], 1, 3), "values = 0.0: must be positive within the window"),
    ],
)
def test_a_slope_that_cannot_be_fitted_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        log_log_slope(*arguments)
