"""status.json and the lock."""

import errno
import json
import os
import subprocess
import sys

import pytest

from escapevelocity.errors import UserError
from escapevelocity.runs import Status, read_status
from escapevelocity.runs.status import acquire, is_locked, this_host, write_status

HOLD = """
import sys, time
from pathlib import Path
from escapevelocity.runs.status import acquire
lock = acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_status_is_read_as_it_was_written(tmp_path):
    status = Status("failed", "loss is nan", 2, 5, 20, 50, 1.5, 1, "machine", 7)
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status


def test_running_without_a_lock_was_killed(tmp_path):
    write_status(tmp_path, Status("running", segments_done=2))
    assert read_status(tmp_path) == Status("interrupted", "killed", segments_done=2)
    (tmp_path / ".lock").write_text("")  # left by the dead owner
    assert read_status(tmp_path) == Status("interrupted", "killed", segments_done=2)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_run_whose_lock_we_may_not_ask_for_is_what_it_says(tmp_path, monkeypatch, number):
    def refuse(self, **options):
        raise OSError(number, os.strerror(number))

    write_status(tmp_path, Status("running", segments_done=2))
    (tmp_path / ".lock").write_text("")
    monkeypatch.setattr("escapevelocity.runs.status.FileLock.acquire", refuse)
    assert read_status(tmp_path).state == "running"
    assert not is_locked(tmp_path)  # Who wants to train it learns that he cannot write there.


def test_running_with_a_lock_is_running_and_a_second_process_is_refused(tmp_path, holder):
    write_status(tmp_path, Status("running", host="machine", pid=77))
    assert read_status(tmp_path).state == "running"
    with pytest.raises(
        UserError, match=r"is being run by another process \(pid 77 on machine\); wait for it or stop"
    ):
        acquire(tmp_path, wait=0.05)
    (tmp_path / "status.json").unlink()
    with pytest.raises(UserError, match="is being run by another process; wait"):
        acquire(tmp_path, wait=0.05)
    holder.kill()
    holder.wait()
    write_status(tmp_path, Status("running"))
    assert read_status(tmp_path).state == "interrupted"
    acquire(tmp_path).release()


def test_the_owner_sees_its_own_run_as_running(tmp_path):
    write_status(tmp_path, Status("running"))
    with acquire(tmp_path):
        assert is_locked(tmp_path)
        assert read_status(tmp_path).state == "running"
    assert not is_locked(tmp_path)


def test_looking_creates_no_lock_file(tmp_path):
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot read .*status\.json: No such file .*is .* a run\?"),
        ("{", r"status\.json is damaged"),
        ("3", r"status\.json is damaged: spec = 3: must be Status"),
        (
            '{"state": "walking"}',
            r"status\.json is damaged: state = 'walking': must be 'running' or 'finished'",
        ),
        (
            '{"statx": "running"}',
            r"status\.json is damaged: statx = 'running': unknown field; did you mean state",
        ),
    ],
)
def test_a_missing_or_damaged_status_is_a_user_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / "status.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_status(tmp_path)


def test_a_lock_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(UserError, match=r"cannot lock .*; choose another --out"):
        acquire(tmp_path, wait=0.05)


def test_the_status_on_disk_is_plain_json_with_documented_keys(tmp_path):
    write_status(tmp_path, Status("running", host=this_host()))
    document = json.loads((tmp_path / "status.json").read_text())
    assert document["state"] == "running"
    assert document["host"] == this_host() != ""
