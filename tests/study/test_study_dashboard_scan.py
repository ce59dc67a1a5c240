"""Looking at a folder of runs again and again: what is read anew, and that damage never ends the looking."""

import json
import os

import pytest

from dashboard_stores import BATCH, HOSTILE, add_shard, compact, hostile_store, rows, set_status, write_run
from escapevelocity.errors import UserError
from escapevelocity.runs.records import write_shard
from escapevelocity.runs.status import acquire
from escapevelocity.study.dashboard_records import Records, fingerprint, record_files
from escapevelocity.study.dashboard_scan import Scanner


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_runs_at_any_depth_are_found_and_read_once(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "study" / "b")
    (tmp_path / "study" / "_study").mkdir()
    scanner = Scanner(tmp_path)
    first = scanner.scan()
    assert list(first.entries) == ["a", "study/b"]
    assert list(first.stores) == ["", "study"]
    assert scanner.runs_read == 2
    assert scanner.scan().entries == first.entries
    assert scanner.runs_read == 2


def test_only_the_run_that_changed_is_read_again(tmp_path):
    write_run(tmp_path / "a")
    b = write_run(tmp_path / "b", state="interrupted", why="stopped", batches=10, total=30)
    scanner = Scanner(tmp_path)
    before = scanner.scan()
    set_status(b, "finished", batches=30)
    after = scanner.scan()
    assert scanner.runs_read == 3
    assert (before.states["b"], after.states["b"]) == ("interrupted", "finished")


def test_nothing_is_written_and_no_lock_is_kept(tmp_path):
    run = write_run(tmp_path / "a", state="running", batches=10, total=30)
    (run / ".lock").touch()
    before = sorted(path for path in tmp_path.rglob("*"))
    Scanner(tmp_path).scan()
    assert sorted(path for path in tmp_path.rglob("*")) == before
    acquire(run).release()


def test_a_run_is_running_while_its_lock_is_held_and_killed_after(tmp_path):
    run = write_run(tmp_path / "a", state="running", batches=10, total=30)
    lock = acquire(run)
    scanner = Scanner(tmp_path)
    assert scanner.scan().states == {"a": "running"}
    lock.release()
    found = scanner.scan()
    assert (found.states["a"], found.entries["a"].indexed.why) == ("interrupted", "killed")


def test_a_folder_that_is_a_run_is_shown_as_that_one(tmp_path):
    write_run(tmp_path / "a")
    assert list(Scanner(tmp_path / "a").scan().entries) == ["a"]


def test_damaged_folders_are_shown_as_damaged(tmp_path):
    hostile_store(tmp_path)
    scan = Scanner(tmp_path).scan()
    damaged = {name for name, state in scan.states.items() if state == "damaged"}
    assert damaged == {"no-json", "deep", "list", "binary", "odd-seeds"}
    assert scan.states[HOSTILE.replace("/", "\u2215")] == "failed"
    assert all(scan.entries[name].indexed.why for name in damaged)


@pytest.mark.parametrize(
    "where", ["spec.json", "checkpoints/00000.json", "measured/capacity.parquet", "measured"]
)
def test_what_links_out_of_the_folder_is_not_read(tmp_path, where):
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    run = write_run(tmp_path / "root" / "a")
    (run / where).unlink(missing_ok=True)
    (run / where).parent.mkdir(exist_ok=True)
    (run / where).symlink_to(secret)
    found = Scanner(tmp_path / "root").scan().entries["a"].indexed
    assert found.state == "damaged"
    assert "no plain file below the dashboard's folder" in found.why


@pytest.mark.parametrize("where", ["spec.json", "measured/capacity.parquet"])
def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(tmp_path, where):
    run = write_run(tmp_path / "a")
    scanner = Scanner(tmp_path)
    assert scanner.scan().states == {"a": "finished"}
    (run / where).unlink(missing_ok=True)
    (run / where).parent.mkdir(exist_ok=True)
    os.mkfifo(run / where)
    assert scanner.scan().states == {"a": "damaged"}  # Though it came when the run had been read.


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_measurements_that_are_no_plain_files_are_left_out_and_named(tmp_path, make):
    """Also of a run that only another begins at: it is read without having been looked at."""
    run = write_run(tmp_path / "a")
    (run / "measured").mkdir()
    make(run / "measured" / "capacity.parquet")
    found = Records(tmp_path).read(run, ["trust/kl"])
    assert found.table.num_rows == 60
    assert found.faults == ("measured/capacity.parquet is no plain file: it is not read",)


