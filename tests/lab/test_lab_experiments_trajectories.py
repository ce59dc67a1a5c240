"""Paths on the simplex: a plain NumPy loop, finite differences, and an ODE solver for the late law."""

import math

import numpy as np
import pytest
import scipy.integrate

from escapevelocity.errors import UserError
from escapevelocity.lab.experiments.trajectories import Trajectories, late_suboptimality, simplex_grid
from escapevelocity.report.lab.canvas import select

REWARDS = (0.3, 0.9, 0.5)
SMALL = Trajectories(
    rewards=REWARDS,
    escort_powers=(3.0,),
    grid=4,
    corner_probs=(0.02,),
    max_steps=300,
    num_points=40,
    surface_grid=5,
)


@pytest.fixture(scope="module")
def findings():
    return SMALL.run()


def policy(theta, p):
    weights = np.exp(theta) if p is None else np.abs(theta) ** p
    return weights / weights.sum()


def parameters(probs, p):
    return np.log(probs) if p is None else probs ** (1 / p)


def gradient(theta, p):
    """Central differences of πᵀr."""
    width = 1e-6
    shifts = width * np.eye(3)
    values = [(policy(theta + s, p) - policy(theta - s, p)) @ REWARDS / (2 * width) for s in shifts]
    return np.array(values)


def walk(start, p, steps):
    """Policies of plain gradient ascent, at η for softmax and at η‖θ‖_p²/p² for the raw θ of an escort."""
    theta, found = parameters(start, p), [start]
    for _ in range(steps):
        rate = 0.4 if p is None else 0.4 * np.sum(np.abs(theta) ** p) ** (2 / p) / p**2
        theta = theta + rate * gradient(theta, p)
        found.append(policy(theta, p))
    return np.array(found)


@pytest.mark.parametrize(("method", "p"), [("SPG", None), ("EPG(3)", 3.0)])
@pytest.mark.parametrize("kind", ["uniform", "corner r = 0.5, π₁ = 0.02"])
def test_a_path_is_that_of_a_plain_loop_with_finite_differences(findings, method, p, kind):
    rows = select(findings.tables[""], method=method, kind=kind)
    ends = select(findings.tables["starts"], method=method, kind=kind)
    start = [1 / 3] * 3 if kind == "uniform" else [0.02, 0.02, 0.96]
    probs = walk(np.array(start), p, 300)
    gaps = (0.9 - np.array(REWARDS)) @ probs.T
    assert (rows["step"][0], rows["step"][-1]) == (0, 300)
    # The differences' error, 1e-10 per step, adds up over 300 steps and grows while the path leaves the corner.
    for action in range(3):
        np.testing.assert_allclose(rows[f"prob_{action}"], probs[rows["step"], action], atol=1e-6)
    np.testing.assert_allclose(rows["suboptimality"], gaps[rows["step"]], atol=1e-6)
    norms = [np.linalg.norm(gradient(parameters(probs[t], p), p)) for t in rows["step"]]
    np.testing.assert_allclose(rows["gradient_norm"], norms, atol=1e-5)
    best = probs[rows["step"], 1]
    np.testing.assert_allclose(rows["coefficient"], best if p is None else 3 * best ** (2 / 3), atol=1e-5)
    first = [
        int(np.argmax(gaps < limit)) if (gaps < limit).any() else math.inf for limit in (0.9 * 0.4, 0.01)
    ]
    assert ends["arrival_steps"].tolist() == first[1:]
    if kind != "uniform":
        assert ends["escape_steps"].tolist() == first[:1]
    assert ends["smallest_coefficient"][0] == rows["coefficient"].min()


def test_some_paths_arrive_and_some_do_not_and_the_summary_says_which(findings):
    ends = findings.tables["starts"]
    shown = {(row[0], row[1]): row[2:4] for row in findings.summary.rows}
    softmax = select(ends, method="SPG", kind="corner r = 0.5, π₁ = 0.02")
    assert softmax["arrival_steps"].tolist() == [math.inf]
    assert shown["SPG", "corner r = 0.5, π₁ = 0.02"][1] == "never"
    escort = select(ends, method="EPG(3)", kind="corner r = 0.5, π₁ = 0.02")
    assert shown["EPG(3)", "corner r = 0.5, π₁ = 0.02"] == [
        f"{escort['escape_steps'][0]:.0f}",
        f"{escort['arrival_steps'][0]:.0f}",
    ]
    slowest = select(ends, method="EPG(3)", kind="grid")["arrival_steps"].max()
    assert shown["EPG(3)", "grid (slowest of 3)"] == ["–", f"{slowest:.0f}"]


def test_escape_is_nine_tenths_of_what_the_corner_lacks(findings):
    """From the corner r = 0.3 that is 0.54, of which a path on its way over r = 0.5 has no lack any more."""
    ends = select(findings.tables["starts"], method="EPG(3)", kind="corner r = 0.3, π₁ = 0.02")
    gaps = (0.9 - np.array(REWARDS)) @ walk(np.array([0.96, 0.02, 0.02]), 3, 300).T
    assert ends["escape_steps"].tolist() == [np.argmax(gaps < 0.54)]


def test_starts_are_the_uniform_policy_the_corners_and_the_inside_of_the_grid():
    starts = SMALL.starts()
    assert starts.kinds.tolist() == [
        "uniform",
        "corner r = 0.3, π₁ = 0.02",
        "corner r = 0.5, π₁ = 0.02",
        *["grid"] * 3,
    ]
    assert starts.corners.tolist() == [-1, 0, 2, -1, -1, -1]
    np.testing.assert_allclose(starts.probs[:, 1], [0.96, 0.02, 0.02])
    inside = np.array([[1, 1, 2], [1, 2, 1], [2, 1, 1]]) / 4
    np.testing.assert_allclose(sorted(starts.probs[:, 3:].T.tolist()), inside)


