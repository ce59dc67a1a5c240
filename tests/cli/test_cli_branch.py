"""`ev branch` on real runs: bits, records, resuming, what is shown of both futures, and what is refused."""

import json
import os
import shutil

import numpy as np
import pytest

from end_to_end import SMALL, checkpoint, records
from escapevelocity.ppo.config import OptimizerConfig, PPOSpec
from escapevelocity.runs import open_run, start

# CartPole, 16 batches of 128 steps; a segment lasts at least 10 × 20 steps of two environments: 5 segments. Health is
# left out, since its program takes longer to compile than all the rest to run.
TRAIN = ["train", "CartPole-v1", *SMALL, "--steps", "2048", "--seeds", "1", "2", "--health-every", "0"]
EDGES = [16 * k // 5 * 128 for k in range(6)]
PFO = ["--remedy", "pfo", "--pfo.coef", "10"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, and two branches of it from 40 %: one without a change, one with a remedy and half as long again."""
    from escapevelocity.cli import main

    out = tmp_path_factory.mktemp("made") / "runs"
    assert main([*TRAIN, "--out", str(out), "--name", "parent"]) == 0
    branch = ["branch", str(out / "parent"), "--out", str(out), "--at", "0.4"]
    assert main([*branch, "--name", "same"]) == 0
    assert main([*branch, "--name", "pfo", *PFO, "--steps", "3072"]) == 0
    return out


@pytest.fixture
def runs(made, tmp_path):
    """Copies of them in `runs`."""
    return shutil.copytree(made, tmp_path / "runs")


def future(run, segment):
    """Records from a segment on, without the clock, bit for bit."""
    table = records(run)
    table = table.filter(np.asarray(table["segment"].to_numpy() >= segment))
    names = [name for name in table.column_names if name != "wall_time" and not name.startswith("time/")]
    return {name: repr(table[name].to_pylist()) for name in sorted(names)}


def same_bits(one, two):
    return one.keys() == two.keys() and all(one[name].tobytes() == two[name].tobytes() for name in one)


def test_a_branch_without_a_change_is_its_parents_own_future_bit_for_bit(made):
    parent, same = made / "parent", made / "same"
    assert future(same, 0) == future(parent, 2)
    for number in range(2, 6):
        assert same_bits(checkpoint(same, number), checkpoint(parent, number))
    snapshots = sorted(path.name for path in (same / "snapshots").glob("*.safetensors"))
    assert snapshots
    for name in snapshots:
        assert (same / "snapshots" / name).read_bytes() == (parent / "snapshots" / name).read_bytes()


def test_records_begin_at_the_branch_point_and_the_remedy_is_in_them(made):
    parent, pfo = records(made / "parent"), records(made / "pfo")
    steps = pfo["env_steps"].to_pylist()
    assert (min(steps), max(steps)) == (EDGES[2] + 128, 3072)
    column = pfo["remedy/pfo/distance"].to_pylist()
    assert all(np.isfinite(column))
    assert "remedy/pfo/distance" not in parent.column_names
    # Both start from the same parameters in the same environments: the first batch is the same, what it teaches is not.
    first, others = (row_of(table, EDGES[2] + 128) for table in (parent, pfo))
    assert first["perf/return_mean"] == others["perf/return_mean"]
    assert first["loss/objective_last"] != others["loss/objective_last"]
    assert not same_bits(checkpoint(made / "pfo", 3), checkpoint(made / "parent", 3))


def row_of(table, step):
    return next(row for row in table.to_pylist() if (row["env_steps"], row["seed"]) == (step, 1))


def test_a_killed_branch_is_resumed_to_the_same_bits_with_its_own_settings(runs, ev):
    whole = {number: checkpoint(runs / "pfo", number) for number in (3, 4)}
    expected = future(runs / "pfo", 0)
    for number in (4, 5, 6, 7, 8):
        os.remove(runs / "pfo" / "checkpoints" / f"{number:05d}.json")
    shutil.rmtree(runs / "parent")
    answer = ev("resume", "runs/pfo")
    assert answer.code == 0, answer.err
    assert future(runs / "pfo", 0) == expected
    for number, arrays in whole.items():
        assert same_bits(checkpoint(runs / "pfo", number), arrays)


def test_branches_at_different_points_are_different_runs_and_a_finished_one_is_not_trained_again(
    runs, ev, refused
):
    command = ["branch", "runs/parent", "--out", "more", "--dry-run"]
    folders = {
        line.split()[-1]
        for at in ("0.2", "0.4", "0.6")
        for line in ev(*command, "--at", at).out.splitlines()
        if line.startswith("run directory")
    }
    assert len(folders) == 3
    again = ["branch", "runs/parent", "--at", "0.4", "--name", "same"]
    assert "runs/same is finished; to run it again give another --name" in refused(*again)
    assert "runs/same holds another spec" in refused(*again, *PFO)


def test_the_dry_run_shows_what_is_left_to_train_and_writes_nothing(runs, ev):
    before = sorted(runs.rglob("*"))
    answer = ev("branch", "runs/parent", "--at", "1000", "--steps", "2500", "--epochs", "3", "--dry-run")
    assert answer.code == 0, answer.err
    document, end = json.JSONDecoder().raw_decode(answer.out)
    assert document["spec"]["optimizer"]["epochs"] == 3
    assert document["spec"]["optimizer"]["minibatch_size"] == 32  # the parent's, not the preset's
    assert document["spec"]["branch"]["checkpoint"] == 3
    # 1,152 is nearer to 1,000 than 768 is. 19 whole batches; the pace is 16 batches in 5 segments: 6 in all.
    text = " ".join(answer.out[end:].split())
    assert "4 steps 1,153 – 1,536 5 steps 1,537 – 2,048 6 steps 2,049 – 2,432" in text
    assert "branches from runs/parent at checkpoint 3: step 1,152, 56% of it" in text
    assert "--steps 2500 rounded down to 2432" in text
    assert sorted(runs.rglob("*")) == before


def test_show_and_list_name_the_parent_the_point_and_what_was_changed(runs, ev):
    text = ev("show", "runs/pfo").out
    assert f"branched from runs/parent at step {EDGES[2]:,} (38% of it)" in text
    assert "  pfo.coef = 10.0  (parent: –)" in text
    assert "  remedies = pfo  (parent: none)" in text
    assert "  steps = 3072  (parent: 2048)" in text
    shown = ev("list").out
    assert shown.count(f"from parent at {EDGES[2]:,}") == 2
    shutil.rmtree(runs / "parent")
    assert "runs/parent, the run that runs/pfo branched from, is gone" in ev("show", "runs/pfo").out


def test_diagnose_tells_both_futures_and_goes_on_without_the_parent(runs, ev):
    lines = ev("diagnose", "runs/pfo").out.splitlines()
    assert lines[1] == f"branched from runs/parent at step {EDGES[2]:,} (38% of it)"
    assert lines[2].startswith("  parent went on to: ")
    assert lines[3].startswith("  this branch:       ")
    (entry,) = json.loads(ev("diagnose", "runs/pfo", "--json").out)
    assert (entry["parent"]["path"], entry["parent"]["step"]) == ("runs/parent", EDGES[2])
    assert entry["parent"]["verdict"].upper() in lines[2]
    assert entry["members"][0]["batches"] == 24  # those of the shared past are among them
    shutil.rmtree(runs / "parent")
    text = ev("diagnose", "runs/pfo").out
    assert (
        "Only this branch can be told of: runs/parent, the run that runs/pfo branched from, is gone." in text
    )
    (entry,) = json.loads(ev("diagnose", "runs/pfo", "--json").out)
    assert "is gone" in entry["parent"]["missing"]
    assert entry["members"][0]["batches"] == 24 - EDGES[2] // 128


def test_plot_draws_a_branch_with_its_parent_into_the_branchs_folder(runs, ev):
    answer = ev("plot", "runs/pfo")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.split() == ["runs/pfo/plots/health.png", "runs/pfo/plots/health.pdf"]
    assert ev("plot", "runs/parent", "runs/pfo", "--out", "both").code == 0
    alone, both = (runs.parent / name / "health.png" for name in ("runs/pfo/plots", "both"))
    assert alone.read_bytes() == both.read_bytes()
    assert ev("plot", "runs/pfo", "--columns", "remedy/pfo/distance").code == 0


def test_a_branch_serves_as_settings_for_a_run_of_its_own(runs, ev):
    answer = ev("train", "CartPole-v1", "--config", "runs/pfo", "--dry-run")
    spec = json.JSONDecoder().raw_decode(answer.out)[0]["spec"]
    assert spec["branch"] is None
    assert spec["remedies"][0]["coef"] == 10.0
    assert " 1  steps           1 –" in answer.out


def test_evaluate_takes_a_branch_as_any_run(runs, ev):
    answer = ev("evaluate", "runs/same", "--checkpoint", "3", "--episodes", "1", "--seeds", "2")
    assert answer.code == 0, answer.err
    assert f"{EDGES[3]:,}" in answer.out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "RUN: missing; it is the run's folder; see ev branch --help"),
        (["nowhere", "--at", "0.4"], "nowhere is not a folder; give a run's folder"),
        (["runs/parent"], "--at: missing; it says where to leave the run, such as --at 0.4; runs/parent can be"),
        (["runs/parent", "--at", "0.05"], "at = '0.05': before the first checkpoint; runs/parent can be branched at"),
        (["runs/parent", "--at", "100"], "at = '100': before the first checkpoint"),
        (["runs/parent", "--at", "noon"], "at = 'noon': must be a share of the run from 0 to 1, a number of steps"),
        (["runs/parent", "--at", "-0.4"], "at = '-0.4': must be a share of the run from 0 to 1"),
        (["runs/parent", "--at", "nan"], "at = 'nan': must be a share of the run from 0 to 1"),
        (["runs/parent", "--at", "9999"], "at = '9999': must be a share of the run from 0 to 1"),
        (["runs/parent", "--at", "1"], "steps = 2048: must be at least 2176, one batch more than the past"),
        (["runs/parent", "--at", "onset"], "at = 'onset': runs/parent shows none, it is not measured; runs/parent can"),
        (["runs/parent", "--at", "0.4", "--seeds", "3"], "unknown option --seeds"),
        (["runs/parent", "--at", "0.4", "Ant-v4"], "unexpected argument 'Ant-v4'"),
        (["runs/parent", "--at", "0.4", "--hidden", "8"], "hidden = (8,): must be the parent's, (64, 64)"),
        (["runs/parent", "--at", "0.4", "--rollout-length", "128"], "num-envs × rollout-length = 256: must be the par"),
        (["runs/parent", "--at", "0.4", "--steps", "768"], "steps = 768: must be at least 896"),
        (["runs/parent", "--at", "0.4", "--remedy", "pof"], "remedy = 'pof': unknown; did you mean pfo"),
        (["runs/parent", "--at", "0.4", "--remedy", "layer-norm"], "layer-norm = True: must be the parent's, False"),
        (["runs/parent", "--at", "0.4", "--epochs", "0"], "epochs = 0: must be at least 1"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(runs, refused, arguments, line):
    assert refused("branch", *arguments).startswith(f"ev: {line}")


def test_a_run_of_one_segment_has_no_point_but_its_end(ev, refused):
    arguments = [*SMALL, "--steps", "512", "--health-every", "0", "--name", "short"]
    assert ev("train", "CartPole-v1", *arguments).code == 0
    assert "short can be branched at 1, its end, with more --steps" in refused(
        "branch", "runs/short", "--at", "0.4"
    )


def test_an_unfinished_run_without_a_checkpoint_behind_its_start_says_so(runs, refused):
    for number in range(1, 6):
        os.remove(runs / "parent" / "checkpoints" / f"{number:05d}.json")
    line = refused("branch", "runs/parent", "--at", "0.4")
    assert "runs/parent has no checkpoint behind its start to branch from" in line


class Scripted:
    """Says it is PPO, emits rows of a run that falls ill, and keeps a checkpoint after every five batches."""

    name = "ppo"

    def segments(self, spec):
        return 6

    def step(self, spec, k):
        return 5 * k * spec.batch_steps

    def initial_state(self, spec):
        return {"x": np.zeros(1)}

    def segment(self, spec, state, k, emit):
        for batch in range(5 * k, 5 * k + 5):
            ill = batch >= 12
            emit(
                {
                    "seed": 1,
                    "batch": batch,
                    "env_steps": (batch + 1) * spec.batch_steps,
                    "perf/return_mean": 10.0 * batch,
                    "trust/kl": 0.01,
                    "policy/entropy": 1.0,
                    "health/actor/feature_rank_pca": 3.0 if ill else 30.0,
                    "health/actor/dead_neurons": 60.0 if ill else 2.0,
                }
            )
        return state


def test_onset_is_the_last_checkpoint_before_the_first_sign_and_is_proposed_with_a_remedy(
    ev, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    spec = PPOSpec(steps=30 * 2048, optimizer=OptimizerConfig(epochs=20))
    start(Scripted(), spec, tmp_path / "ill")
    text = ev("diagnose", "ill").out
    assert "REPRESENTATION COLLAPSE" in text
    assert "ev branch ill --at onset --remedy pfo --pfo.coef 1 --name ill-branch-pfo" in text
    answer = ev("branch", "ill", "--at", "onset", "--remedy", "pfo", "--dry-run")
    assert answer.code == 0, answer.err
    # The first ill batch ends at step 13 × 2,048; the last checkpoint before it is the second, after ten batches.
    assert "branches from ill at checkpoint 2: step 20,480, 33% of it" in answer.out
    assert open_run("ill").checkpoints()[2].step == 20_480
