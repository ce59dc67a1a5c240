"""`ev study watch` on a store without a terminal, and its mistakes."""

import sys
from pathlib import Path

from test_cli_study_history import make_runs

from escapevelocity.ppo.remedies import registry
from escapevelocity.study.grid import read_study
from escapevelocity.study.history import History, RunArrays, write_history
from escapevelocity.study.plan import plan


def test_a_store_is_told_in_plain_lines_without_a_terminal(ev, tmp_path):
    make_runs(Path("runs"))
    for options in ((), ("--once",)):
        answer = ev("study", "watch", "runs", *options)
        assert answer.code == 0, answer
        lines = answer.out.splitlines()
        assert lines[:2] == ["runs: 2 finished", "all runs are finished"]
        assert sorted(line.partition(": ")[0] for line in lines[2:]) == [
            "finished     rows=1",
            "finished     rows=2",
        ]


def test_a_study_that_has_not_begun_is_told_to_be_missing(ev, tmp_path):
    Path("small.toml").write_text(
        'name = "small"\nseeds = [1, 2]\n[base]\ntask = "Hopper-v4"\n[axes]\nepochs = [1, 2, 3]\n'
    )
    Path("store").mkdir()
    answer = ev("study", "watch", "small.toml", "--store", "store", "--once")
    assert answer.out.splitlines() == [
        "small: 3 missing",
        "nothing is running; `ev study run` goes on with what is left",
    ]


def test_runs_that_a_kept_history_holds_are_not_waited_for(ev, tmp_path):
    text = 'name = "small"\nseeds = [1, 2]\n[base]\ntask = "Hopper-v4"\n[axes]\nepochs = [1, 2, 3]\n'
    Path("small.toml").write_text(text)
    Path("store").mkdir()
    name = plan(read_study("small.toml"), "store", record=False)[0].order.name
    run = RunArrays(name, {"task": "Hopper-v4"}, (1, 2), [10.0], {"x": [[1.0], [1.0]]})
    write_history(History.from_arrays([run]), Path("kept.parquet"))
    answer = ev("study", "watch", "small.toml", "--store", "store", "--history", "kept.parquet", "--once")
    assert answer.out.splitlines()[0] == "small: 1 kept, 2 missing"


def test_modules_are_imported_beside_those_that_the_study_names(ev, tmp_path, monkeypatch):
    """The remedy of the study's file is registered by a module in the current folder."""
    name, remedy = "wise_remedy_of_watch", "wise-of-watch"
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path(f"{name}.py").write_text(
        "from dataclasses import dataclass\n"
        "from escapevelocity.ppo.remedies import Remedy, register\n"
        "@register\n@dataclass(frozen=True)\n"
        f"class WiseOfWatch(Remedy):\n    'Wise.'\n    name = '{remedy}'\n"
    )
    Path("wise.toml").write_text(
        f'name = "wise"\n[base]\ntask = "Hopper-v4"\n[axes]\nremedy = ["none", "{remedy}"]\n'
    )
    Path("store").mkdir()
    for command in ("watch", "history"):
        given = ("study", command, "wise.toml", "--store", "store")
        given += ("--once",) if command == "watch" else ("--out", "wise.parquet")
        assert f"remedy = '{remedy}': unknown" in ev(*given).err
        try:
            answer = ev(*given, "--import", name)
            assert remedy not in answer.err, answer
        finally:
            registry.REMEDIES.pop(remedy, None)
            sys.modules.pop(name, None)


def test_mistakes_are_one_line(refused):
    assert "nowhere" in refused("study", "watch", "nowhere")
    assert "every = 0.0: must be above 0" in refused("study", "watch", ".", "--every", "0")
    assert "every = inf: must be above 0 and at most" in refused("study", "watch", ".", "--every", "inf")
    assert "store = 'x': must be left out" in refused("study", "watch", ".", "--store", "x")