def test_the_grid_has_every_multiple_once():
    points = simplex_grid(5)
    assert points.shape == (3, 6 * 7 // 2)
    np.testing.assert_allclose(points.sum(axis=0), 1, rtol=1e-15)
    assert len({tuple(np.round(5 * point).astype(int)) for point in points.T}) == 21


def test_the_surface_is_the_gradient_and_what_is_lacking(findings):
    for method, p in (("SPG", None), ("EPG(3)", 3.0)):
        rows = select(findings.tables["surface"], method=method)
        assert len(rows["prob_0"]) == 21
        for i in (0, 7, 20):
            probs = np.array([rows[f"prob_{a}"][i] for a in range(3)])
            assert rows["suboptimality"][i] == pytest.approx((0.9 - np.array(REWARDS)) @ probs, rel=1e-12)
            norm = np.linalg.norm(gradient(parameters(probs, p), p))
            assert rows["gradient_norm"][i] == pytest.approx(norm, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(("p", "time", "error"), [(None, 1e5, 0.005), (4.0, 1e5, 0.01), (3.0, 1e4, 0.02)])
def test_the_late_law_is_where_the_gradient_flow_of_an_ode_solver_tends_to(p, time, error):
    """What is left out falls as log(t)/t for softmax and as t^(−1/(p − 2)) for an escort."""
    rewards = np.array(REWARDS)

    def flow(_, theta):
        pi = policy(theta, p)
        advantage = rewards - pi @ rewards
        if p is None:
            return 0.4 * pi * advantage
        norm = np.sum(np.abs(theta) ** p) ** (1 / p)
        return 0.4 * norm**2 / p**2 * p / norm * pi ** (1 - 1 / p) * advantage

    start = parameters(np.array([0.3, 0.5, 0.2]), p)
    end = scipy.integrate.solve_ivp(flow, (0, time), start, method="LSODA", rtol=1e-9, atol=1e-13)
    lacking = (0.9 - rewards) @ policy(end.y[:, -1], p)
    assert lacking == pytest.approx(late_suboptimality(REWARDS, 0.4, p, np.array([time]))[0], rel=error)


def test_there_is_no_late_law_at_time_zero_nor_for_small_exponents():
    assert np.isnan(late_suboptimality(REWARDS, 0.4, None, np.array([0]))).all()
    assert np.isnan(late_suboptimality(REWARDS, 0.4, 2.0, np.array([1, 10]))).all()


def test_the_answers_count_what_the_tables_hold(findings):
    points = findings.tables[""]
    holds = points["gradient_norm"] >= points["coefficient"] * points["suboptimality"] * (1 - 1e-9)
    assert holds.all()
    assert f"holds at {len(holds):,} of {len(holds):,} recorded points" in findings.answers[2]
    ends = select(findings.tables["starts"], kind="corner r = 0.3, π₁ = 0.02")
    steps = [f"{name} {n:.0f}" for name, n in zip(ends["method"], ends["escape_steps"], strict=True)]
    # 1/(2·0.4·0.6·0.02), the law among actions that all pay as the corner does
    assert f"{', '.join(steps)}; " in findings.answers[0]
    assert findings.answers[0].endswith("is 104.")


def test_the_same_settings_find_the_same(findings):
    again = SMALL.run()
    for name, table in findings.tables.items():
        for column, values in table.items():
            np.testing.assert_array_equal(again.tables[name][column], values)
    assert again.answers == findings.answers


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": (1.0, 1.2, 0.0)}, r"rewards\[1\] = 1.2: must be in \[0, 1\]"),
        (
            {"rewards": (1.0, 1.0, 0.0)},
            r"rewards = \(1.0, 1.0, 0.0\): must be numbers of which one",
        ),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: must be above 0 and at most 1e100"),
        ({"learning_rate": math.inf}, "learning_rate = inf: must be above 0 and at most 1e100"),
        ({"escort_powers": (2.0, 0.5)}, r"escort_powers\[1\] = 0.5: must be finite and ≥ 1"),
        ({"corner_probs": (0.5,)}, r"corner_probs\[0\] = 0.5: must be in \(0, 1/3\)"),
        ({"grid": 2}, "grid = 2: must be an integer ≥ 3"),
        ({"surface_grid": 2}, "surface_grid = 2: must be an integer ≥ 3"),
        ({"max_steps": 9}, "max_steps = 9: must be an integer ≥ 10"),
        ({"num_points": 9}, "num_points = 9: must be an integer ≥ 10"),
    ],
)
def test_a_setting_out_of_range_is_refused_in_one_line(change, message):
    with pytest.raises(UserError, match=message):
        Trajectories(**change).run()


def test_a_learning_rate_whose_laws_overflow_is_named_and_up_to_there_all_is_finite():
    settings = {"escort_powers": (2.0, 64.0), "max_steps": 20, "num_points": 10, "grid": 3}
    with pytest.raises(UserError, match=r"learning_rate = 1e\+200: must be above 0 and at most 1e100"):
        Trajectories(learning_rate=1e200, **settings).run()
    found = Trajectories(learning_rate=1e100, **settings).run()
    assert np.isfinite(found.tables[""]["suboptimality"]).all()
