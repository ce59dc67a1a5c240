"""The four-rooms experiment against a simulation in NumPy, with linear solves of its own."""

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import four_rooms
from escapevelocity.lab.experiments.rooms import FourRooms
from escapevelocity.report.lab.rooms import draw

SETTINGS = {"rates": (100.0, 1000.0), "iterations": 60, "snapshots": (10,), "escort_powers": (2.0,)}
ROOMS = four_rooms()
INNER = [s for s, cell in enumerate(ROOMS.cells.tolist()) if ROOMS.mdp.optimal_values[s] > 0]


def simulated(method, rate, iterations):
    """State values (T + 1, S) and policies along plain softmax ascent."""
    p, r = np.asarray(ROOMS.mdp.transitions), np.asarray(ROOMS.mdp.rewards)
    mu = np.full(104, 1 / 104)
    theta, values, policies = np.log(ROOMS.start_policy), [], []
    for _ in range(iterations + 1):
        probs = np.exp(theta - theta.max(axis=0))
        probs /= probs.sum(axis=0)
        system = np.eye(104) - 0.99 * np.einsum("as,ast->st", probs, p)
        value = np.linalg.solve(system, (probs * r).sum(axis=0))
        advantage = r + 0.99 * p @ value - value
        values.append(value)
        policies.append(probs)
        visits = np.linalg.solve(system.T, mu)
        theta = theta + rate * (advantage if method == "NPG" else visits * probs * advantage)
    return np.array(values), np.array(policies)


def first_below(gap, limit):
    return int((gap < limit).argmax()) if (gap < limit).any() else np.nan


def picked(columns, **values):
    rows = np.ones(len(next(iter(columns.values()))), bool)
    for name, value in values.items():
        rows &= np.asarray(columns[name]) == value
    return {name: np.asarray(column)[rows] for name, column in columns.items()}


@pytest.fixture(scope="module")
def findings():
    return FourRooms(methods=("SPG", "NPG"), **SETTINGS).run()


@pytest.mark.parametrize("method", ["SPG", "NPG"])
@pytest.mark.parametrize("rate", SETTINGS["rates"])
def test_the_curve_of_every_rate_is_that_of_a_simulation(findings, method, rate):
    rows = picked(findings.tables[""], method=method, rate=rate)
    values, _ = simulated(method, rate, 60)
    np.testing.assert_allclose(rows["value"], values.mean(axis=1)[rows["iteration"]], rtol=1e-9)
    gap = ROOMS.mdp.optimal_values.mean() - values.mean(axis=1)
    assert rows["iteration"][-1] == 60
    np.testing.assert_equal(rows["solved_at"][0], first_below(gap, 0.1 * gap[0]))


def test_each_method_is_shown_at_the_rate_that_solves_it_first_or_ends_nearest(findings):
    ends = {}
    for method in ("SPG", "NPG"):
        for rate in SETTINGS["rates"]:
            gap = ROOMS.mdp.optimal_values.mean() - simulated(method, rate, 60)[0].mean(axis=1)
            ends[method, rate] = (first_below(gap, 0.1 * gap[0]), gap[-1])
    npg, spg = ({rate: ends[m, rate] for rate in SETTINGS["rates"]} for m in ("NPG", "SPG"))
    assert not np.isnan([found[0] for found in npg.values()]).any()
    assert np.isnan([found[0] for found in spg.values()]).all()
    best = {
        "NPG": min(npg, key=lambda rate: npg[rate][0]),
        "SPG": min(spg, key=lambda rate: spg[rate][1]),
    }
    for method, rate in best.items():
        assert set(picked(findings.tables[""], method=method, is_best=True)["rate"]) == {rate}


def test_every_cell_escapes_when_its_own_gap_has_shrunk_by_a_tenth(findings):
    rows = picked(findings.tables["cells"], method="NPG")
    values, _ = simulated("NPG", rows["rate"][0], 60)
    gaps = (ROOMS.mdp.optimal_values - values)[:, INNER]
    assert len(rows["row"]) == 100  # 104 cells less the four ends
    for column, share in (("escaped_at", 0.9), ("solved_at", 0.1)):
        times = [first_below(gap, share * gap[0]) for gap in gaps.T]
        np.testing.assert_equal(rows[column], times)
    assert len(set(rows["escaped_at"])) > 10


