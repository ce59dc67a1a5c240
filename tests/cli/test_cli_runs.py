"""Commands on real runs: what they print, what they write, and what they refuse."""

import json
import os
import re
import shutil

import pytest

from end_to_end import SMALL, contents, records

# CartPole: 4 inputs, 2 actions; 1,024 steps in 8 batches and 2 segments.
TRAIN = ["train", "CartPole-v1", *SMALL, "--steps", "1024", "--seeds", "1", "2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, made by the command."""
    from escapevelocity.cli import main

    out = tmp_path_factory.mktemp("made")
    assert main([*TRAIN, "--out", str(out), "--name", "run"]) == 0
    return out / "run"


@pytest.fixture
def run(made, tmp_path):
    """A copy of it, at `run` in the current folder."""
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture
def unfinished(run):
    """A copy as if killed in its second segment, behind the first commit."""
    os.remove(run / "checkpoints" / "00002.json")
    return run


def spec_of(run):
    return json.loads((run / "spec.json").read_text())["spec"]


def test_dry_run_prints_settings_and_segments_and_writes_nothing(ev, tmp_path):
    arguments = ["train", "Hopper-v4", "--seeds", "1:3", "--steps", "200000", "--name", "x", "--epochs", "20"]
    answer = ev(*arguments, "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    assert list(tmp_path.iterdir()) == []
    document, end = json.JSONDecoder().raw_decode(answer.out)
    assert (document["job"], document["schema_version"]) == ("ppo", 1)
    assert document["spec"]["seeds"] == [1, 2, 3]
    assert document["spec"]["optimizer"]["epochs"] == 20
    assert document["spec"]["environment"]["rollout_length"] == 1024
    plan = answer.out[end:]
    assert "run directory  runs/x\n" in plan
    assert "members        3 (seeds 1 2 3)\n" in plan
    assert "batches        97 of 2048 steps per member\n" in plan
    # 97 batches; a segment lasts at least 10 × 1,000 steps of 2 environments: 200,000 / 20,000 = 10.
    rows = re.findall(r"^ +(\d+)  steps +([\d,]+) – +([\d,]+)$", plan, re.MULTILINE)
    numbers = [tuple(int(text.replace(",", "")) for text in row) for row in rows]
    edges = [97 * k // 10 * 2048 for k in range(11)]
    assert numbers == [(k + 1, edges[k] + 1, edges[k + 1]) for k in range(10)]
    assert plan.endswith("--steps 200000 rounded down to 198656: 97 whole batches of 2048\n")


def test_dry_run_refuses_what_a_run_would_refuse(refused):
    assert "head = 'softmax'" in refused("train", "Hopper-v4", "--head", "softmax", "--dry-run")


def test_steps_that_fit_are_not_said_to_be_rounded(ev):
    assert "rounded" not in ev("train", "CartPole-v1", "--steps", "1024", "--dry-run").out


def test_steps_are_rounded_down_to_whole_batches_and_it_is_said(ev, tmp_path):
    short = [*SMALL, "--steps", "300", "--name", "short"]
    answer = ev("train", "CartPole-v1", *short)
    assert answer.code == 0
    assert answer.err == "ev: --steps 300 rounded down to 256: 2 whole batches of 128\n"
    assert records(tmp_path / "runs" / "short")["env_steps"].to_pylist() == [128, 256]


@pytest.mark.parametrize("where", ["first", "last", "middle"])
def test_the_task_is_found_wherever_it_stands(ev, where):
    options = [
        ["--name", "my-v2"],
        ["--steps=1024"],
        ["--seeds", "1", "2"],
        ["--no-clip-value"],
        ["--gamma", "0.5"],
    ]
    at = {"first": 0, "middle": 2, "last": 5}[where]
    options.insert(at, ["CartPole-v1"])
    answer = ev("train", *[argument for option in options for argument in option], "--dry-run")
    assert answer.code == 0, answer.err
    spec = json.JSONDecoder().raw_decode(answer.out)[0]["spec"]
    assert (spec["task"], spec["steps"], spec["seeds"]) == ("CartPole-v1", 1024, [1, 2])
    assert (spec["preset"], spec["objective"]["gamma"], spec["objective"]["clip_value"]) == (
        "classic",
        0.5,
        False,
    )


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        (["--seeds", "1:3"], [1, 2, 3]),
        (["--seeds", "5", "7:9", "1"], [5, 7, 8, 9, 1]),
        (["--seeds=4:5"], [4, 5]),
        (["--seeds", "6:6"], [6]),
    ],
)
def test_seeds_are_integers_and_inclusive_ranges(ev, given, seeds):
    answer = ev("train", "CartPole-v1", *given, "--dry-run")
    assert json.JSONDecoder().raw_decode(answer.out)[0]["spec"]["seeds"] == seeds


@pytest.mark.parametrize(
    ("task", "preset", "head", "epochs"),
    [
        ("Hopper-v4", "mujoco", "tanh_normal", 10),
        ("CartPole-v1", "classic", "softmax", 4),
        ("Pendulum-v1", "classic", "normal_independent", 10),
    ],
)
def test_the_preset_follows_from_the_task(ev, task, preset, head, epochs):
    spec = json.JSONDecoder().raw_decode(ev("train", task, "--dry-run").out)[0]["spec"]
    assert (spec["preset"], spec["network"]["head"], spec["optimizer"]["epochs"]) == (preset, head, epochs)


@pytest.mark.parametrize("file", ["run", "run/spec.json"])
def test_a_saved_config_is_reproduced_and_options_are_laid_over_it(ev, run, file):
    answer = ev("train", "--config", file, "--dry-run")
    document, end = json.JSONDecoder().raw_decode(answer.out)
    assert document == json.loads((run / "spec.json").read_text())
    assert answer.out[:end] + "\n" == (run / "spec.json").read_text()
    changed = json.JSONDecoder().raw_decode(
        ev("train", "--config", file, "--epochs", "3", "--seeds", "9", "--no-clip-value", "--dry-run").out
    )[0]["spec"]
    expected = spec_of(run)
    expected["optimizer"]["epochs"], expected["seeds"], expected["objective"]["clip_value"] = 3, [9], False
    assert changed == expected


def test_a_config_trains_the_same_run_again(ev, run, tmp_path):
    assert ev("train", "--config", "run", "--name", "again").code == 0
    assert contents(tmp_path / "runs" / "again") == contents(run)


def test_without_a_name_the_run_is_called_after_task_and_settings(ev, tmp_path):
    from hashlib import sha256

    settings = [*SMALL, "--steps", "128", "--health-every", "0"]
    assert ev("train", "CartPole-v1", *settings, "--out", "here").code == 0
    (run,) = (tmp_path / "here").iterdir()
    assert run.name == "CartPole-v1-" + sha256((run / "spec.json").read_bytes()).hexdigest()[:10]


def test_a_finished_run_is_not_trained_again(refused, run):
    suggestion = "ev: run is finished; to run it again give another --name"
    assert refused(*TRAIN, "--out", ".", "--name", "run") == suggestion
    # Whoever resumes it wants it longer; and resume has no --name.
    line = "ev: run is finished; `ev branch run --at 1 --steps N` makes it longer"
    assert refused("resume", "run") == line


def test_an_unfinished_run_is_not_started_again_but_resumed(ev, refused, unfinished, made):
    line = refused(*TRAIN, "--out", ".", "--name", "run")
    # Its status.json still says finished, as if the last checkpoint had been lost since.
    assert line == "ev: run is finished; to run it again give another --name"
    status = json.loads((unfinished / "status.json").read_text())
    (unfinished / "status.json").write_text(json.dumps({**status, "state": "running", "segments_done": 1}))
    line = refused(*TRAIN, "--out", ".", "--name", "run")
    assert line == "ev: run holds this run, unfinished; `ev resume run` goes on with it"
    assert ev("resume", "run").code == 0
    assert contents(unfinished) == contents(made)


def test_a_folder_with_the_run_of_another_spec_is_refused(refused, run):
    line = refused(*TRAIN, "--epochs", "3", "--out", ".", "--name", "run")
    assert re.fullmatch(
        r"ev: run holds another spec \([0-9a-f]{10}, not [0-9a-f]{10}\); give another --name", line
    )


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    else:
        del data[len(data) // 2 :]
    path.write_bytes(bytes(data))


def evaluated_steps(answer):
    """The column `env steps` of the table that evaluate prints."""
    return re.findall(r"^[│|] +[12] +[│|] +([\d,]+) ", answer.out, re.MULTILINE)


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_a_damaged_checkpoint_is_said_the_one_before_is_used_and_resume_repairs_it(ev, run, made, how):
    damage(run / "checkpoints" / "00002.safetensors", how)
    note = (
        "run/checkpoints/00002.safetensors is damaged: its checksum differs from the one in 00002.json; "
        "falling back from checkpoint 00002 to an earlier one"
    )
    evaluated = ev("evaluate", "run", "--episodes", "1")
    assert (evaluated.code, evaluated.err) == (0, f"ev: {note}\n")
    assert evaluated_steps(evaluated) == ["512"] * 4
    resumed = ev("resume", "run")
    assert resumed.code == 0
    assert note in resumed.out
    assert contents(run) == contents(made)
    repaired = ev("evaluate", "run", "--episodes", "1")
    assert (repaired.err, evaluated_steps(repaired)) == ("", ["1,024"] * 4)


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_a_damaged_shard_is_said_and_resume_computes_its_segments_again(ev, run, made, how):
    (path,) = (run / "records").iterdir()
    damage(path, how)
    resumed = ev("resume", "run")
    assert resumed.code == 0
    assert re.search(rf"run/records/{path.name} .*falling back from checkpoint 00002", resumed.out)
    assert contents(run) == contents(made)


def test_show_list_and_plot_tell_of_the_run(ev, run):
    listed = ev("list", ".")
    assert (listed.code, listed.err) == (0, "")
    for word in ("run", "CartPole-v1", "finished", "100%"):
        assert word in listed.out
    shown = ev("show", "run")
    assert (shown.code, shown.err) == (0, "")
    for text in (
        "finished",
        "1,024 of 1,024 steps per seed",
        "seeds 1 2",
        "optimizer.epochs = 2  (preset: 4)",
        "2 (1,024 steps)",
    ):
        assert text in shown.out
    plotted = ev("plot", "run")
    assert plotted.code == 0
    assert plotted.out.split() == ["run/plots/health.png", "run/plots/health.pdf"]
    assert (run / "plots" / "health.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "plots" / "health.pdf").read_bytes().startswith(b"%PDF")


def test_a_damaged_run_is_listed_as_damaged_and_not_shown(ev, refused, run):
    damage(run / "spec.json", "truncated")
    listed = ev("list", ".")
    assert listed.code == 0
    assert "damaged" in listed.out
    assert refused("show", "run").startswith("ev: run/spec.json is not valid JSON")
    assert refused("evaluate", "run").startswith("ev: run/spec.json is not valid JSON")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--seeds", "3"], "seed = 3: must be one of the run's seeds: 1 2"),
        (["--seeds", "2:3"], "seed = 3: must be one of the run's seeds: 1 2"),
        (["--seeds", "1", "3", "--video"], "seed = 3: must be one of the run's seeds: 1 2"),
        (["--checkpoint", "9"], "checkpoint = 9: must be one of the run's checkpoints: 0 1 2"),
        (["--checkpoint", "-1"], "checkpoint = -1: must be one of the run's checkpoints: 0 1 2"),
    ],
)
def test_evaluate_refuses_members_and_checkpoints_that_are_not_there(refused, run, arguments, line):
    assert refused("evaluate", "run", *arguments) == f"ev: {line}"


def test_evaluate_says_before_the_work_that_a_film_has_no_place(refused, run):
    (run / "plots").write_text("mine")
    line = f"ev: video = 'run/plots': must be a folder that can be written; {run / 'plots'} is not"
    assert refused("evaluate", "run", "--video") == line


def test_evaluate_prints_both_kinds_of_actions_of_the_members_asked_for(ev, run):
    answer = ev("evaluate", "run", "--seeds", "2", "--episodes", "3", "--checkpoint", "1")
    rows = [re.split(r"\s*[│|]\s*", line.strip("│| ")) for line in answer.out.splitlines() if " 512 " in line]
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [
        ("2", "512", "sampled", "3"),
        ("2", "512", "mode", "3"),
    ]
    # The limit of 20 steps cuts every episode of CartPole: mean return and length agree, at 20 or less.
    for row in rows:
        assert float(row[4]) == float(row[6]) <= 20.0
    assert ev("evaluate", "run", "--seeds", "2", "--episodes", "3", "--checkpoint", "1").out == answer.out
