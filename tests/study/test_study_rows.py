"""Histories that are open while their file is replaced."""

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.study import _rows
from escapevelocity.study.history import History, RunArrays, read_history, write_history


def write(path, value, runs=("a",)):
    columns = {"x": np.full((1, 3), value), "y": np.full((1, 3), 10 * value)}
    made = [RunArrays(name, {"epochs": 10}, (1,), [10, 20, 30], columns) for name in runs]
    return write_history(History.from_arrays(made), path)


@pytest.mark.parametrize("runs", [("a",), ("a", "b", "c")], ids=["of the same size", "of another size"])
def test_a_history_shows_the_file_that_it_was_read_from_also_when_another_takes_its_place(tmp_path, runs):
    path = write(tmp_path / "h.parquet", 1.0)
    old = read_history(path)
    assert old.values(old.runs[0], "x").values.tolist() == [[1.0, 1.0, 1.0]]
    write(path, 2.0, runs)
    assert old.values(old.runs[0], "y").values.tolist() == [[10.0, 10.0, 10.0]]
    new = read_history(path)
    assert new.values(new.runs[0], "y").values.tolist() == [[20.0, 20.0, 20.0]]
    write_history(old, path, columns=["y"])  # Over the very file.
    assert read_history(path).columns == ("y",)


def test_where_a_file_cannot_be_held_open_one_that_was_replaced_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_rows, "_HOLDS", False)
    path = write(tmp_path / "h.parquet", 1.0)
    history = read_history(path)
    assert history.values(history.runs[0], "x").values.tolist() == [[1.0, 1.0, 1.0]]
    write(path, 2.0)
    with pytest.raises(UserError, match=r"h\.parquet was replaced; read it again"):
        history.values(history.runs[0], "y")


def test_a_history_lets_go_of_its_file(tmp_path):
    history = read_history(write(tmp_path / "h.parquet", 1.0))
    source = history.rows._source  # type: ignore[attr-defined]
    assert not source.closed
    del history
    assert source.closed
