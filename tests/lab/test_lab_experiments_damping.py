"""Damping's laws with their constants: an ODE solver, quadrature, a NumPy loop, and theory.md's slopes."""

import math

import numpy as np
import pytest
import scipy.integrate

from escapevelocity.errors import UserError
from escapevelocity.lab.experiments.damping import Damping, arrival_step, jitter, late_law
from escapevelocity.report.lab.canvas import select
from escapevelocity.report.lab.damping import draw

K, RATE = 10, 0.1
GROWN = K + RATE * math.log(K)
"""‖θ‖₂² once an escort has arrived: the flow keeps K, a step adds η²‖∇‖², and η·Σ‖∇‖² is KL's fall from log K."""


@pytest.fixture(scope="module")
def findings():
    """The default settings with fewer points: K = 10, η = 0.1, 200,000 steps."""
    return Damping(num_points=300).run()


def fit(findings, loss):
    return {name: column[0] for name, column in select(findings.tables["fits"], loss=loss).items()}


@pytest.mark.parametrize(("loss", "exponent"), [("SCE", -1), ("ECE(4)", -2), ("ECE(3)", -3)])
def test_slopes_are_those_of_the_law_and_fitted_over_the_last_decade(findings, loss, exponent):
    one, rows = fit(findings, loss), select(findings.tables[""], loss=loss)
    assert one["exponent"] == exponent
    assert one["fitted_exponent"] == pytest.approx(exponent, abs=0.05)  # theory.md, "Damping"
    late = rows["steps"] >= 20_000
    x = np.vstack([np.log(rows["steps"][late]), np.ones(late.sum())]).T
    slope = np.linalg.lstsq(x, np.log(rows["kl"][late]), rcond=None)[0][0]
    assert one["fitted_exponent"] == pytest.approx(slope, rel=1e-9)
    assert one["sign_flips"] == 0
    # ‖∇‖ ~ t^(−(p − 1)/(p − 2)), as θ(b)^(p−1); as KL for softmax
    assert one["fitted_gradient_exponent"] == pytest.approx({-1: -1, -2: -1.5, -3: -2}[exponent], abs=0.05)


def test_the_square_escort_falls_exponentially_at_the_laws_rate(findings):
    one = fit(findings, "ECE(2)")
    assert one["decay"] == pytest.approx(4 * RATE / K)
    # Descent multiplies θ(b) by 1 − 2η/‖θ‖₂² at every step, and KL ~ θ(b)².
    assert one["fitted_decay"] == pytest.approx(-2 * math.log(1 - 2 * RATE / GROWN), rel=0.005)
    assert math.isnan(one["exponent"])


def test_the_escort_below_two_arrives_when_the_flow_does_and_jitters_as_predicted(findings):
    one, rows = fit(findings, "ECE(1.5)"), select(findings.tables[""], loss="ECE(1.5)")
    assert one["arrival"] == rows["steps"][np.argmax(rows["sign_flips"] > 0)]
    # A step of log-spacing is 4 %, and ‖θ‖₂^p grows by 2 %.
    assert one["arrival"] == pytest.approx(one["arrival_law"], rel=0.06)
    # v ~ ‖θ‖₂^(−3) and KL ~ (v/‖θ‖₂)^1.5 at p = 1.5, so KL goes with ‖θ‖₂² to the power −3.
    assert one["jitter"] == pytest.approx(one["jitter_law"] * (K / GROWN) ** 3, rel=0.01)
    # nearly every step flips all K − 1 wrong parameters
    assert one["sign_flips"] == pytest.approx(9 * 200_000, rel=0.01)


@pytest.mark.parametrize(("p", "time"), [(None, 3e4), (4.0, 1e5), (3.0, 1e4), (2.0, 60.0)])
def test_the_late_laws_constant_is_that_of_the_gradient_flow(p, time):
    k, rate, one_hot = 4, 0.2, np.eye(4)[0]

    def probs(theta):
        weights = np.exp(theta) if p is None else np.abs(theta) ** p
        return weights / weights.sum()

    def slope(_, theta):
        return rate * (one_hot - probs(theta)) * (1 if p is None else p / theta)

    start = np.full(k, 0.0 if p is None else 1.0)
    end = scipy.integrate.solve_ivp(slope, (0, time), start, method="LSODA", rtol=1e-10, atol=1e-14)
    theta = end.y[:, -1]
    law = late_law(p, k, rate, np.array([time]))
    # What is left out: log(ηt)/(ηt) for softmax, t^(−1/(p−2)) for an escort, KL itself for p = 2.
    pi = probs(theta)
    assert law.kl[0] == pytest.approx(-math.log(pi[0]), rel=0.02)
    assert law.gradient_norm[0] == pytest.approx(np.linalg.norm(slope(0, theta)) / rate, rel=0.02)


def test_there_is_no_late_law_before_the_first_step_nor_below_two():
    assert np.isnan(late_law(3.0, 4, 0.1, np.array([0])).kl).all()
    assert np.isnan(late_law(1.5, 4, 0.1, np.array([5])).gradient_norm).all()


@pytest.mark.parametrize(("p", "k"), [(1.0, 3), (1.5, 10), (1.9, 5)])
def test_the_arrival_is_the_quadrature_of_the_flow(p, k):
    """dv/dt = −ηp·v^(p−1)/‖θ‖_p^p with w² + (K − 1)v² = K."""

    def duration(v):
        return ((k - (k - 1) * v**2) ** (p / 2) + (k - 1) * v**p) / (0.1 * p)

    expected, _ = scipy.integrate.quad(duration, 0, 1, weight="alg", wvar=(1 - p, 0))
    assert arrival_step(p, k, 0.1) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("p", [1.0, 1.3, 1.7])
