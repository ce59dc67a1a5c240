"""`ev diagnose`, and the options that came with it: what is printed, what the commands it proposes are worth."""

import csv
import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from end_to_end import SMALL
from escapevelocity.cli._remedies import _OPTIONS, commands
from escapevelocity.health.verdict import CAUSES
from escapevelocity.ppo.config import (
    MonitoringConfig,
    NetworkConfig,
    OptimizerConfig,
    PPOSpec,
)
from escapevelocity.runs import open_run, start

GOLDEN = Path(__file__).parents[1] / "golden"
BATCH = 2048
SICK = OptimizerConfig(learning_rate=1e-2, epochs=20)


class Network(NamedTuple):
    biases: list


class Actor(NamedTuple):
    network: Network


class Agent(NamedTuple):
    actor: Actor


class Learner(NamedTuple):
    agent: Agent


class State(NamedTuple):
    learner: Learner


class Recorded:
    """Says it is PPO and emits rows that were recorded."""

    name = "ppo"

    def __init__(self, rows):
        self.rows = rows

    def segments(self, spec):
        return 1

    def step(self, spec, k):
        return k * spec.num_batches * spec.batch_size

    def initial_state(self, spec):
        # Named as the trainer's state is; two numbers for each of Hopper's three actions, as its last layer has them.
        return State(Learner(Agent(Actor(Network([np.zeros((3, 64)), np.zeros((3, 6))])))))

    def segment(self, spec, state, k, emit):
        for row in self.rows:
            emit(row)
        return state


def recorded(name):
    with open(GOLDEN / f"hopper_{name}.csv", newline="") as file:
        rows = [{column: float(value) for column, value in row.items()} for row in csv.DictReader(file)]
    for row in rows:
        row |= {"seed": int(row["seed"]), "env_steps": int(row["env_steps"])}
        row["batch"] = row["env_steps"] // BATCH - 1
    return rows


@pytest.fixture
def run_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(rows, name, steps=48 * BATCH, **changes):
        network = NetworkConfig(activation="relu")
        spec = PPOSpec(steps=steps, seeds=(1, 2, 3), network=network, **changes)
        start(Recorded(rows), spec, tmp_path / name)
        return name

    return make


@pytest.fixture
def sick(run_of):
    return run_of(recorded("sick"), "sick", optimizer=SICK)


def test_the_collapsed_run_is_named_with_onsets_in_order_and_commands_that_run(ev, sick):
    answer = ev("diagnose", sick)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "sick: REPRESENTATION COLLAPSE in 3 of 3 seeds, confidence high (0.80)"
    onsets = [line for line in lines if line.startswith("  step")]
    steps = [int(line.split()[1].replace(",", "")) for line in onsets]
    assert steps == sorted(steps)
    assert "low ratios" in onsets[1]
    assert any("dead neurons: 37 of 64 neurons dead, 1 at the start" in line for line in onsets)
    proposed = [shlex.split(line) for line in lines if line.startswith("  ev train")]
    assert [arguments[5:7] for arguments in proposed] == [
        ["--learning-rate", "0.0003"],
        ["--epochs", "10"],
        ["--remedy", "pfo"],
    ]
    # Moalla et al. 2024: 10 on MuJoCo with ReLU.
    assert proposed[2][7:9] == ["--pfo.coef", "10"]
    assert not any("not in this version" in line for line in lines)
    for arguments in proposed:
        dry = ev(*arguments[1:], "--dry-run")
        assert dry.code == 0, dry.err
        spec = json.JSONDecoder().raw_decode(dry.out)[0]["spec"]
        assert (spec["task"], spec["network"]["activation"]) == ("Hopper-v4", "relu")
        changed = (spec["optimizer"]["learning_rate"], spec["optimizer"]["epochs"], len(spec["remedies"]))
        assert changed in ((3e-4, 20, 0), (1e-2, 10, 0), (1e-2, 20, 1))


def test_a_healthy_run_is_learning_and_one_without_health_is_not_measured(ev, run_of):
    well = run_of(recorded("healthy"), "well")
    assert ev("diagnose", well).out.startswith("well: LEARNING in 3 of 3 seeds, confidence high")
    bare = [
        {k: v for k, v in row.items() if "/" not in k or k.startswith("perf/")} for row in recorded("healthy")
    ]
    off = run_of(bare, "off", monitoring=MonitoringConfig(health_every=0))
    answer = ev("diagnose", off)
    assert answer.code == 0
    assert answer.out.startswith("off: NOT MEASURED in 3 of 3 seeds\n")
    assert "HEALTHY" not in answer.out
    assert "ev train Hopper-v4 --config off --health-every 1 --name off-measure-health" in answer.out
    assert "rank decline: no health/actor/feature_rank_pca in the records" in answer.out


def test_a_run_that_is_only_too_short_is_to_be_longer_not_measured_more(ev, run_of):
    """Its health was measured in every batch; 20 are enough to say something of every return."""
    tiny = run_of([row for row in recorded("healthy") if row["batch"] < 4], "tiny", steps=4 * BATCH)
    text = ev("diagnose", tiny).out
    assert "4 logged batches; a sign needs 5" in text
    assert "measure-health" not in text
    (line,) = (line for line in text.splitlines() if line.startswith("  ev train"))
    assert line == f"  ev train Hopper-v4 --config tiny --steps {20 * BATCH} --name tiny-longer-run"
    assert ev(*shlex.split(line)[1:], "--dry-run").code == 0
    # As many batches of a run that is to be long enough, and is only not there yet.
    begun = run_of([row for row in recorded("healthy") if row["batch"] < 4], "begun")
    assert "what to try" not in ev("diagnose", begun).out


