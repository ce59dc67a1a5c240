"""Kills, signals, full disks and damage: what was committed stays, and the end is the same."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from counting_job import CountingJob, CountingSpec, Recorder

from escapevelocity.errors import UserError
from escapevelocity.runs import checkpoint, list_runs, read_records, read_status, resume, start

JOB = CountingJob()
SPEC = CountingSpec()
COMMAND = [sys.executable, str(Path(__file__).parent / "counting_job.py")]


def contents(run_dir):
    """All that must not depend on interruptions: records but wall time, all checkpoints' and snapshots' arrays."""
    found = {"records": repr(read_records(run_dir).drop_columns(["wall_time"]).to_pylist())}
    for kind in ("checkpoints", "snapshots"):
        folder = run_dir / kind
        for number in checkpoint.numbers(folder):
            for name, array in checkpoint.load_arrays(folder, number).items():
                found[f"{kind}/{number}/{name}"] = (array.dtype.name, array.shape, array.tobytes())
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    start(JOB, SPEC, run)
    return contents(run)


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
    spec = CountingSpec(segments=16, rows=2, pause=0.0125)  # a segment takes about 25 ms and its commit
    start(JOB, spec, tmp_path / "whole")
    run, rng, kills = tmp_path / "run", np.random.default_rng(11), 0
    verb = "start"
    while True:
        process = launch(verb, run, spec.segments, spec.pause, spec.rows)
        try:
            process.wait(timeout=float(rng.uniform(0.0, 0.25)) if kills < 5 else 60)
        except subprocess.TimeoutExpired:
            process.kill()
            end(process)
            kills += 1
            assert read_status(run).state == "interrupted"
            assert read_status(run).why == "killed"
            verb = "resume"
            continue
        code, _, err = end(process)
        assert code == 0, err
        break
    assert kills >= 3
    assert read_status(run).state == "finished"
    assert contents(run) == contents(tmp_path / "whole")


def test_a_crash_before_any_write_or_removal_and_a_resume_end_bit_identical(tmp_path, monkeypatch, whole):
    """The disk as it is before every rename and removal of a whole run, compaction too, is resumed from."""
    run, copies = tmp_path / "run", []

    def copying(call):
        def wrapper(*arguments, **options):
            # Deletions of temp files that were never made say nothing new.
            if os.path.exists(arguments[0]):
                copies.append(tmp_path / f"crash-{len(copies)}")
                shutil.copytree(run, copies[-1])
            return call(*arguments, **options)

        return wrapper

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", copying(os.replace))
        patch.setattr(os, "unlink", copying(os.unlink))
        start(JOB, SPEC, run)
    # spec, provenance, checkpoint 0, status; per segment snapshot, shard, checkpoint, status; compaction; status.
    assert len(copies) == 5 + 4 * (2 + 1 + 2 + 1) + 1 + 4 + 1
    for copy in copies:
        go = resume if (copy / "spec.json").exists() else start
        if (copy / "status.json").exists() and read_status(copy).state == "finished":
            continue
        assert go(JOB, SPEC, copy).state == "finished", copy
        assert contents(copy) == whole, copy
        assert not list(copy.rglob("*.tmp"))
        assert len(list((copy / "records").iterdir())) == 1


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


def test_a_signal_during_a_commit_waits_for_it(tmp_path, whole, monkeypatch):
    fsync, calls = os.fsync, []

    def fsync_and_signal(descriptor):
        calls.append(descriptor)
        if len(calls) == 20:
            os.kill(os.getpid(), signal.SIGTERM)
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync_and_signal)
        status = start(JOB, CountingSpec(), tmp_path / "run")
    assert (status.state, status.exit_code) == ("interrupted", 143)
    assert checkpoint.latest_good(tmp_path / "run" / "checkpoints") == (status.segments_done, [])
    resume(JOB, SPEC, tmp_path / "run")
    assert contents(tmp_path / "run") == whole


def test_a_signal_whose_exception_gets_lost_ends_the_segment_at_the_next_row(tmp_path):
    class Swallowing(CountingJob):
        def segment(self, spec, state, k, emit):
            with contextlib.suppress(BaseException):  # as a callback from C does
                os.kill(os.getpid(), signal.SIGTERM)
            assert not emit({"seed": 1, "batch": 0})
            return state

    status = start(Swallowing(), SPEC, tmp_path / "run")
    assert (status.state, status.exit_code, status.segments_done) == ("interrupted", 143, 0)


def test_a_signal_while_the_initial_state_is_made_leaves_nothing(tmp_path):
    class Signalled(CountingJob):
        def initial_state(self, spec):
            os.kill(os.getpid(), signal.SIGINT)
            return super().initial_state(spec)

    status = start(Signalled(), SPEC, tmp_path / "run")
    assert (status.state, status.exit_code) == ("interrupted", 130)
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


@pytest.fixture
def damaged(tmp_path):
    """An interrupted run: three of four segments committed, a partial shard of the fourth."""
    start(JOB, SPEC, tmp_path / "run", [Recorder(20)])
    assert checkpoint.numbers(tmp_path / "run" / "checkpoints") == [0, 1, 2, 3]
    return tmp_path / "run"


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 4
    elif how == "truncated":
        del data[len(data) // 2 :]
    else:
        path.unlink()
        return
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize(
    ("file", "goes_on_from"),
    [
        ("checkpoints/00003.safetensors", 2),
        ("checkpoints/00002.safetensors", 3),
        ("checkpoints/00003.json", 2),
        ("records/00002.parquet", 2),
        ("records/00000.parquet", 0),
        ("records/00003.partial.parquet", 3),
        ("status.json", 3),
        ("provenance.json", 3),
    ],
)
def test_damage_to_a_file_costs_only_the_segments_it_held(damaged, whole, file, goes_on_from, how):
    damage(damaged / file, how)
    observer = Recorder()
    assert resume(JOB, SPEC, damaged, [observer]).state == "finished"
    assert observer.info.segments_done == goes_on_from
    if goes_on_from < 3 and not (how == "missing" and file.endswith(".json")):
        assert any(Path(file).name in text and "falling back from" in text for text in observer.messages)
    if file != "checkpoints/00002.safetensors":
        assert contents(damaged) == whole
    else:
        assert {k: v for k, v in whole.items() if "checkpoints/2/" not in k}.items() <= contents_but(
            damaged, 2
        ).items()


def contents_but(run, number):
    """The contents of a run without one damaged checkpoint."""
    for suffix in ("json", "safetensors"):
        (run / "checkpoints" / f"{number:05d}.{suffix}").unlink(missing_ok=True)
    return contents(run)


def test_with_every_checkpoint_damaged_the_run_begins_again(damaged, whole):
    for path in (damaged / "checkpoints").glob("*.safetensors"):
        damage(path, "flipped")
    observer = Recorder()
    resume(JOB, SPEC, damaged, [observer])
    assert observer.info.segments_done == 0
    assert len([text for text in observer.messages if "is damaged" in text]) == 4
    assert contents(damaged) == whole


@pytest.mark.parametrize("file", ["checkpoints/00004.safetensors", "records"])
def test_a_finished_run_that_was_damaged_can_be_repaired(tmp_path, whole, file):
    run = tmp_path / "run"
    start(JOB, SPEC, run)
    path = run / file
    damage(next(path.iterdir()) if path.is_dir() else path, "flipped")
    observer = Recorder()
    assert resume(JOB, SPEC, run, [observer]).state == "finished"
    assert "is damaged" in observer.messages[0]
    assert contents(run) == whole
    with pytest.raises(UserError, match="is finished"):
        resume(JOB, SPEC, run)


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_a_damaged_spec_is_a_user_error_and_changes_nothing(damaged, how):
    before = sorted(damaged.rglob("*"))
    damage(damaged / "spec.json", how)
    with pytest.raises(UserError, match=r"spec\.json"):
        resume(JOB, SPEC, damaged)
    assert sorted(damaged.rglob("*")) == [path for path in before if path.exists()]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fills_up_fails_in_one_line_and_the_run_can_go_on(tmp_path, monkeypatch, whole, call):
    run, original, count = tmp_path / "run", getattr(os, call), 0

    def filling(*arguments):
        nonlocal count
        count += 1
        if count > 25:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    observer = Recorder()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, filling)
        with pytest.raises(
            UserError, match=r"cannot write .*: No space left on device; free space"
        ) as caught:
            start(JOB, SPEC, run, [observer])
    assert "\n" not in str(caught.value)
    assert observer.status.state == "failed"
    assert not list(run.rglob("*.tmp"))
    assert resume(JOB, SPEC, run).state == "finished"
    assert contents(run) == whole


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the folder .*file/run: .*; choose another --out"):
        start(JOB, SPEC, tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"cannot make the folder .*file: .*; choose another --out"):
        start(JOB, SPEC, tmp_path / "file")