def test_the_jitter_is_that_of_a_numpy_loop(p):
    k, rate, theta = 3, 0.01, np.ones(3)
    one_hot, seen = np.eye(3)[0], []
    for step in range(2000):
        pi = np.abs(theta) ** p / np.sum(np.abs(theta) ** p)
        theta = theta - rate * p / theta * (pi - one_hot)
        if step >= 1000:
            seen.append(-math.log(pi[0]))
    law = jitter(p, k, rate)
    if p == 1:  # only bounded: where the orbit lies depends on the last step before the arrival
        assert 0 < max(seen) <= law
    else:
        # ‖θ‖₂² grows by η·log K = 0.4 %, and KL goes with its power −p/(2 − p): 5.7 at p = 1.7
        assert np.median(seen) == pytest.approx(law, rel=0.03, abs=0)


def test_answers_and_summary_carry_the_fits(findings):
    shown = {row[0]: row for row in findings.summary.rows}
    assert shown["SCE"][1:3] == ["t^-1", f"t^{fit(findings, 'SCE')['fitted_exponent']:.3f}"]
    assert shown["ECE(2)"][1] == "e^(−0.04·t)"
    assert shown["ECE(1.5)"][4] == fit(findings, "ECE(1.5)")["sign_flips"]
    assert f"ECE(3): KL falls as t^{fit(findings, 'ECE(3)')['fitted_exponent']:.3f}" in findings.answers[2]
    assert findings.answers[4].startswith("ECE(1.5): arrives after ")


def test_an_escort_that_has_not_arrived_is_said_not_to_have():
    slow = Damping(escort_powers=(1.5,), learning_rate=1e-5, num_points=300)  # the flow takes 940,000 steps
    findings, again = slow.run(), slow.run()
    assert findings.answers[1] == "ECE(1.5): has not arrived within 200,000 steps."
    for name, values in findings.tables[""].items():
        np.testing.assert_array_equal(again.tables[""][name], values)


def test_a_loss_that_reaches_the_floor_of_theta_has_no_law_fitted_to_it():
    """For p = 2.1 the flow's θ(b) is at 1e-12 after (1e12^0.1 − 1)/0.0019 = 8,000 steps, with KL = 9·10^−25.2.

    For p = 1.99 the orbit of the jitter would be 1e-200, below the floor: it never crosses 0.
    """
    experiment = Damping(escort_powers=(2.1, 1.99), num_steps=20_000, num_points=400)
    findings = experiment.run()
    one = fit(findings, "ECE(2.1)")
    assert one["last_kl"] == pytest.approx(9 * 10**-25.2, rel=0.01, abs=0)
    assert math.isnan(one["fitted_exponent"])
    said = "before its law, t^-21, could be measured."
    assert findings.answers[1] == f"ECE(2.1): reached the floor of |θ|, KL = 5.7e-25, {said}"
    assert findings.answers[2].startswith(
        "ECE(1.99): reached the floor of |θ|, KL = 1.2e-23, before its law, 0 at t ="
    )
    assert [row[2] for row in findings.summary.rows[1:]] == ["at the floor", "at the floor"]
    labels = draw(experiment, findings)[""].axes[2].get_legend_handles_labels()[1]
    assert labels[1:] == ["ECE(2.1): at the floor", "ECE(1.99): at the floor"]


def test_laws_of_large_exponents_do_not_overflow():
    # (v/√K)^(p − 2) = K/((p − 2)·p·η·t), and KL is (K − 1) times its power p/(p − 2)
    law = late_law(700.0, 10, 0.1, np.array([100]))
    assert law.kl[0] == pytest.approx(9 * (10 / (698 * 700 * 0.1 * 100)) ** (700 / 698), rel=1e-9, abs=0)
    assert (
        Damping(escort_powers=(700.0,), num_steps=100, num_points=50).run().summary.rows[1][1] == "t^-1.003"
    )


def test_what_is_not_near_the_target_yet_is_said_and_drawn():
    experiment = Damping(escort_powers=(2.0, 1.5), learning_rate=1e-9, num_steps=1000, num_points=60)
    findings = experiment.run()
    assert findings.answers[1] == "ECE(2): is not yet near the target after 1,000 steps."
    assert [row[2] for row in findings.summary.rows[1:]] == ["not yet", "not yet"]
    assert draw(experiment, findings)[""].axes[2].get_xlim()[1] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 1e6}, "learning_rate = 1000000.0: must be below 5, num_classes/2"),
        ({"learning_rate": 100.0, "num_classes": 2}, "learning_rate = 100.0: must be below 1, num_classes/2"),
        ({"num_steps": 10**19}, r"num_steps = 10000000000000000000: must be at most 1e\+18"),
        ({"escort_powers": (2.0, 0.9)}, r"escort_powers\[1\] = 0.9: must be finite and ≥ 1"),
        ({"num_classes": 1}, "num_classes = 1: must be an integer ≥ 2"),
        ({"learning_rate": -0.1}, "learning_rate = -0.1: must be a finite number > 0"),
        ({"num_steps": 99}, "num_steps = 99: must be an integer ≥ 100"),
        ({"num_points": 49}, "num_points = 49: must be an integer ≥ 50"),
    ],
)
def test_a_setting_out_of_range_is_refused_in_one_line(change, message):
    with pytest.raises(UserError, match=message):
        Damping(**change).run()
