"""Real processes that are killed, interrupted, or in each other's way; signals at awkward moments."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from counting_job import CountingJob, CountingSpec, Recorder, contents

from escapevelocity.errors import UserError
from escapevelocity.runs import (
    checkpoint,
    list_runs,
    read_records,
    read_status,
    resume,
    start,
)

JOB = CountingJob()
SPEC = CountingSpec()
COMMAND = [sys.executable, str(Path(__file__).parent / "counting_job.py")]


def launch(verb, run, segments, pause, rows=2):
    """Start a process that works on a run, and wait until it is inside a segment."""
    command = [*COMMAND, verb, str(run), str(segments), str(rows), str(pause)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("row"), process.communicate()[1]
    return process


def end(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_process_killed_at_random_moments_and_resumed_ends_bit_identical(tmp_path):
    spec = CountingSpec(segments=16, rows=2, pause=0.0125)
    start(JOB, spec, tmp_path / "whole")
    run, kills, verb = tmp_path / "run", 0, "start"
    # The moments, 41 to 65 ms after a row, sum to half of what the run sleeps; a segment sleeps 25 ms.
    for wait in [*np.random.default_rng(6).uniform(0.0, 0.12, size=4), 60.0]:
        process = launch(verb, run, spec.segments, spec.pause, spec.rows)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=wait)
        killed = process.poll() is None
        process.kill()
        code, _, err = end(process)
        if not killed:
            assert code == 0, err
            break
        kills += 1
        assert read_status(run).state == "interrupted"
        assert read_status(run).why == "killed"
        verb = "resume"
    assert kills >= 2
    assert read_status(run).state == "finished"
    assert contents(run) == contents(tmp_path / "whole")


def launch_slow(run):
    """A run whose segment 1 waits for ever after its first row."""
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from counting_job import Announcer, CountingJob, CountingSpec
from escapevelocity.runs import start
class Job(CountingJob):
    def segment(self, spec, state, k, emit):
        emit({{"seed": 1, "batch": 2 * k}})
        if k == 1:
            time.sleep(3600)
        emit({{"seed": 1, "batch": 2 * k + 1}})
        return state
sys.exit(start(Job(), CountingSpec(), {str(run)!r}, [Announcer()]).exit_code)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline().startswith("row"), process.communicate()[1]
    return process


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"]
)
def test_a_signal_leaves_the_segment_at_once_and_keeps_what_there_is(tmp_path, signum, code):
    run = tmp_path / "run"
    # The second row is an hour away: only a signal that leaves the segment at once can end this.
    process = launch_slow(run)
    process.send_signal(signum)
    returned, _, err = end(process)
    assert returned == code, err
    assert err == ""
    status = read_status(run)
    assert (status.state, status.why, status.exit_code) == ("interrupted", f"stopped by {signum.name}", code)
    assert status.segments_done == 1
    assert read_records(run)["segment"].to_pylist() == [0, 0, 1]
    assert len(list(run.rglob("*.partial.parquet"))) == 1


class Signalling(Recorder):
    """Sends this process a signal at a given row, as a person would at that moment."""

    def __init__(self, at, signum=signal.SIGINT):
        super().__init__()
        self.at, self.signum = at, signum

    def on_row(self, row):
        super().on_row(row)
        if len(self.rows) == self.at:
            os.kill(os.getpid(), self.signum)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_handlers_are_restored_and_the_run_goes_on_to_the_same_end(tmp_path, whole, signum):
    before = signal.getsignal(signum)
    status = start(JOB, SPEC, tmp_path / "run", [Signalling(8, signum)])
    assert signal.getsignal(signum) is before
    assert (status.state, status.exit_code, status.segments_done) == ("interrupted", 128 + signum, 1)
    assert read_records(tmp_path / "run").num_rows == 8
    resume(JOB, SPEC, tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_a_signal_during_a_commit_waits_for_it_and_no_other_segment_begins(tmp_path, whole, monkeypatch):
    run, replace = tmp_path / "run", os.replace

    def signal_and_replace(source, target):
        if target == run / "checkpoints" / "00002.safetensors":
            os.kill(os.getpid(), signal.SIGTERM)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", signal_and_replace)
        observer = Recorder()
        status = start(JOB, SPEC, run, [observer])
    assert (status.state, status.exit_code, status.segments_done) == ("interrupted", 143, 2)
    assert len(observer.rows) == 12
    assert checkpoint.latest_good(run / "checkpoints") == (2, [])
    resume(JOB, SPEC, run)
    assert contents(run) == whole


def test_a_signal_during_compaction_lets_the_run_finish_and_tells_the_caller(tmp_path, whole, monkeypatch):
    run, replace = tmp_path / "run", os.replace

    def signal_and_replace(source, target):
        if target.name.startswith("compact-"):
            os.kill(os.getpid(), signal.SIGINT)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", signal_and_replace)
        status = start(JOB, SPEC, run)
    assert (status.state, status.exit_code) == ("finished", 130)
    assert contents(run) == whole


def test_a_signal_whose_exception_gets_lost_ends_the_segment_at_the_next_row(tmp_path):
    answers = []

    class Swallowing(CountingJob):
        def segment(self, spec, state, k, emit):
            with contextlib.suppress(BaseException):  # as a callback from C does
                os.kill(os.getpid(), signal.SIGTERM)
            answers.append(emit({"seed": 1, "batch": 0}))
            return state

    status = start(Swallowing(), SPEC, tmp_path / "run")
    assert answers == [False]
    assert (status.state, status.why, status.segments_done) == ("interrupted", "stopped by SIGTERM", 0)
    assert status.exit_code == 143


def test_a_signal_while_the_initial_state_is_made_leaves_nothing(tmp_path):
    class Signalled(CountingJob):
        def initial_state(self, spec):
            os.kill(os.getpid(), signal.SIGINT)
            return super().initial_state(spec)

    status = start(Signalled(), SPEC, tmp_path / "run")
    assert (status.state, status.exit_code) == ("interrupted", 130)
    assert list(tmp_path.iterdir()) == []


def test_a_signal_while_an_observer_starts_leaves_nothing(tmp_path):
    class Asking(Recorder):
        def on_start(self, info):
            os.kill(os.getpid(), signal.SIGINT)

    before = Recorder()
    status = start(JOB, SPEC, tmp_path / "run", [before, Asking()])
    assert (status.state, status.exit_code, before.status.state) == ("interrupted", 130, "interrupted")
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_another_process_is_refused(tmp_path):
    run = tmp_path / "run"
    process = launch_slow(run)
    try:
        for go in (start, resume):
            with pytest.raises(UserError, match=rf"is being run by another process \(pid {process.pid} on "):
                go(JOB, SPEC, run)
        assert read_status(run).state == "running"
        assert [listed.state for listed in list_runs(tmp_path)] == ["running"]
    finally:
        process.kill()
        end(process)
