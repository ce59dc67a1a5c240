"""`ev capacity` and `ev train --capacity`: what they print, what is on disk, and what is refused."""

import json
import shutil

import pytest

from escapevelocity.ppo import capacity
from escapevelocity.ppo.capacity_data import ProbeSize
from escapevelocity.runs.measured import read_measured

SMALL = (
    "train",
    "CartPole-v1",
    "--seeds",
    "1",
    "2",
    "--num-envs",
    "2",
    "--rollout-length",
    "32",
    "--minibatch-size",
    "32",
    "--epochs",
    "1",
    "--hidden",
    "8",
    "--steps",
    "640",
    "--health-every",
    "0",
)


@pytest.fixture(autouse=True)
def little_data(monkeypatch):
    monkeypatch.setattr(capacity, "probe_size", lambda task: ProbeSize(200, 2, 2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was measured while it trained."""
    from escapevelocity.cli import main

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capacity, "probe_size", lambda task: ProbeSize(200, 2, 2))
        assert main([*SMALL, "--out", str(folder), "--name", "run", "--capacity"]) == 0
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs" / "run")
    return tmp_path / "runs" / "run"


def test_what_training_measured_is_not_measured_again(ev, run):
    before = (run / "measured" / "capacity.parquet").read_bytes()
    answer = ev("capacity", "runs/run")
    assert (answer.code, answer.err) == (0, "")
    assert (run / "measured" / "capacity.parquet").read_bytes() == before
    lines = answer.out.splitlines()
    assert lines[0].strip() == "capacity loss, median of 2 seeds"
    assert lines[-1] == "runs/run/measured/capacity.parquet"
    # Ten batches with a snapshot before and after each.
    assert sum(line.count("│") == 7 for line in lines) == 11


def test_afterwards_gives_what_training_gave_and_says_how_far_it_is(ev, run):
    during = read_measured(run, "capacity")
    shutil.rmtree(run / "measured")
    answer = ev("capacity", "runs/run", "--snapshots", "3")
    assert answer.code == 0
    assert answer.err.splitlines() == ["[1/3] snapshot 0", "[2/3] snapshot 20", "[3/3] snapshot 40"]
    assert read_measured(run, "capacity") == [row for row in during if row["snapshot"] in (0, 20, 40)]
    answer = ev("capacity", "runs/run")
    assert len(answer.err.splitlines()) == 8
    assert read_measured(run, "capacity") == during


def test_another_probe_is_kept_apart(ev, run):
    answer = ev("capacity", "runs/run", "--data", "target", "--probe-seed", "3", "--snapshots", "2")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "runs/run/measured/capacity-target-3.parquet"
    assert len(read_measured(run, "capacity-target-3")) == 4


def test_diagnosis_and_plots_see_what_was_measured(ev, run):
    def unmeasured():
        (answer,) = json.loads(ev("diagnose", "runs/run", "--json").out)
        return [text for member in answer["members"] for text in member["not_measured"]]

    assert not [text for text in unmeasured() if text.startswith("capacity loss")]
    assert ev("plot", "runs/run", "--columns", "capacity/actor", "capacity/critic_data").code == 0
    shutil.rmtree(run / "measured")
    assert [text for text in unmeasured() if text.startswith("capacity loss")]
    refusal = ev("plot", "runs/run", "--columns", "capacity/actor")
    assert refusal.code == 2
    assert "columns = 'capacity/actor': must be a numeric column of the records" in refusal.err


def test_a_damaged_snapshot_is_named_and_the_others_are_measured(ev, run):
    shutil.rmtree(run / "measured")
    path = run / "snapshots" / "00020.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    answer = ev("capacity", "runs/run", "--snapshots", "3")
    assert answer.code == 0
    assert "ev: runs/run/snapshots/00020.safetensors is damaged" in answer.err
    assert {row["snapshot"] for row in read_measured(run, "capacity")} == {0, 40}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("capacity", "nowhere"), "nowhere is not a folder; give a run's folder, such as runs/NAME"),
        (("capacity",), "RUN: missing"),
        (
            ("capacity", "runs/run", "--snapshots", "1"),
            "snapshots = 1: must be at least 2, the first and the last",
        ),
        (("capacity", "runs/run", "--probe-seed", "-1"), "probe-seed = -1: must be from 0 to 2147483647"),
        (("capacity", "runs/run", "--data", "final"), "data = 'final': must be"),
        (
            ("train", "CartPole-v1", "--capacity", "--rollout-length", "512", "--minibatch-size", "256"),
            "minibatch-size = 256: must be at most 200, the samples that capacity is measured on",
        ),
    ],
)
def test_mistakes_are_refused_in_one_line(refused, run, arguments, message):
    assert message in refused(*arguments)


def test_a_run_that_is_not_ppos_or_has_no_snapshots_is_refused(refused, run):
    shutil.rmtree(run / "snapshots")
    assert "runs/run has no snapshots to measure: it was interrupted before the first" in refused(
        "capacity", "runs/run"
    )
    spec = json.loads((run / "spec.json").read_text())
    (run / "spec.json").write_text(json.dumps({**spec, "job": "count"}))
    assert "'count'" in refused("capacity", "runs/run")
