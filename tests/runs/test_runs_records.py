"""Record shards and their table, against rows written out by hand."""

import math
import os

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from escapevelocity.errors import UserError
from escapevelocity.runs import _shards, checkpoint, compact, read_records
from escapevelocity.runs.records import clean_row, drop_from, write_shard


def commit(run_dir, *segments):
    """Write shards and one checkpoint that vouches for them."""
    checksums = {str(k): write_shard(run_dir, k, rows) for k, rows in enumerate(segments)}
    checkpoint.save(run_dir / "checkpoints", len(segments), {}, step=0, extra={"records": checksums})
    return run_dir


def row(segment, batch, seed=1, **more):
    return {"segment": segment, "wall_time": 0.5, "seed": seed, "batch": batch, **more}


def flip(path, position=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if position is None else position] ^= 16
    path.write_bytes(bytes(data))


def test_rows_come_back_sorted_by_segment_batch_and_seed(tmp_path):
    commit(tmp_path, [row(0, 1, 2), row(0, 1, 1), row(0, 0, 2)], [row(1, 2, 1)])
    table = read_records(tmp_path)
    order = list(zip(*(table[name].to_pylist() for name in ("segment", "batch", "seed")), strict=True))
    assert order == [(0, 0, 2), (0, 1, 1), (0, 1, 2), (1, 2, 1)]


def test_a_column_on_some_rows_is_null_elsewhere_and_nan_stays_nan(tmp_path):
    commit(tmp_path, [row(0, 0), row(0, 1, capacity=1.5, rank=math.nan)], [row(1, 2, late="x")])
    table = read_records(tmp_path)
    assert table["capacity"].to_pylist() == [None, 1.5, None]
    assert table["rank"].null_count == 2
    assert math.isnan(table["rank"][1].as_py())
    assert table["late"].to_pylist() == [None, None, "x"]


def test_whole_numbers_in_one_shard_and_fractions_in_the_next_make_one_column(tmp_path):
    commit(tmp_path, [row(0, 0, x=1, several=[])], [row(1, 1, x=0.5, several=[1.5])], [row(2, 2, x=None)])
    table = read_records(tmp_path)
    assert table["x"].to_pylist() == [1.0, 0.5, None]
    assert table["several"].to_pylist() == [[], [1.5], None]


def test_a_segment_without_rows_is_no_special_case(tmp_path):
    commit(tmp_path, [], [row(1, 0)])
    assert read_records(tmp_path)["segment"].to_pylist() == [1]
    commit(tmp_path / "none", [])
    assert read_records(tmp_path / "none").num_rows == 0
    assert read_records(tmp_path / "nothing").column_names == ["segment", "wall_time"]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    commit(tmp_path / "lr=0.1", [row(0, 0)])
    assert read_records(tmp_path / "lr=0.1").column_names == ["segment", "wall_time", "seed", "batch"]


def test_a_partial_shard_is_read_and_dropped_on_resume(tmp_path):
    commit(tmp_path, [row(0, 0)])
    write_shard(tmp_path, 1, [row(1, 1)], partial=True)
    assert read_records(tmp_path)["batch"].to_pylist() == [0, 1]
    drop_from(tmp_path, 1)
    assert read_records(tmp_path)["batch"].to_pylist() == [0]


def test_a_shard_that_was_never_committed_is_not_read(tmp_path):
    commit(tmp_path, [row(0, 0)])
    write_shard(tmp_path, 1, [row(1, 1)])
    assert read_records(tmp_path)["batch"].to_pylist() == [0]


def test_values_become_what_parquet_stores():
    given = {
        "float32": np.float32(0.1),
        "jax": jnp.asarray(2.5),
        "zero_d": np.asarray(3),
        "bool": np.bool_(True),
        "list": np.asarray([1.0, 2.0]),
        "tuple": (np.int64(1), 2),
        "text": np.str_("a"),
        "none": None,
    }
    expected = {
        "float32": float(np.float32(0.1)),
        "jax": 2.5,
        "zero_d": 3,
        "bool": True,
        "list": [1.0, 2.0],
        "tuple": [1, 2],
        "text": "a",
        "none": None,
    }
    cleaned = clean_row(given)
    assert cleaned == expected
    assert [type(value) for value in cleaned.values()] == [type(value) for value in expected.values()]


@pytest.mark.parametrize("value", [{"a": 1}, object(), [object()], 1j])
def test_a_value_that_cannot_be_stored_is_named(value):
    with pytest.raises(TypeError, match=r"record column 'x': a .* cannot be stored"):
        clean_row({"x": value})


