"""The guard against numbers that are not finite, through the command."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from end_to_end import SMALL, checkpoint, records
from escapevelocity import load
from escapevelocity.cli import main

# Two segments of four batches; without annealing a shorter run begins with the same updates.
SETTINGS = [*SMALL, "--steps", "1024", "--anneal", "none", "--import", "faulty_environments"]


@pytest.fixture
def train(ev, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)

    def run(task, *arguments):
        return ev("train", task, *SETTINGS, "--name", "run", *arguments)

    return run


def status(folder):
    return json.loads((folder / "status.json").read_text())


def test_an_observation_that_is_not_a_number_stops_the_run_and_keeps_the_evidence(train, ev, tmp_path):
    answer = train("FaultyObservation-v0", "--seeds", "2")
    where = "seed 2, batch 1: non-finite observation from the environment"
    run = tmp_path / "runs" / "run"
    assert answer.code == 1
    assert f"failed ({where})" in answer.out
    assert "Traceback" not in answer.err
    assert (status(run)["state"], status(run)["why"], status(run)["exit_code"]) == ("failed", where, 1)
    # The batch before is on record, and so is the one that failed.
    rows = records(run)
    assert rows["batch"].to_pylist() == [0, 1]
    assert rows["fault"].to_pylist() == ["", where]
    assert np.isfinite(rows["loss/value"].to_numpy()[0])
    # Row 36 is where the environments broke (faulty_environments.py); everything before is whole.
    batch = load_file(run / "fault" / "batch-seed-2.safetensors")
    (successors,) = [array for name, array in batch.items() if "next_observations" in name]
    assert np.isfinite(successors[:36]).all()
    assert np.isnan(successors[36:, ..., :3]).all()
    assert json.loads((run / "fault" / "fault.json").read_text())["reason"] == where
    # The last good state is that of a run of one batch.
    state = load_file(run / "fault" / "state-seed-2.safetensors")
    short = ("--seeds", "2", "--steps", "128", "--name", "short")
    assert ev("train", "FaultyObservation-v0", *SETTINGS, *short).code == 0
    good = {
        k.removeprefix(".learner"): v[0]
        for k, v in checkpoint(tmp_path / "runs" / "short", 1).items()
        if "learner" in k
    }
    assert good.keys() == state.keys()
    for name, array in good.items():
        np.testing.assert_array_equal(state[name], array)


def test_a_loss_that_overflows_is_named_with_its_minibatch(train, tmp_path):
    answer = train("FaultyHuge-v0", "--seeds", "2")
    why = status(tmp_path / "runs" / "run")["why"]
    assert answer.code == 1
    # Two epochs of four minibatches; a reward of 1e30 squares to infinity in float32.
    assert why in {f"seed 2, batch 1: non-finite loss in minibatch {number}" for number in range(8)}
    assert f"failed ({why})" in answer.out


def test_in_a_population_the_sick_member_is_frozen_and_the_others_finish(train, tmp_path):
    answer = train("FaultyObservation-v0", "--seeds", "1", "2", "3")
    run = tmp_path / "runs" / "run"
    assert answer.code == 0
    assert status(run)["state"] == "finished"
    where = "seed 2, batch 1: non-finite observation from the environment"
    assert f"fault: {where}" in answer.out
    faults = {(row["seed"], row["batch"]): row["fault"] for row in records(run).to_pylist()}
    healthy = {(seed, batch): "" for seed in (1, 3) for batch in range(8)}
    assert faults == healthy | {(2, 0): "", (2, 1): where}
    assert json.loads((run / "fault" / "seed-2.json").read_text())["reason"] == where
    batch = load_file(run / "fault" / "batch-seed-2.safetensors")
    assert any(np.isnan(array).any() for name, array in batch.items() if "next_observations" in name)
    state = load_file(run / "fault" / "state-seed-2.safetensors")
    assert all(np.isfinite(array).all() for array in state.values())
    first, last = checkpoint(run, 1), checkpoint(run, 2)
    for name in (name for name in first if "actor" in name and "agent" in name):
        assert np.isfinite(last[name]).all()
        np.testing.assert_array_equal(first[name][1], last[name][1], err_msg=name)
        assert not np.array_equal(first[name][0], last[name][0])
        assert not np.array_equal(first[name][2], last[name][2])


def test_a_frozen_member_is_named_wherever_its_agent_is_used_and_a_living_one_is_chosen(train, ev, tmp_path):
    assert train("FaultyObservation-v0", "--seeds", "2", "3").code == 0
    run = tmp_path / "runs" / "run"
    why = "seed 2, batch 1: non-finite observation from the environment"
    note = f"seed 2 was frozen at step 256 ({why}): these are its last good parameters"
    module = ("--import", "faulty_environments")
    answer = ev("evaluate", run, "--episodes", "1", *module)
    assert (answer.code, answer.err) == (0, f"ev: {note}\n")
    rows = [line.replace("│", " ").split() for line in answer.out.splitlines() if "sampled" in line]
    assert [row[:2] for row in rows] == [["2", "256"], ["3", "1,024"]]
    assert ev("evaluate", run, "--episodes", "1", "--seeds", "3", *module).err == ""
    # Before the fault it was sound.
    assert ev("evaluate", run, "--episodes", "1", "--checkpoint", "0", *module).err == ""
    assert load(run).seed == 3
    with pytest.warns(RuntimeWarning, match=re.escape(note)):
        agent = load(run, 2)
    assert (agent.env_steps, str(agent.frozen)) == (256, note)
    # Damaged records are no reason not to load it.
    (compact,) = (run / "records").glob("*.parquet")
    compact.write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="seed 2 was frozen at a step that its records do not say: these"):
        assert load(run, 2).env_steps == 1024


def test_export_chooses_a_living_member_and_names_a_frozen_one(train, ev, tmp_path):
    pytest.importorskip("torch")
    assert train("FaultyObservation-v0", "--seeds", "2", "3").code == 0
    run, options = tmp_path / "runs" / "run", ("--format", "torch", "--import", "faulty_environments")
    answer = ev("export", run, *options)
    assert (answer.code, answer.err) == (0, "")
    assert f"{run}/policy-seed-3: FaultyObservation-v0, seed 3, after 1,024 environment steps" in answer.out
    answer = ev("export", run, "--seed", "2", *options)
    assert answer.code == 0
    assert answer.err.startswith("ev: seed 2 was frozen at step 256 (")
    assert "seed 2, after 256 environment steps" in answer.out


def test_skip_drops_the_minibatches_with_the_fault_counts_them_and_goes_on(train, tmp_path):
    answer = train("FaultyReward-v0", "--seeds", "2", "--on-nonfinite", "skip")
    run = tmp_path / "runs" / "run"
    assert answer.code == 0
    rows = records(run)
    assert rows["batch"].to_pylist() == list(range(8))
    skipped = dict(zip(rows["batch"].to_pylist(), rows["loss/skipped_minibatches"].to_pylist(), strict=True))
    # The environments are new in segment 1, and reach their 101st step again in its second batch. In each of 2 epochs
    # at least one and at most all 4 minibatches hold a step whose advantage the reward has spoilt.
    for batch, count in skipped.items():
        assert 2 <= count <= 8 if batch in (1, 5) else count == 0, (batch, count)
    faults = rows["fault"].to_pylist()
    assert faults[1] == "seed 2, batch 1: non-finite reward from the environment"
    assert [bool(text) for text in faults] == [batch in (1, 5) for batch in range(8)]
    assert all(np.isfinite(array).all() for name, array in checkpoint(run, 2).items() if "learner" in name)


def test_modules_are_imported_for_resume_and_evaluate_as_well_and_from_the_current_folder(
    ev, tmp_path, monkeypatch
):
    """In fresh processes' stead: the module and its tasks are forgotten between the commands."""
    import shutil
    import sys

    import gymnasium

    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(Path(__file__).parent)])
    monkeypatch.delitem(sys.modules, "faulty_environments", raising=False)
    shutil.copy(Path(__file__).parent / "faulty_environments.py", tmp_path / "my_environments.py")
    (tmp_path / "my_environments.py").write_text(
        (tmp_path / "my_environments.py").read_text().replace("Faulty{", "Mine{")
    )

    def forget():
        from escapevelocity.ppo.job import task_of

        task_of.cache_clear()
        sys.modules.pop("my_environments", None)
        for name in [name for name in gymnasium.registry if name.startswith("Mine")]:
            del gymnasium.registry[name]

    settings = [*SMALL, "--steps", "1024", "--name", "run"]
    unknown = "task = 'MineReward-v0': not a known environment id"
    assert unknown in ev("train", "MineReward-v0", *settings).err
    assert ev("train", "MineReward-v0", *settings, "--import", "my_environments").code == 0
    run = tmp_path / "runs" / "run"
    # As if it had been killed in its second segment.
    os.remove(run / "checkpoints" / "00002.json")
    for command in (["resume", run], ["evaluate", run, "--episodes", "2"]):
        forget()
        assert unknown in ev(*command).err
        answer = ev(*command, "--import", "my_environments")
        assert (answer.code, answer.err) == (0, "")
    # Every episode is 20 steps of reward 1, for the sampled and for the most likely actions.
    assert answer.out.count("20.0") == 4
    forget()


def test_an_error_inside_an_imported_module_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_module.py").write_text("import no_such_thing_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_at_all"):
        main(["train", "X-v0", "--import", "broken_module"])