def test_records_that_link_out_of_the_folder_are_left_out(tmp_path):
    write_run(tmp_path / "elsewhere" / "b")
    run = write_run(tmp_path / "root" / "a")
    (run / "records" / "00001.parquet").symlink_to(tmp_path / "elsewhere/b/records/00000.parquet")
    assert [file.name for file in record_files(run)] == ["00000.parquet"]


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"dir = .*nowhere'.*must be a folder that holds runs; `ev train TASK` makes"
    ):
        Scanner(tmp_path / "nowhere")


def test_a_growing_run_reads_each_file_once(tmp_path):
    run = write_run(tmp_path / "a", batches=20, segments=2, total=40)
    records = Records(tmp_path)
    assert records.read(run, ["trust/kl"]).table.num_rows == 40
    assert records.files_read == 2
    add_shard(run, 2)
    found = records.read(run, ["trust/kl"])
    assert (found.table.num_rows, records.files_read) == (60, 3)
    assert records.read(run, ["policy/entropy"]).table.num_rows == 60
    assert records.files_read == 6


def test_compacting_changes_no_value(tmp_path):
    run = write_run(tmp_path / "a", batches=20, segments=2)
    records = Records(tmp_path)
    before = records.read(run, ["trust/kl", "perf/return_mean"])
    stamp = fingerprint(run)
    compact(run)
    after = records.read(run, ["trust/kl", "perf/return_mean"])
    assert after.table.equals(before.table)
    assert after.faults == ()
    assert fingerprint(run) != stamp


def test_a_segment_that_is_computed_again_counts_once(tmp_path):
    run = write_run(tmp_path / "a", batches=20, segments=2)
    compact(run)
    again = [{**row, "segment": 1, "trust/kl": 9.0} for row in rows(10, first=10)]
    write_shard(run, 1, again)
    table = Records(tmp_path).read(run, ["trust/kl"]).table
    assert table.num_rows == 40
    assert table["trust/kl"].to_pylist()[20:] == [9.0] * 20


def test_a_partial_shard_is_read_until_its_segment_is_whole(tmp_path):
    run = write_run(tmp_path / "a", batches=10, total=20)
    write_shard(run, 1, [{**row, "segment": 1} for row in rows(3, first=10)], partial=True)
    records = Records(tmp_path)
    assert records.read(run, []).table.num_rows == 26
    add_shard(run, 1)
    assert records.read(run, []).table.num_rows == 40


def test_a_torn_file_is_left_out_and_named(tmp_path):
    run = write_run(tmp_path / "a", batches=20, segments=2)
    (run / "records" / "00001.parquet").write_bytes(b"PAR1 torn")
    found = Records(tmp_path).read(run, ["trust/kl"])
    assert found.table.num_rows == 20
    assert len(found.faults) == 1
    assert found.faults[0].startswith("records/00001.parquet cannot be read: ")


def test_memory_of_records_has_an_end(tmp_path):
    paths = [write_run(tmp_path / str(i)) for i in range(6)]
    one = Records(tmp_path).read(paths[0], ["trust/kl"]).table.nbytes
    records = Records(tmp_path, most_bytes=2 * one)
    for path in paths:
        records.read(path, ["trust/kl"])
    assert records._bytes <= 2 * one
    assert records._bytes == sum(kept.table.nbytes for kept in records._kept.values())


def test_steps_are_those_of_the_rows(tmp_path):
    table = Records(tmp_path).read(write_run(tmp_path / "a", batches=3, seeds=(7,)), []).table
    assert table["env_steps"].to_pylist() == [BATCH, 2 * BATCH, 3 * BATCH]


@pytest.mark.parametrize("told", ["[" * 100_000, '{"steps": 1e999}', "null", '{"steps": %s}' % ("9" * 400)])
def test_a_progress_file_that_holds_anything_keeps_nobody_from_looking(tmp_path, told):
    run = write_run(tmp_path / "a", state="running", batches=10, total=30)
    (tmp_path / "_study" / "progress").mkdir(parents=True)
    (tmp_path / "_study" / "progress" / "a.json").write_text(told)
    lock = acquire(run)
    assert Scanner(tmp_path).scan().states == {"a": "running"}
    lock.release()


@pytest.mark.parametrize(
    "change", [{"steps_done": 10**400}, {"wall_time": float("inf")}, {"steps_total": -1}]
)
def test_numbers_out_of_all_bounds_are_damage(tmp_path, change):
    run = write_run(tmp_path / "a")
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps(status | change))
    assert Scanner(tmp_path).scan().states == {"a": "damaged"}