def test_the_maps_hold_the_values_and_policies_of_their_iteration(findings):
    best = picked(findings.tables[""], method="NPG", is_best=True)["rate"][0]
    values, policies = simulated("NPG", best, 10)
    for step in (0, 10):
        rows = picked(findings.tables["maps"], method="NPG", iteration=step)
        np.testing.assert_allclose(rows["value"], values[step], atol=1e-9)
        probs = np.stack([rows[name] for name in ("north", "east", "south", "west")])
        np.testing.assert_allclose(probs, policies[step], atol=1e-9)
    optimum = picked(findings.tables["maps"], method="optimum")
    np.testing.assert_allclose(optimum["value"], ROOMS.mdp.optimal_values, atol=1e-9)


def test_the_summary_and_the_answers_repeat_the_tables(findings):
    lines = {line[0]: line for line in findings.summary.rows}
    rows = picked(findings.tables[""], method="NPG", is_best=True)
    cells = np.sort(picked(findings.tables["cells"], method="NPG")["escaped_at"])
    assert lines["NPG"][3:7] == [int(rows["solved_at"][0]), int(cells[0]), int(cells[50]), int(cells[-1])]
    assert lines["SPG"][3] == "> 60"
    assert f"NPG {int(rows['solved_at'][0])} (η" in findings.answers[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("PPO",)}, r"methods\[0\] = 'PPO': must be one of EPG, SPG, NPG, GNPG"),
        ({"methods": ()}, r"methods = \(\): must be one or more"),
        ({"escort_powers": (0.5,)}, r"escort_powers\[0\] = 0\.5: must be finite and ≥ 1"),
        ({"rates": (1.0, -1.0)}, r"rates\[1\] = -1\.0: must be finite and > 0"),
        ({"rates": (2.0, 1.0)}, r"rates = \(2\.0, 1\.0\): must be in increasing order"),
        ({"iterations": 1}, "iterations = 1: must be an integer ≥ 10"),
        ({"snapshots": (0,)}, r"snapshots\[0\] = 0: must be an integer ≥ 1"),
        ({"concentration": 1.0}, r"concentration = 1\.0: must be in \[0\.25, 1\)"),
        ({"gamma": 1.0}, r"gamma = 1\.0: must be a discount"),
        ({"goal_reward": float("nan")}, "goal_reward = nan: must be finite and at most"),
        ({"subgoal_reward": -1e308}, r"subgoal_reward = -1e\+308: must be finite and at most"),
        ({"methods": ("NPG", "NPG")}, r"methods\[1\] = 'NPG': must be given once"),
    ],
)
def test_a_setting_out_of_range_is_named_before_anything_runs(change, message):
    with pytest.raises(UserError, match=message):
        FourRooms(**change).run()


@pytest.mark.parametrize("rate", [1e8, 1.7e308])
def test_a_huge_rate_is_compared_like_any_other(rate):
    """A step of EPG(256) at 1e8 left float64 once, and what ended nowhere counted as nearest to the optimum."""
    few = FourRooms(
        methods=("EPG",), escort_powers=(256.0,), rates=(1e6, rate), iterations=20, snapshots=(10,)
    )
    curves = few.run().tables[""]
    left = curves["share_left"][curves["iteration"] == 20]
    assert np.isfinite(left).all()
    best = curves["is_best"][curves["iteration"] == 20]
    assert left[best] == left.min()


def test_rooms_in_which_nothing_pays_more_than_nothing_can_be_drawn():
    bad = FourRooms(
        methods=("NPG",), rates=(1.0,), iterations=10, snapshots=(10,), goal_reward=0.0, subgoal_reward=-1.0
    )
    assert set(draw(bad, bad.run())) == {"", "maps", "cells"}