@pytest.mark.parametrize("values", [[1, "a"], [1.0, [1]], [True, "a"], [2**70]])
def test_values_that_do_not_go_together_are_named(tmp_path, values):
    with pytest.raises(TypeError, match="record column 'x': values of several types"):
        write_shard(tmp_path, 0, [{"x": value} for value in values])


def test_shards_that_do_not_go_together_are_named(tmp_path):
    commit(tmp_path, [row(0, 0, x=1)], [row(1, 1, x="a")])
    with pytest.raises(TypeError, match="records of several segments do not go together"):
        read_records(tmp_path)


def test_a_damaged_or_missing_shard_is_a_user_error(tmp_path):
    commit(tmp_path, [row(0, 0)], [row(1, 1)])
    shard = tmp_path / "records" / "00001.parquet"
    flip(shard)
    with pytest.raises(UserError, match=r"00001\.parquet is damaged: .*`ev resume .*` computes it again"):
        read_records(tmp_path)
    shard.unlink()
    with pytest.raises(UserError, match=r"00001\.parquet is missing"):
        read_records(tmp_path)


def test_a_damaged_partial_shard_is_a_user_error(tmp_path):
    commit(tmp_path, [row(0, 0)])
    write_shard(tmp_path, 1, [row(1, 1)], partial=True)
    (tmp_path / "records" / "00001.partial.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"00001\.partial\.parquet cannot be read") as caught:
        read_records(tmp_path)
    assert "\n" not in str(caught.value)


def test_compacting_changes_the_files_and_not_the_records(tmp_path):
    commit(tmp_path, [row(0, 0, x=math.nan), row(0, 1)], [row(1, 2, y=1)])
    before = read_records(tmp_path)
    path = compact(tmp_path)
    assert [entry.name for entry in (tmp_path / "records").iterdir()] == [path.name]
    assert repr(read_records(tmp_path).to_pylist()) == repr(before.to_pylist())
    with pq.ParquetFile(path) as file:
        assert file.metadata.num_rows == 3
    assert compact(tmp_path).name == path.name


def test_a_crash_at_any_write_of_compaction_loses_nothing(tmp_path, monkeypatch):
    """Each rename and each removal is made to be the last thing that happens; then it is tried again."""
    segments = [[row(k, k)] for k in range(3)]
    count = 0

    class Crash(BaseException):
        pass

    def crashing(call, at):
        def wrapper(*arguments, **options):
            nonlocal count
            count += 1
            if count == at:
                raise Crash
            return call(*arguments, **options)

        return wrapper

    crashes = 0
    for at in range(1, 20):
        run = commit(tmp_path / str(at), *segments)
        count = 0
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", crashing(os.replace, at))
            patch.setattr(os, "unlink", crashing(os.unlink, at))
            try:
                compact(run)
            except Crash:
                crashes += 1
        assert read_records(run)["batch"].to_pylist() == [0, 1, 2]
        compact(run)
        assert read_records(run)["batch"].to_pylist() == [0, 1, 2]
        assert len(list((run / "records").glob("*.parquet"))) == 1
    assert crashes >= 4  # the rename and the removal of each of the three shards


def test_a_damaged_compact_file_is_noticed(tmp_path):
    commit(tmp_path, [row(0, 0)], [row(1, 1)])
    good = compact(tmp_path).read_bytes()
    path = next((tmp_path / "records").iterdir())
    for position in np.random.default_rng(2).choice(len(good), 30, replace=False):
        flip(path, int(position))
        with pytest.raises(UserError, match=r"compact-\w+\.parquet is damaged: its checksum differs"):
            read_records(tmp_path)
        path.write_bytes(good)
    assert read_records(tmp_path).num_rows == 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_is_compacted_while_it_is_read_gives_all_rows(tmp_path, monkeypatch, moment):
    """The writer gets in around the reader's look for a compact file: before it, and behind it."""
    commit(tmp_path, [row(0, 0)], [row(1, 1)])
    read_compact = _shards.read_compact

    def racing(folder):
        monkeypatch.undo()
        if moment == "before":
            compact(tmp_path)
            return read_compact(folder)
        found = read_compact(folder)
        compact(tmp_path)
        return found

    monkeypatch.setattr(_shards, "read_compact", racing)
    assert read_records(tmp_path)["batch"].to_pylist() == [0, 1]
    assert not (tmp_path / "records" / "00000.parquet").exists()


def test_a_shard_that_goes_between_looking_and_reading_is_looked_for_again(tmp_path, monkeypatch):
    commit(tmp_path, [row(0, 0)], [row(1, 1)])
    parquet_file = pq.ParquetFile

    def racing(path):
        monkeypatch.undo()
        compact(tmp_path)
        return parquet_file(path)

    monkeypatch.setattr(pq, "ParquetFile", racing)
    assert read_records(tmp_path)["batch"].to_pylist() == [0, 1]


def test_a_file_that_goes_away_at_every_try_is_one_line(tmp_path, monkeypatch):
    commit(tmp_path, [row(0, 0)])

    def gone(folder):
        raise FileNotFoundError(2, "No such file", "compact-1.parquet")

    monkeypatch.setattr(_shards, "read_compact", gone)
    with pytest.raises(UserError, match=r"compact-1\.parquet goes away whenever it is read"):
        read_records(tmp_path)


def test_only_the_first_segments_are_read_whatever_became_of_the_others(tmp_path):
    commit(tmp_path, [row(0, 0)], [row(1, 1)], [row(2, 2)])
    write_shard(tmp_path, 3, [row(3, 3)], partial=True)
    flip(tmp_path / "records" / "00002.parquet")
    (tmp_path / "records" / "00003.partial.parquet").write_bytes(b"torn")
    assert read_records(tmp_path, segments=2)["batch"].to_pylist() == [0, 1]
    assert read_records(tmp_path, segments=0).num_rows == 0
    with pytest.raises(UserError, match=r"00002\.parquet is damaged"):
        read_records(tmp_path, segments=3)


@pytest.mark.parametrize("is_compact", [False, True])
def test_a_damaged_newest_checkpoint_does_not_make_the_run_look_shorter(tmp_path, is_compact):
    commit(tmp_path, [row(0, 0)])
    commit(tmp_path, [row(0, 0)], [row(1, 1)])
    if is_compact:
        compact(tmp_path)
    flip(tmp_path / "checkpoints" / "00002.json")
    with pytest.raises(
        UserError, match=r"00002\.json is damaged: .*; `ev resume .*` computes it again"
    ) as caught:
        read_records(tmp_path)
    assert "\n" not in str(caught.value)
    # What a resumed run goes on from is there.
    assert read_records(tmp_path, segments=1)["batch"].to_pylist() == [0]


def test_a_checkpoint_that_goes_while_it_is_read_is_no_damage(tmp_path, monkeypatch):
    """Whoever resumes the run drops the checkpoint behind the one that it goes on from."""
    commit(tmp_path, [row(0, 0)])
    commit(tmp_path, [row(0, 0)], [row(1, 1)])
    load_meta = checkpoint.load_meta

    def racing(folder, number):
        monkeypatch.undo()
        checkpoint.drop_after(folder, 1)
        return load_meta(folder, number)

    monkeypatch.setattr(checkpoint, "load_meta", racing)
    assert read_records(tmp_path)["batch"].to_pylist() == [0]


def test_segments_computed_again_replace_those_of_the_compact_file(tmp_path):
    commit(tmp_path, [row(0, 0)], [row(1, 1)])
    compact(tmp_path)
    checkpoint.drop_after(tmp_path / "checkpoints", 0)
    checkpoint.save(tmp_path / "checkpoints", 1, {}, step=0, extra={"records": {}})
    assert read_records(tmp_path)["batch"].to_pylist() == [0]
    checksum = write_shard(tmp_path, 1, [row(1, 7)])
    checkpoint.save(tmp_path / "checkpoints", 2, {}, step=0, extra={"records": {"1": checksum}})
    assert read_records(tmp_path)["batch"].to_pylist() == [0, 7]
    compact(tmp_path)
    assert read_records(tmp_path)["batch"].to_pylist() == [0, 7]
    assert len(list((tmp_path / "records").iterdir())) == 1


def test_the_compact_file_that_covers_most_is_used(tmp_path):
    folder = tmp_path / "records"
    first = _shards.write_compact(folder, pa.table({"segment": [0]}), 1)
    kept = first.read_bytes()
    _shards.write_compact(folder, pa.table({"segment": [0, 1]}), 2)
    first.write_bytes(kept)  # as if a crash had come before the older one was removed
    table, covered, faults = _shards.read_compact(folder)
    assert table is not None
    assert (table.num_rows, covered, faults) == (2, 2, [])
