"""The speed benchmark: its arithmetic by hand, what it takes for granted of EnvPool, and a smoke run."""

import json

import numpy as np
import pytest
from benchmarks._speed_report import report
from benchmarks._speed_summary import (
    Spread,
    goals,
    health_cost,
    step_budget,
    summarise_simulator,
    summarise_training,
)

from benchmarks import _common as common
from benchmarks import speed

RAW = {
    "batch_s": [10.0, 2.0, 2.0, 4.0],
    "first_batch_done_s": 11.0,
    "rss_mib": [100.0, 101.0, 104.0, 105.0],
    "peak_mib": 110.0,
    "collect_s": [9.0, 1.0, 1.0, 2.0],
    "update_s": [0.5, 0.5, 0.5, 1.0],
    "health_s": [0.2, 0.1, 0.1, 0.2],
}


def trained(rate: float, **changes):
    """A summary of one round with a steady rate of `rate` steps/s and 2 seconds a batch."""
    raw = RAW | {"batch_s": [10.0, 2.0, 2.0, 2.0]} | changes
    return summarise_training([raw], seeds=1, batch_size=round(2 * rate))


def simulator(rate: float, num_envs: int):
    return summarise_simulator([{"steps_per_s": {"one": rate}}], num_envs)


def test_a_trainers_numbers_by_hand():
    # 2 seeds × 100 steps × 3 batches in 8 s; with the first batch and without the last, in 14 s.
    summary = summarise_training([RAW], seeds=2, batch_size=100)
    assert summary.rate.median == pytest.approx(600 / 8)
    assert summary.rate_with_compile.median == pytest.approx(600 / 14)
    assert summary.compile_s.median == pytest.approx(10 - 2)
    assert summary.startup_s.median == pytest.approx(11 - 2)
    assert summary.collect.median == pytest.approx(4 / 8)
    assert summary.update.median == pytest.approx(2 / 8)
    assert summary.health.median == pytest.approx(0.4 / 8)
    assert summary.other == pytest.approx(1.6 / 8)
    assert summary.peak_mib.median == 110
    assert summary.growth_mib.median == 105 - 100  # After 1 of 4 batches.


def test_a_peer_without_health_has_a_share_of_zero():
    raw = {key: value for key, value in RAW.items() if key != "health_s"}
    assert summarise_training([raw], 1, 100).health == Spread(0, 0, 0)


def test_rounds_are_summarised_by_median_and_range():
    rounds = [RAW | {"peak_mib": peak} for peak in (300.0, 100.0, 120.0)]
    assert summarise_training(rounds, 1, 100).peak_mib == Spread(120, 100, 300)
    assert Spread(1234.5, 1000, 2000).text(1) == "1,234.5 (1,000.0–2,000.0)"


def test_the_limit_is_the_layout_with_the_best_median_not_the_luckiest_round():
    rounds = [{"steps_per_s": {"a": a, "b": b}} for a, b in ((900.0, 10.0), (100.0, 200.0), (100.0, 210.0))]
    best = summarise_simulator(rounds, 4)
    assert (best.layout, best.rate) == ("b", Spread(200, 10, 210))


def test_the_budget_of_a_step_by_hand():
    # 2 seeds × 300 steps in 8 s: 40,000/3 µs a step; shares 1/2, 1/4 and 1/20; the simulator alone takes 2,500.
    budget = step_budget(summarise_training([RAW], seeds=2, batch_size=100), simulator(400, 4))
    total = 40_000 / 3
    assert budget["total"] == pytest.approx(total)
    assert budget["simulator"] == pytest.approx(2500)
    assert budget["policy and Python"] == pytest.approx(total / 2 - 2500)
    assert budget["update"] == pytest.approx(total / 4)
    assert budget["health"] == pytest.approx(total / 20)
    parts = [value for name, value in budget.items() if name != "total"]
    assert sum(parts) == pytest.approx(total)


def test_a_step_without_a_simulator_to_compare_with_has_an_undefined_limit():
    assert np.isnan(step_budget(trained(100), None)["simulator"])


@pytest.mark.parametrize(("ours", "reached"), [(3500.0, True), (3499.0, False)])
def test_a_ratio_is_reached_from_its_target_on(ours, reached):
    found = goals({"sb3": trained(1000), "ours-1": trained(ours)}, {}, 2)
    assert [(goal.what, goal.reached) for goal in found if "against" in goal.what] == [
        ("ours-1 against sb3", reached)
    ]


def test_every_target_of_the_issue_is_checked_when_all_have_run():
    trainings = {"sb3": trained(1000), "sbx": trained(1500)}
    trainings |= {"ours-1": trained(4000), "ours-5": trained(7400), "ours-10": trained(7000)}
    found = {
        goal.what: (goal.measured, goal.reached) for goal in goals(trainings, {20: simulator(10_000, 20)}, 2)
    }
    assert found["ours-1 against sb3"] == ("4.00 ×", True)
    assert found["ours-1 against sbx"] == ("2.67 ×", False)
    assert found["ours-5 against sb3"] == ("7.40 ×", False)
    assert found["ours-10 against EnvPool alone with 20 environments"] == ("70.0 %", True)
    for name in ("ours-1", "ours-5", "ours-10"):
        assert found[f"{name}: compile, cache cold"] == ("8.0 s", False)
        assert found[f"{name}: peak memory"] == ("110.0 MiB", True)
        assert found[f"{name}: wall time on health"] == ("6.7 %", False)  # 0.4 of 6 s


