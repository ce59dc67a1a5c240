"""`ev diagnose` on other trainers' logs."""

import json

import pytest


@pytest.fixture
def progress(tmp_path):
    """A log of Stable-Baselines3 whose loss becomes NaN at step 6,144."""
    folder = tmp_path / "PPO_1"
    folder.mkdir()
    header = "time/total_timesteps,rollout/ep_rew_mean,train/value_loss,train/approx_kl"
    rows = ["2048,10.0,,", "4096,20.0,5.0,0.01", "6144,9.0,nan,33.0"]
    (folder / "progress.csv").write_text("\n".join([header, *rows, ""]))
    return folder


def test_a_log_is_told_as_a_run_is_with_how_it_was_read(ev, progress):
    answer = ev("diagnose", progress)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].startswith(f"{progress}: NON-FINITE")
    assert "  step 6,144  100%  non-finite numbers: train/value_loss is nan" in lines
    assert any("learning_rate (Stable-Baselines3), --learning-rate (CleanRL), lr (RLlib)" in x for x in lines)
    assert "  rank decline: no health/actor/feature_rank_pca in the records" in lines
    assert any(
        line.startswith("  Stable-Baselines3's train/approx_kl is read as trust/kl_k3") for line in lines
    )


def test_a_log_as_json_holds_its_notes(ev, progress):
    answer = ev("diagnose", progress / "progress.csv", "--env", "CartPole-v1", "--json")
    (entry,) = json.loads(answer.out)
    assert entry["verdict"] == "non-finite"
    assert entry["run"] == str(progress / "progress.csv")
    assert any("trust/kl_k3" in note for note in entry["notes"])


def test_a_member_of_several_logs_can_be_asked_for(ev, progress, tmp_path):
    (tmp_path / "PPO_2").mkdir()
    header = "time/total_timesteps,rollout/ep_rew_mean,train/value_loss\n"
    (tmp_path / "PPO_2" / "progress.csv").write_text(f"{header}2048,10.0,\n4096,20.0,1.0\n")
    both, second = ev("diagnose", tmp_path), ev("diagnose", tmp_path, "--seed", "1")
    assert "in 1 of 2 seeds" in both.out
    assert "seed 1 is PPO_2" in both.out
    assert second.out.startswith(f"{tmp_path}: NOT MEASURED")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing is neither a run nor a log"),
        (["model.zip"], "model.zip is no log; if it is a saved model, `ev checkup model.zip --env TASK`"),
        (["many"], "many is a folder of runs; give one of them, or all: many/* (`ev list many` shows them)"),
        (["PPO_1", "--seed", "7"], "seed = 7: must be one of the records' seeds: 0"),
        (["PPO_1", "--env", "CartPohl-v1"], "'CartPohl-v1'"),
    ],
)
def test_mistakes_end_in_one_line(refused, progress, tmp_path, monkeypatch, arguments, message):
    (tmp_path / "model.zip").write_bytes(b"PK")
    (tmp_path / "many" / "a").mkdir(parents=True)
    (tmp_path / "many" / "a" / "spec.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert message in refused("diagnose", *arguments)
