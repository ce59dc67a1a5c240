"""Crashes between any two writes, damage to every kind of file, full disks: the end is the same."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from counting_job import CountingJob, CountingSpec, Recorder, contents

from escapevelocity.errors import UserError
from escapevelocity.runs import checkpoint, read_records, read_status, resume, start

JOB = CountingJob()
SPEC = CountingSpec()


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
    # spec, provenance, checkpoint 0, status; snapshot, shard, checkpoint, status of each; compaction; status.
    assert len(copies) == 5 + 4 * (2 + 1 + 2 + 1) + 1 + 4 + 1
    for copy in copies:
        go = resume if (copy / "spec.json").exists() else start
        if (copy / "status.json").exists() and read_status(copy).state == "finished":
            continue
        assert go(JOB, SPEC, copy).state == "finished", copy
        assert contents(copy) == whole, copy
        assert not list(copy.rglob("*.tmp"))
        assert len(list((copy / "records").iterdir())) == 1


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


def test_resuming_drops_all_that_lies_behind_the_last_good_checkpoint_at_once(damaged):
    """Seen right after the first row of the resumed run, before anything could have been written over."""
    damage(damaged / "checkpoints" / "00003.safetensors", "flipped")
    leftover = damaged / "checkpoints" / ".00004.json.99999999.tmp"
    leftover.write_text("half")
    resume(JOB, SPEC, damaged, [Recorder(1)])
    names = {
        folder: sorted(path.name for path in (damaged / folder).iterdir())
        for folder in ("records", "snapshots")
    }
    assert names["records"] == ["00000.parquet", "00001.parquet", "00002.partial.parquet"]
    assert names["snapshots"] == [f"0000{n}.{suffix}" for n in range(2) for suffix in ("json", "safetensors")]
    assert checkpoint.numbers(damaged / "checkpoints") == [0, 1, 2]
    assert len(list((damaged / "checkpoints").iterdir())) == 6
    assert read_records(damaged).num_rows == 13


def test_a_commit_that_landed_although_its_writing_failed_doubles_no_rows(tmp_path, monkeypatch, whole):
    run, failed = tmp_path / "run", []

    def fsync(descriptor):
        if not failed and (run / "checkpoints" / "00002.json").exists():
            failed.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(UserError, match=r"cannot write .*00002\.json: Input/output error"):
            start(JOB, SPEC, run)
    assert read_status(run).state == "failed"
    assert read_records(run).num_rows == 12
    resume(JOB, SPEC, run)
    assert contents(run) == whole