def test_the_cost_of_health_comes_from_the_same_run_without_it():
    trainings = {"ours-1": trained(900), "ours-1-no-health": trained(1000)}
    assert health_cost(trainings, "ours-1") == pytest.approx(0.1)
    assert health_cost(trainings, "ours-1-no-health") is None


def test_the_control_without_health_is_no_target():
    assert goals({"ours-1-no-health": trained(100)}, {}, 2) == []


def test_the_report_shows_every_contender_and_leaves_out_no_missing_peer_silently():
    trainings = {"sb3": trained(1000), "ours-1": trained(4000), "ours-1-no-health": trained(5000)}
    targets = goals(trainings, {}, 2)
    text = report(trainings, {"ours-1": Spread(1, 1, 1)}, {2: simulator(20_000, 2)}, targets, 2, 3)
    line = next(line for line in text.splitlines() if line.startswith("| escapevelocity, 1 seed |"))
    assert line == "| escapevelocity, 1 seed | 4,000 (4,000–4,000) | 1,714 (1,714–1,714) | 4.00 × | – |"
    assert "| Stable-Baselines3 |" in text
    assert "| escapevelocity, 1 seed, health off |" in text
    assert "Medians of 3 interleaved rounds" in text


def test_rounds_are_interleaved(monkeypatch):
    order = []

    def measure(one, sizes):
        order.append(one.name)
        return RAW | {"steps_per_s": {"one": 1.0}}

    monkeypatch.setattr(speed, "measure", measure)
    chosen = speed.contenders([1], 2, ["sb3", "simulator-2"])
    speed.run_rounds(chosen, speed.QUICK, 2)
    assert order == ["sb3", "simulator-2"] * 2


def test_an_unknown_contender_is_refused_with_the_known_ones():
    with pytest.raises(SystemExit, match="--only ours-3: must be one of sb3, sbx, ours-1, ours-1-no-health"):
        speed.contenders([1], 2, ["ours-3"])


@pytest.mark.parametrize("argv", [["--quick"], ["--only", "sb3"]])
def test_a_partial_run_may_not_replace_the_full_ones_results(argv):
    with pytest.raises(SystemExit, match=f"{argv[0]}: give --out DIR too; a partial run must not replace"):
        speed.main(argv)


def test_a_missing_peer_is_left_out_and_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(speed.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(speed, "measure", lambda one, sizes: {"steps_per_s": {"one": 1.0}})
    speed.main(["--quick", "--out", str(tmp_path), "--only", "sbx", "simulator-2"])
    assert "sbx is left out: stable_baselines3 is not installed" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "speed.json").read_text())["raw"]) == ["simulator-2"]


def test_envpool_spends_exactly_one_row_on_the_reset_of_an_ended_environment():
    # The simulator's rate leaves one row out per ended episode; were it another number, the limit would be wrong.
    envpool = pytest.importorskip("envpool")
    pool = envpool.make_gymnasium("Hopper-v4", num_envs=3, seed=1)
    pool.reset()
    before, resets = np.zeros(3, bool), 0
    actions = np.random.default_rng(0).uniform(-1, 1, (300, 3, 3))
    for action in actions:
        _, reward, terminated, truncated, info = pool.step(action)
        np.testing.assert_array_equal(info["elapsed_step"] == 0, before)
        np.testing.assert_array_equal(reward[before], 0)
        before = terminated | truncated
        resets += int(before.sum())
    pool.close()
    assert resets > 10


@pytest.mark.slow
@pytest.mark.usefixtures("quickly_compiling_children")
def test_a_smoke_run_measures_peers_ours_and_the_simulator_and_writes_the_section(tmp_path, capsys):
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("envpool")
    readme, committed = tmp_path / "README.md", common.README.read_bytes()
    readme.write_text("# x\n<!-- speed:start -->\n<!-- speed:end -->\n")
    only = ["sb3", "ours-1", "simulator-2"]
    speed.main(["--quick", "--out", str(tmp_path), "--readme", str(readme), "--only", *only])
    found = json.loads((tmp_path / "speed.json").read_text())
    assert list(found["raw"]) == only
    ours, sb3 = found["raw"]["ours-1"][0], found["raw"]["sb3"][0]
    for raw in (ours, sb3):
        assert len(raw["batch_s"]) == len(raw["rss_mib"]) == speed.QUICK.batches + 1
        # The parts are timed inside the batches, by other clocks than the batches themselves.
        parts = np.array(raw["collect_s"]) + raw["update_s"] + raw.get("health_s", 0.0)
        assert (parts > 0).all()
        assert sum(parts) <= sum(raw["batch_s"]) + 1e-3
        assert raw["first_batch_done_s"] >= raw["batch_s"][0]
        assert raw["peak_mib"] >= max(raw["rss_mib"])
    assert min(ours["health_s"]) > 0
    assert found["simulators"]["2"]["rate"]["median"] > 0
    text = readme.read_text()
    assert "these numbers mean nothing" in text
    assert (
        text.split("<!-- speed:start -->\n\n")[1].split("\n\n<!-- speed:end -->")[0]
        in capsys.readouterr().out
    )
    assert common.README.read_bytes() == committed