def test_json_holds_every_run_and_seed(ev, sick, run_of):
    well = run_of(recorded("healthy"), "well")
    entries = json.loads(ev("diagnose", sick, well, "--json").out)
    assert [(entry["run"], entry["verdict"]) for entry in entries] == [
        ("sick", "representation collapse"),
        ("well", "learning"),
    ]
    member = entries[0]["members"][1]
    assert (member["seed"], member["batches"], member["steps"]) == (2, 48, 98_304)
    assert {"sign", "step", "confirmed", "text", "ended", "seed"} == set(member["onsets"][0])
    assert entries[0]["commands"][-1].endswith("--remedy pfo --pfo.coef 10 --name sick-pfo")
    assert "parent" not in entries[0]
    # The size of the actions came from the actor's last layer: a collapse of the entropy could have been seen.
    assert [text.split(":")[0] for text in member["not_measured"]] == ["capacity loss"]


def test_one_seed_can_be_asked_for(ev, sick):
    answer = ev("diagnose", sick, "--seed", "2")
    assert answer.out.startswith("sick: REPRESENTATION COLLAPSE, confidence high (0.80)\n\n48 logged batches")
    assert "other seeds" not in answer.out


def test_mistakes_are_told_in_one_line(refused, run_of, tmp_path):
    sick = run_of(recorded("sick"), "sick")
    assert "seed = 9: must be one of the records' seeds: 1 2 3" in refused("diagnose", sick, "--seed", "9")
    assert "nowhere" in refused("diagnose", sick, "nowhere")
    assert "RUN = '': must be one or more" in refused("diagnose")
    empty = run_of([], "empty")
    assert "empty has no records to diagnose" in refused("diagnose", empty)
    assert "stop-on = 'sunset': must be one of collapse" in refused(
        "train", "Hopper-v4", "--stop-on", "sunset"
    )


def test_every_remedy_that_changes_something_is_a_command_that_train_understands(ev, sick):
    run = open_run(sick)
    names = {name for cause in CAUSES.values() for name in cause.remedies}
    assert set(_OPTIONS) - {"measure-health", "longer-run"} <= names
    for line in commands(run, sorted(names)):
        if line.startswith("not in this version"):
            assert line.endswith(": natural-gradient")
            continue
        answer = ev(*shlex.split(line)[1:], "--dry-run")
        assert answer.code == 0, (line, answer.err)


def test_a_run_with_a_remedy_of_ones_own_is_told_without_it_and_commands_import_it(ev, sick):
    path = Path(sick) / "spec.json"
    plain = json.loads(path.read_text())
    document = {**plain, "spec": {**plain["spec"], "remedies": [{"_type": "RatioPull", "coef": 0.1}]}}
    path.write_text(json.dumps(document))
    answer = ev("diagnose", sick)
    assert answer.code == 0
    assert answer.out.startswith("sick: REPRESENTATION COLLAPSE")
    assert re.search(r"no commands: .*RatioPull.*--import", answer.out)
    path.write_text(json.dumps(plain))
    lines = [
        line
        for line in ev("diagnose", sick, "--import", "json", "csv").out.splitlines()
        if "ev train" in line
    ]
    assert lines
    assert all(line.endswith(" --import json csv") for line in lines)


def test_a_remedy_that_the_run_has_already_is_not_proposed(sick, run_of):
    gentle = dataclasses.replace(SICK, epochs=1, anneal="linear", max_grad_norm=0.1)
    run = open_run(run_of(recorded("sick"), "gentle", optimizer=gentle))
    assert commands(run, ["fewer-epochs", "anneal", "clip-gradients", "clip-apart"]) == []
    halved = commands(run, ["lower-learning-rate"])
    assert "--learning-rate 0.0003" in halved[0]
    low = open_run(run_of(recorded("sick"), "low", optimizer=dataclasses.replace(SICK, learning_rate=3e-4)))
    assert "--learning-rate 0.0001" in commands(low, ["lower-learning-rate"])[0]


def test_plot_marks_the_onsets_unless_told_not_to(ev, sick, tmp_path):
    assert ev("plot", sick, "--out", "marked").code == 0
    assert ev("plot", sick, "--out", "plain", "--no-marks").code == 0
    marked, plain = (tmp_path / name / "health.png" for name in ("marked", "plain"))
    assert marked.read_bytes() != plain.read_bytes()


def test_train_keeps_the_best_and_evaluate_takes_it(ev, tmp_path):
    # As in test_cli_runs.py, whose compiled programs then serve here too.
    arguments = ["train", "CartPole-v1", *SMALL, "--steps", "1024", "--seeds", "1", "2", "--name", "kept"]
    assert ev(*arguments, "--keep-best").code == 0
    assert (tmp_path / "runs" / "kept" / "snapshots" / "best.safetensors").exists()
    answer = ev("evaluate", "runs/kept", "--best", "--episodes", "2")
    assert answer.code == 0
    # The best is one of the batches 5 to 8, of 128 steps each: five returns make a smoothed one.
    steps = {line.split("│")[2].strip() for line in answer.out.splitlines() if line.count("│") > 3}
    assert steps <= {"640", "768", "896", "1,024"}
    assert "has no best checkpoint" in ev("evaluate", without_best(tmp_path), "--best").err


def without_best(tmp_path):
    (tmp_path / "runs" / "kept" / "snapshots" / "best.safetensors").unlink()
    return "runs/kept"
