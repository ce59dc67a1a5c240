"""Atomic writes: the old file or the new one, and nothing beside it."""

import errno
import hashlib
import json
import os
import stat

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from escapevelocity.errors import UserError
from escapevelocity.runs.atomic import (
    make_folder,
    remove_leftovers,
    require_writable,
    write_arrays,
    write_bytes,
    write_json,
    write_table,
)


def test_what_is_written_is_what_is_read_and_its_checksum(tmp_path):
    checksum = write_bytes(tmp_path / "new" / "a", b"abc")
    assert (tmp_path / "new" / "a").read_bytes() == b"abc"
    assert checksum == hashlib.sha256(b"abc").hexdigest()


def test_json_arrays_and_tables_are_read_by_their_own_libraries(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1, None], "a": "é"})
    write_arrays(tmp_path / "a.safetensors", {"x": np.arange(3.0), "y": np.asarray(True)})
    write_table(tmp_path / "a.parquet", pa.table({"n": [1, 2]}))
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": "é", "b": [1, None]}
    assert load_file(tmp_path / "a.safetensors")["x"].tolist() == [0.0, 1.0, 2.0]
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        assert file.read().to_pydict() == {"n": [1, 2]}
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_number_that_is_not_json_is_a_bug_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_one_line_with_the_path_and_leaves_the_old_file_alone(tmp_path, monkeypatch, call):
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"cannot write .*/a: No space left on device; free space") as caught:
        write_bytes(path, b"new")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_signal_in_the_middle_of_a_write_leaves_no_temp_file(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"new")
    assert list(tmp_path.iterdir()) == []


def test_data_is_on_disk_before_its_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (calls.append(os.path.isdir(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    write_bytes(tmp_path / "a", b"new")
    assert calls == [False, "rename", True]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES])
def test_a_file_system_that_cannot_sync_folders_is_written_to(tmp_path, monkeypatch, number):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_folder_whose_rename_the_disk_has_lost_is_a_user_error(tmp_path, monkeypatch):
    fsync = os.fsync

    def broken(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(UserError, match=r"cannot write .*/a: Input/output error"):
        write_bytes(tmp_path / "a", b"new")


def test_a_file_in_place_of_a_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/a: (Not a directory|File exists)"):
        write_bytes(tmp_path / "file" / "a", b"new")
    with pytest.raises(UserError, match=r"cannot make the folder .*file/deep: .*; choose another --out"):
        make_folder(tmp_path / "file" / "deep")


def test_only_temp_files_are_leftovers(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("deep/.a.json.77.tmp", ".spec.json.1.tmp", "deep/a.tmp", ".lock"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".lock", "a.tmp"]


def test_a_folder_below_a_file_cannot_be_written_and_nothing_is_made(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for where in ("taken", "taken/sub"):
        with pytest.raises(
            UserError, match=rf"^video = '.*{where}': must be a folder that can be written; .*taken is not$"
        ):
            require_writable(tmp_path / where, "video")
    require_writable(tmp_path / "new" / "sub")
    assert not (tmp_path / "new").exists()
