"""The MinAtar benchmark: its table by hand, the peer's environments, and that both trainers get the same settings."""

import numpy as np
import pytest

from benchmarks import _common as common
from benchmarks import device_envs


def raw(seconds, peak=100.0):
    parts = {"collect_s": [0.0, seconds / 4], "update_s": [0.0, seconds / 2], "health_s": [0.0, 0.0]}
    return {
        "batch_s": [5.0, seconds],
        "first_batch_done_s": 6.0,
        "rss_mib": [1.0, 1.0],
        "peak_mib": peak,
    } | parts


def test_rates_of_processes_add_up_and_count_all_seeds():
    job = {"contender": "ours", "seeds": 3}
    one = device_envs.Contender("x", job, processes=2)
    assert one.seeds == 6
    # 3 seeds × 1,024 steps in 1 s and in 2 s; in another round in 1 s each.
    rounds = [[raw(1.0), raw(2.0)], [raw(1.0), raw(1.0)]]
    rates = device_envs.aggregate(one, rounds)
    assert (rates.low, rates.high) == (3072 * 1.5, 3072 * 2.0)


def test_the_table_by_hand():
    chosen = device_envs.contenders([4], cores=2)
    assert [one.processes for one in chosen] == [1, 1, 2, 1]
    times = {chosen[0].title: 2.0, chosen[1].title: 1.0, chosen[2].title: 1.6, chosen[3].title: 0.5}
    measured = {one.title: [[raw(times[one.title])] * one.processes] for one in chosen}
    lines = device_envs.report(chosen, measured).splitlines()
    # 1,024 / 2, 1,024 / 1, 2 × 1,024 / 1.6 (the fastest peer), 4 × 1,024 / 0.5 steps/s.
    rates = ["512 (512–512)", "1,024 (1,024–1,024)", "1,280 (1,280–1,280)", "8,192 (8,192–8,192)"]
    ratios = ["0.40 ×", "0.80 ×", "1.00 ×", "6.40 ×"]
    for line, one, rate, ratio in zip(lines[-4:], chosen, rates, ratios, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:2] == [one.title, rate]
        assert cells[3:7] == [ratio, "25.0", "50.0", "0.0"]
        assert cells[-1].split(" ")[0] == str(100 * one.processes)


def test_a_round_runs_every_contender_with_its_number_of_batches(monkeypatch):
    jobs = []

    def run_child(module, job, variables):
        jobs.append((job["contender"], job.get("seeds"), job["batches"]))
        return raw(1.0)

    monkeypatch.setattr(common, "run_child", run_child)
    chosen = device_envs.contenders([2], cores=2)
    device_envs.run_rounds(chosen, {"ours": 3, "sb3": 5}, 1)
    assert jobs == [("sb3", None, 5)] * 4 + [("ours", 2, 3)]


def test_a_quick_run_leaves_readme_and_results_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(common, "run_child", lambda *_: raw(1.0))
    device_envs.main(["--quick", "--out", str(tmp_path), "--readme", str(tmp_path / "README.md")])
    assert not list(tmp_path.iterdir())
    assert "escapevelocity, 2 seeds" in capsys.readouterr().out


def test_the_committed_section_has_its_markers():
    text = common.README.read_text(encoding="utf-8")
    assert text.count("<!-- device-envs:start -->") == text.count("<!-- device-envs:end -->") == 1


def contenders_module():
    for package in ("gymnax", "stable_baselines3", "torch"):
        pytest.importorskip(package)
    from benchmarks import _device_contenders

    return _device_contenders


def test_the_table_counts_the_steps_of_the_preset_and_measures_health_as_often_as_a_whole_run():
    spec = contenders_module().settings(seeds=2, batches=3)
    assert (spec.batch_size, spec.num_batches, spec.seeds) == (device_envs.BATCH_SIZE, 3, (1, 2))
    # 10 million steps are 9,765 batches, of which the default measures every ninth.
    assert spec.health_interval == 9


def test_the_peers_single_environment_plays_whole_games():
    game = contenders_module().Game()
    observation, _ = game.reset(seed=3)
    rewards, ended = 0.0, False
    for _ in range(200):
        assert observation.shape == (10, 10, 4)
        assert game.observation_space.contains(observation)
        observation, reward, terminated, truncated, _ = game.step(0)
        rewards, ended = rewards + reward, ended or terminated
        if terminated:
            break
    # A paddle that stays at column 4 misses the ball sooner or later, before the limit of 1,000 steps.
    assert ended
    assert not truncated


def test_the_peers_vector_environment_resets_at_once_and_keeps_the_final_observation():
    games = contenders_module().Games(2, seed=1)
    games.reset()
    ended_once = False
    for _ in range(60):
        games.step_async(np.zeros(2, np.int64))
        observations, _, ended, infos = games.step_wait()
        assert observations.shape == (2, 10, 10, 4)
        for i in np.flatnonzero(ended):
            ended_once = True
            assert infos[i]["TimeLimit.truncated"] is False
            assert infos[i]["terminal_observation"][9, :, 1].any()  # The ball on the floor.
            assert observations[i][3, [0, 9], 1].sum() == 1  # A fresh game's ball.
    assert ended_once
