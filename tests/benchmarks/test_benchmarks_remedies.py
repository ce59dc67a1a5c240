"""The remedies' benchmark: it knows every remedy, and its table says of hand-made numbers what is true of them."""

import json
import math

import pytest
from benchmarks._remedies_run import spec_of, start_and_end

from benchmarks import _common as common
from benchmarks import remedies
from escapevelocity.ppo.remedies import PFO, REMEDIES

NAN = float("nan")


def test_every_remedy_of_the_registry_has_a_statistic_it_is_meant_to_move():
    assert sorted(case.remedy for case in remedies.CASES) == sorted(REMEDIES)


def test_a_run_is_prone_to_collapse_and_has_its_remedy():
    job = {"task": "Hopper-v4", "seeds": [4, 5], "steps": 4096, "remedy": "pfo", "fields": {"coef": 10.0}}
    spec = spec_of(job)
    assert spec.remedies == (PFO(coef=10.0),)
    assert (spec.seeds, spec.steps, spec.network.activation) == ((4, 5), 4096, "relu")
    assert (spec.optimizer.epochs, spec.optimizer.learning_rate) == (20, pytest.approx(3e-3))
    assert spec_of({**job, "remedy": "", "fields": {}}).remedies == ()


def test_the_start_is_the_first_batch_and_the_end_the_mean_of_the_last_tenth():
    rows = [
        {
            "seed": seed,
            "batch": batch,
            "a/x": seed * 100.0 + batch,
            "a/y": None if batch < 19 else 7.0,
            "a/text": "",
        }
        for batch in range(20)
        for seed in (2, 1)
    ]
    found = start_and_end(rows)
    assert found["a/x"] == {"start": [100.0, 200.0], "end": [118.5, 218.5]}
    assert found["a/y"]["end"] == [7.0, 7.0]
    assert all(math.isnan(value) for value in found["a/y"]["start"])
    assert found.keys() == {"a/x", "a/y"}


def result(start, end, returns):
    return {
        "columns": {"n": {"start": start, "end": end}, "perf/return_mean": {"start": returns, "end": returns}}
    }


def test_a_seed_has_moved_when_it_ends_on_the_wanted_side_of_itself_without_the_remedy():
    lower, higher = (remedies.Case("pfo", "n", wanted, {"coef": 10.0}) for wanted in ("lower", "higher"))
    treated, untreated = [1.0, 5.0, 2.0], [2.0, 4.0, 2.0]
    assert remedies.moved(lower, treated, untreated) == 1
    assert remedies.moved(higher, treated, untreated) == 1
    assert remedies.moved(lower, [NAN], [1.0]) == 0
    runs = {
        ("Hopper-v4", ""): result([1.0, 1.0, 1.0], untreated, [NAN, 1200.0, 1400.0]),
        ("Hopper-v4", "pfo"): result([1.0, 2.0, 3.0], treated, [NAN, NAN, NAN]),
    }
    last = remedies.report([lower], runs).splitlines()[-1]
    assert last == "| pfo `--pfo.coef 10` | `n` | lower | 2 | 2.67 | 2.67 | 1 of 3 | – | 1,300 |"


def test_the_command_trains_each_run_once_and_writes_table_and_numbers(tmp_path, monkeypatch, capsys):
    trained = []

    def run_child(module, job):
        trained.append((job["task"], job["remedy"]))
        columns = {"perf/return_mean", *(case.column for case in remedies.CASES)}
        end = [3.0] if job["remedy"] else [4.0]
        return {"columns": {column: {"start": [1.0], "end": end} for column in columns}}

    monkeypatch.setattr(common, "run_child", run_child)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- remedies:start -->\n<!-- remedies:end -->\n")
    command = [
        "--only",
        "redo",
        "escort",
        "--seeds",
        "7",
        "--steps",
        "2048",
        "--work",
        str(tmp_path / "work"),
    ]
    command += ["--out", str(tmp_path / "out"), "--readme", str(readme)]
    remedies.main(command)
    remedies.main(command)
    assert trained == [
        ("CartPole-v1", ""),
        ("Hopper-v4", ""),
        ("CartPole-v1", "escort"),
        ("Hopper-v4", "redo"),
    ]
    text = readme.read_text()
    assert "1 seed × 2,048 steps" in text
    assert "| redo | `health/actor/dead_neurons_after` | lower | 1 | 3 | 4 | 1 of 1 | 3 | 4 |" in text
    assert "| escort (CartPole-v1) | `policy/entropy` | higher | 1 | 3 | 4 | 0 of 1 | 3 | 4 |" in text
    assert len(json.loads((tmp_path / "out" / "remedies.json").read_text())["runs"]) == 4
    assert "| redo |" in capsys.readouterr().out


def test_a_report_without_finished_runs_says_so(tmp_path):
    with pytest.raises(SystemExit, match="no finished runs of 100000 steps"):
        remedies.main(["--report", "--work", str(tmp_path), "--out", str(tmp_path), "--no-readme"])
