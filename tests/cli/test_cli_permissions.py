"""Runs and logs that must not be read: one line that names the file, and no advice to compute them again."""

import pytest

from dashboard_stores import write_run
from locked import locked

READERS = ("show", "diagnose", "plot", "report", "list")


@pytest.fixture
def run(tmp_path, ev):
    """A whole run, and beside it one that the tests lock."""
    write_run(tmp_path / "runs" / "sound")
    return write_run(tmp_path / "runs" / "locked")


@pytest.fixture
def refused(ev):
    """As everywhere, but what lies there is not compared: it must not be read."""

    def run(*arguments):
        answer = ev(*arguments)
        assert (answer.code, answer.out) == (2, ""), answer
        assert answer.err.count("\n") == 1, answer.err
        return answer.err.strip()

    return run


@pytest.mark.parametrize("command", READERS)
def test_records_that_must_not_be_read_are_named(refused, ev, run, command):
    with locked(*(run / "records").iterdir()):
        check(command, refused, ev, "cannot read runs/locked/records/")


@pytest.mark.parametrize("part", ["records", "checkpoints"])
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111], ids=["nothing", "list", "search"])
def test_folders_of_a_run_that_must_not_be_read_are_not_missing(refused, ev, run, part, mode):
    if (part, mode) == ("records", 0o111):
        for file in (
            run / "records"
        ).iterdir():  # Where a shard is not there, a list of the others is needed.
            file.unlink()
    with locked(run / part, mode=mode):
        for command in ("show", "diagnose", "list"):
            check(command, refused, ev, f"cannot read runs/locked/{part}")
        if part == "checkpoints":
            check("evaluate", refused, ev, "cannot read runs/locked/checkpoints")
            check("resume", refused, ev, "cannot read runs/locked/checkpoints")


@pytest.mark.parametrize("command", READERS)
def test_a_run_whose_folder_must_not_be_read_is_named(refused, ev, run, command):
    with locked(run):
        check(command, refused, ev, "cannot read runs/locked")


def check(command, refused, ev, line):
    """The line of the mistake; a list goes on with the other runs."""
    if command == "list":
        answer = ev("list", "runs")
        assert answer.code == 0
        whole, sound = answer.out.splitlines()[1:]
        assert whole.startswith("locked")
        assert line in whole
        assert sound.startswith("sound")
        assert "finished" in sound
        assert "cannot read" not in sound
        return
    told = refused(command, "runs/locked")
    assert told.startswith(f"ev: {line}")
    assert told.endswith("Permission denied; check its permissions")
    assert "ev resume" not in told


def test_a_folder_of_runs_that_must_not_be_read_is_not_empty(refused, run):
    with locked(run.parent):
        told = "ev: cannot read runs: Permission denied; check its permissions"
        assert refused("list", "runs") == told
        assert refused("show", "runs/sound").startswith("ev: cannot read runs/sound")


@pytest.mark.parametrize("name", ["monitor.csv", "progress.csv", "result.json", "events.out.tfevents.1.x"])
def test_a_log_of_another_trainer_that_must_not_be_read_is_named(refused, tmp_path, name):
    if name.startswith("events"):
        pytest.importorskip("tensorboardX")
    folder = tmp_path / "logs" / "one"
    folder.mkdir(parents=True)
    (folder / name).write_text("time/total_timesteps,rollout/ep_rew_mean\n2048,21.5\n")
    with locked(folder / name):
        line = f"ev: cannot read logs/one/{name}: Permission denied; check its permissions"
        assert refused("diagnose", "logs") == line
        assert refused("diagnose", f"logs/one/{name}") == line
    with locked(folder):
        assert (
            refused("diagnose", "logs")
            == "ev: cannot read logs/one: Permission denied; check its permissions"
        )
