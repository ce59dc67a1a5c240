"""`ev study run` on a study of counting runs."""

import json
import os
import sys
from pathlib import Path

import pytest

from escapevelocity.cli import main
from escapevelocity.cli.study_run import exit_code
from escapevelocity.runs import open_run
from escapevelocity.runs.status import acquire

KINDS = str(Path(__file__).parents[1] / "study")


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of three runs, in a folder of its own; workers can import its kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(KINDS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([KINDS, os.environ.get("PYTHONPATH", "")]))

    def write(base="", axis="start = [1, 2, 3]"):
        text = f'name = "count"\njob = "local-count"\nimports = ["local_counting"]\n[base]\ndiary = "{tmp_path}"\n'
        (tmp_path / "study.toml").write_text(f"{text}{base}\n[axes]\n{axis}\n")
        return "study.toml"

    return write


@pytest.fixture
def here(study, monkeypatch):
    """Train in this process."""
    import local_counting

    from escapevelocity.study import local

    monkeypatch.setattr(local, "Worker", local_counting.HereWorker)


def test_what_is_missing_is_trained_and_a_second_call_has_nothing_to_do(study, tmp_path, capsys):
    file = study()
    assert main(["study", "run", file, "--workers", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == f"3 of 3 runs finished in {tmp_path}/runs/count"
    assert [line.split()[0] for line in out[:-1]] == ["started", "finished"] * 3
    assert "(start 1)" in out[0]
    runs = [path for path in Path("runs/count").iterdir() if path.name != "_study"]
    assert [open_run(path).status.state for path in runs] == ["finished"] * 3
    assert main(["study", "run", file]) == 0
    assert capsys.readouterr().out.splitlines() == [f"3 of 3 runs finished in {tmp_path}/runs/count"]
    # An extended study trains only what is new.
    assert main(["study", "run", study(axis="start = [1, 2, 3, 4]"), "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("started") == 1
    assert "(start 4)" in out
    assert (tmp_path / "4.txt").exists()


def test_what_a_kept_history_holds_is_not_trained_again(here, study, tmp_path, capsys):
    assert main(["study", "run", study(axis="start = [1, 2]")]) == 0
    assert main(["study", "history", "runs/count", "--out", "kept.parquet"]) == 0
    file = study()
    capsys.readouterr()
    elsewhere = ["--store", "runs/elsewhere", "--history", "kept.parquet"]
    assert main(["study", "plan", file, *elsewhere]) == 0
    assert "3 runs of 3 seeds: 2 kept, 1 missing" in capsys.readouterr().out
    assert main(["study", "run", file, *elsewhere]) == 0
    out = capsys.readouterr().out
    assert (out.count("started"), out.count("(start 3)")) == (1, 2)
    store = tmp_path / "runs" / "elsewhere"
    assert out.splitlines()[-1] == f"3 of 3 runs finished (2 of them kept in the history) in {store}"
    assert len([path for path in Path("runs/elsewhere").iterdir() if path.name != "_study"]) == 1
    assert main(["study", "plan", file, "--history", "missing.parquet"]) == 2


def test_a_failed_run_gives_exit_code_1_and_its_reason(here, study, capsys):
    assert main(["study", "run", study(base='fault = "1:fail"', axis="start = [1, 2]")]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2] for line in out if line.startswith("failed")] == [
        "loss is nan in batch 7"
    ] * 4  # As it happened, and in the summary.
    assert out[-2].startswith("0 of 2 runs finished, 2 failed in ")


def test_runs_that_another_process_still_trains_give_exit_code_3_and_a_last_line_that_says_so(
    here, study, tmp_path, capsys
):
    file = study(axis="start = [1, 2]")
    assert main(["study", "plan", file, "--json"]) == 0
    name = json.loads(capsys.readouterr().out)["runs"][0]["name"]
    held = tmp_path / "runs" / "count" / name
    held.mkdir()
    lock = acquire(held)
    try:
        assert main(["study", "run", file]) == 3
    finally:
        lock.release()
    *_, counts, last = capsys.readouterr().out.splitlines()
    assert counts.startswith("1 of 2 runs finished, 1 claimed in ")
    assert last.startswith("claimed: another process was training them")
    assert last.endswith("the study is not finished before they are")
    assert main(["study", "run", file]) == 0
    # What failed matters more.
    assert (exit_code({"claimed", "failed"}), exit_code({"claimed", "waiting"})) == (1, 130)


def test_a_study_that_was_stopped_gives_exit_code_130_and_goes_on_when_called_again(here, study, capsys):
    assert main(["study", "run", study(base='fault = "1:interrupt-once"', axis="start = [1, 2]")]) == 130
    assert "2 interrupted" in capsys.readouterr().out
    assert main(["study", "run", "study.toml"]) == 0
    assert "2 of 2 runs finished" in capsys.readouterr().out


def test_options_of_the_other_executor_are_refused_before_anything_is_done(study, tmp_path, capsys):
    for option, value, executor in (
        ("address", "auto", "local"),
        ("cpus", "2", "local"),
        ("workers", "2", "ray"),
    ):
        assert main(["study", "run", study(), "--executor", executor, f"--{option}", value]) == 2
        shown = value if value.isdigit() else repr(value)
        other = {"local": "ray", "ray": "local"}[executor]
        assert capsys.readouterr().err == (
            f"ev: {option} = {shown}: must be left out with --executor {executor}; it is for {other}\n"
        )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "0"], "workers = 0: must be at least 1"),
        (["--memory", "0"], "memory = 0.0: must be above 0 GiB and finite"),
        (["--memory", "inf"], "memory = inf: must be above 0 GiB and finite"),
        (["--memory", "nan"], "memory = nan: must be above 0 GiB and finite"),
        (["--retries", "-1"], "retries = -1: must be at least 0"),
        (["--store", "study.toml"], "store = 'study.toml': must be a folder, and this is a file"),
        (
            ["--store", "study.toml/x"],
            "cannot make the folder study.toml/x: Not a directory; choose another --store",
        ),
    ],
)
def test_impossible_options_end_in_one_line(study, capsys, options, said):
    assert main(["study", "run", study(), *options]) == 2
    assert capsys.readouterr().err == f"ev: {said}\n"


def test_help_does_not_wait_for_jax(study):
    import subprocess

    code = "import sys; from escapevelocity.cli import main\ntry: main(['study', 'run', '--help'])\n"
    code += "except SystemExit: pass\nsys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "goes on" in done.stdout
