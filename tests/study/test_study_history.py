"""Histories: which rows and columns of which runs they hold, what is read again, and how runs are selected."""

import json
import math
import os

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from history_runs import ScriptJob, ScriptKind, make_branch, make_run

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer, resume
from escapevelocity.runs.status import acquire
from escapevelocity.study import kinds
from escapevelocity.study.gather_study import gather_study
from escapevelocity.study.grid import read_study
from escapevelocity.study.history import (
    History,
    RunArrays,
    collect,
    read_history,
    write_history,
)
from escapevelocity.study.plan import plan
from escapevelocity.study.store import open_store
from escapevelocity.study.watcher import Watcher


class StopAfter(Observer):
    """Stops a run after some rows."""

    def __init__(self, rows):
        self.left, self.reason = rows, "enough"

    def on_row(self, row):
        self.left -= 1
        return self.left > 0


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def store(tmp_path):
    """Two finished runs: a of scale 1, and b of scale 2 with a column of its own."""
    make_run(tmp_path / "store" / "a")
    make_run(tmp_path / "store" / "b", scale=2.0, extra="pfo/penalty")
    return tmp_path / "store"


def rows_of(path, run):
    table = pq.read_table(path)
    return [row for row in table.to_pylist() if row["run"] == run]


def test_a_history_holds_the_runs_specs_and_the_union_of_their_columns(store):
    table = pq.read_table(collect(store))
    assert table.column_names == [
        *("run", "spec", "seed", "env_steps", "batch"),
        *("fault", "pfo/penalty", "segment", "wall_time", "x"),
    ]
    assert table["fault"].type == pa.dictionary(pa.int32(), pa.string())
    first = table.filter(pa.compute.equal(table["run"].cast(pa.string()), "a"))
    assert first["pfo/penalty"].null_count == first.num_rows == 16
    assert set(first["spec"].to_pylist()) == {(store / "a" / "spec.json").read_text(encoding="utf-8")}


def test_values_stand_side_by_side_in_the_order_of_the_specs_seeds(store):
    history = read_history(collect(store))
    run = history.where(scale=2.0).runs[0]
    assert (run.name, run.seeds, run.state, run.steps_total) == ("b", (5, 3), "finished", 80)
    steps, values = history.values(run, "x")
    assert steps.tolist() == [10, 20, 30, 40, 50, 60, 70, 80]
    assert values.tolist() == [[2 * (1000 * seed + step) for step in steps] for seed in (5, 3)]
    assert history.columns == ("fault", "pfo/penalty", "segment", "wall_time", "x")


def test_a_column_that_a_run_never_recorded_gives_curves_without_points(store):
    history = read_history(collect(store))
    for column in ("pfo/penalty", "capacity/actor"):
        assert history.values(history.runs[0], column).values.shape == (2, 0)
    with pytest.raises(UserError, match=r"column = 'fault': must be a column of numbers"):
        history.values(history.runs[0], "fault")


def test_a_seed_without_a_row_has_nan_there():
    table = pa.table(
        {
            "run": ["a"] * 3,
            "spec": [json.dumps({"job": "j", "spec": {"seeds": [1, 2]}})] * 3,
            "seed": [1, 1, 2],
            "env_steps": [10, 20, 20],
            "y": [0.5, math.nan, 1.5],
        }
    )
    history = History.from_table(table)
    steps, values = history.values(history.runs[0], "y")
    assert steps.tolist() == [10, 20]
    np.testing.assert_array_equal(values, [[0.5, math.nan], [math.nan, 1.5]])


def test_a_branch_begins_with_the_past_that_it_shares(store):
    make_branch(store / "a", 1, store / "c", scale=-1.0)
    history = read_history(collect(store))
    branch = next(run for run in history.runs if run.name == "c")
    steps, values = history.values(branch, "x")
    assert steps.tolist() == [10, 20, 30, 40, 50, 60, 70, 80]
    assert values[0].tolist() == [5010, 5020, 5030, 5040, -5050, -5060, -5070, -5080]
    assert branch.settings["branch"] == branch.spec["branch"] != "none"
    assert history.where(branch="none", scale=(1.0, -1.0)).runs[0].name == "a"


def test_only_runs_that_have_changed_are_read_again(store):
    told = []
    path = collect(store, tell=told.append)
    before, when = rows_of(path, "a"), path.stat().st_mtime_ns
    collect(store, tell=told.append)
    assert (told, path.stat().st_mtime_ns) == (["reading a", "reading b"], when)
    spec = make_run(store / "c", [StopAfter(6)], extra="redo/reset")
    collect(store, tell=told.append)
    assert len(rows_of(path, "c")) == 6
    assert read_history(path).where(extra="redo/reset").runs[0].state == "interrupted"
    resume(ScriptJob(), spec, store / "c")
    collect(store, tell=told.append)
    assert told == ["reading a", "reading b", "reading c", "reading c"]
    assert len(rows_of(path, "c")) == 16
    assert [{**row, "redo/reset": None} for row in before] == rows_of(path, "a")


def test_a_run_that_was_removed_leaves_the_history(store):
    collect(store)
    (store / "b").rename(store.parent / "b")
    assert [run.name for run in read_history(collect(store)).runs] == ["a"]


def test_a_history_that_is_updated_keeps_runs_that_are_gone_and_takes_the_newer_ones(store, tmp_path):
    kept = write_history(read_history(collect(store)), tmp_path / "kept.parquet", columns=["x"])
    make_run(tmp_path / "elsewhere" / "b", scale=5.0)
    make_run(tmp_path / "elsewhere" / "c", scale=7.0, extra="pfo/penalty")
    updated = read_history(kept).updated(read_history(collect(tmp_path / "elsewhere")))
    assert [run.name for run in updated.runs] == ["a", "b", "c"]
    again = read_history(write_history(updated, kept))
    for run, scale in zip(again.runs, (1.0, 5.0, 7.0), strict=True):
        assert run.state == "finished"
        assert again.values(run, "x").values[0].tolist() == [scale * (5000 + 10 * n) for n in range(1, 9)]
    assert again.values(again.runs[2], "pfo/penalty").steps.size > 0


def test_a_run_that_was_finished_is_not_replaced_by_one_that_is_not(store, tmp_path):
    old = read_history(collect(store))
    make_run(tmp_path / "elsewhere" / "a", [StopAfter(3)], scale=5.0)
    newer = read_history(collect(tmp_path / "elsewhere"))
    assert newer.runs[0].state == "interrupted"
    assert [run.state for run in old.updated(newer).runs] == ["finished", "finished"]
    assert [run.state for run in newer.updated(old).runs] == ["finished", "finished"]


def test_of_two_unfinished_states_of_a_run_the_further_one_is_kept(tmp_path):
    for name, rows in (("long", 5), ("short", 3)):
        make_run(tmp_path / name / "a", [StopAfter(rows)])
    long, short = (read_history(collect(tmp_path / name)) for name in ("long", "short"))
    points = [history.values(history.runs[0], "x").steps.size for history in (short, long)]
    assert points[0] < points[1]
    for updated in (long.updated(short), short.updated(long)):
        assert updated.values(updated.runs[0], "x").steps.size == points[1]


def test_an_interruption_leaves_the_old_file(store):
    path = collect(store)
    before = path.read_bytes()
    make_run(store / "c")

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(store, tell=interrupt)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["history.parquet"]


def test_damaged_runs_are_left_out_and_named(store):
    make_run(store / "c")
    record = next((store / "a" / "records").glob("compact-*"))
    record.write_bytes(record.read_bytes()[:-100])
    (store / "b" / "status.json").write_text("{", encoding="utf-8")
    make_run(store / "empty", [StopAfter(1)])
    history = read_history(collect(store))
    assert [run.name for run in history.runs] == ["c", "empty"]
    assert sorted(history.left_out) == ["a", "b"]
    assert "is damaged" in history.left_out["a"]
    assert "status.json is damaged" in history.left_out["b"]


def test_a_file_that_is_no_history_is_replaced_by_one(store):
    path = store / "_study" / "history.parquet"
    path.parent.mkdir()
    path.write_bytes(b"not Parquet")
    with pytest.raises(UserError, match=r"cannot be read: .*gathers it again"):
        read_history(store)
    assert len(read_history(collect(store)).runs) == 2
    with pytest.raises(UserError, match="missing; `ev study history STORE` gathers it"):
        read_history(store.parent / "other.parquet")


def test_a_table_that_is_no_history_is_refused(tmp_path):
    with pytest.raises(UserError, match="a history's, with one named run"):
        History.from_table(pa.table({"seed": [1], "env_steps": [1]}))
    table = pa.table({"run": ["a"], "spec": ["{}"], "seed": [1], "env_steps": [1]})
    with pytest.raises(UserError, match=r"spec of run 'a' is not a spec\.json's text"):
        History.from_table(table)


def test_a_parquet_file_that_is_no_history_is_refused(store):
    (records,) = (store / "a" / "records").iterdir()
    with pytest.raises(
        UserError, match=r"\.parquet is not a history: it lacks the columns run and spec; `ev study"
    ):
        read_history(records)


def test_names_choose_the_runs_of_a_file(store, tmp_path):
    path = collect(store, tmp_path / "out.parquet", ["b"])
    assert [run.name for run in read_history(path).runs] == ["b"]
    with pytest.raises(UserError, match="names = 'z': must be the name of a run in"):
        collect(store, names=["a", "z"])
    with pytest.raises(UserError, match="is not a folder"):
        collect(tmp_path / "nowhere")


def test_some_columns_of_some_runs_can_be_written_apart(store, tmp_path):
    history = read_history(collect(store))
    path = write_history(history.where(scale=2.0), tmp_path / "part.parquet", ["x"])
    table = pq.read_table(path)
    assert table.column_names == ["run", "spec", "seed", "env_steps", "batch", "x"]
    part = read_history(path)
    assert [run.settings for run in part.runs] == [history.where(scale=2.0).runs[0].settings]
    np.testing.assert_array_equal(
        part.values(part.runs[0], "x").values, history.values(history.runs[1], "x").values
    )
    with pytest.raises(UserError, match="columns = 'y': must be a column of the records, such as fault, pfo"):
        write_history(history, tmp_path / "other.parquet", ["y"])
    with pytest.raises(UserError, match=r"columns = \['x'\]: must be given with --out"):
        gather_study(str(store), columns=["x"])


def test_a_file_that_another_program_has_written_again_is_a_history(store, tmp_path):
    table = pq.read_table(collect(store))
    plain = table.set_column(0, "run", table["run"].cast(pa.string())).replace_schema_metadata(None)
    shuffled = plain.take(pa.array(np.random.default_rng(0).permutation(plain.num_rows)))
    pq.write_table(shuffled, tmp_path / "again.parquet")
    history = read_history(tmp_path / "again.parquet")
    run = history.where(scale=2.0).runs[0]
    assert (run.name, run.seeds, run.steps_total) == ("b", (5, 3), 80)
    assert history.values(run, "x").values[1].tolist() == [2 * (3000 + step) for step in range(10, 90, 10)]


def test_runs_are_selected_by_settings_whose_names_are_checked(store):
    history = read_history(collect(store))
    assert [run.name for run in history.where(task="script", scale=(1.0, 3.0)).runs] == ["a"]
    assert history.where(scale=7.0).runs == ()
    assert history.where(**{"pfo.coef": 1.0}).runs == ()  # No run has that remedy.
    with pytest.raises(UserError, match="setting = 'scales': must be a setting of the runs, such as scale"):
        history.where(scales=1.0)


def test_a_history_can_be_made_of_arrays_and_written(tmp_path):
    steps, returns = [10, 20, 30], np.array([[1.0, 2.0, math.nan], [4.0, 5.0, 6.0]])
    runs = [
        RunArrays(
            "sb3", {"task": "Hopper-v4", "remedy": "none"}, (4, 9), steps, {"perf/return_mean": returns}
        ),
        RunArrays("ours", {"task": "Ant-v4", "remedy": "pfo"}, (1,), steps, {"x": returns[:1]}),
    ]
    made = History.from_arrays(runs)
    for history in (made, read_history(write_history(made, tmp_path / "made.parquet"))):
        (run,) = history.where(remedy="none").runs
        assert (run.name, run.seeds, run.state, run.steps_total) == ("sb3", (4, 9), "finished", 30)
        np.testing.assert_array_equal(history.values(run, "perf/return_mean").values, returns)
    with pytest.raises(
        UserError, match=r"column x of run r: shape = \(1, 2\): must be seeds × points, \(1, 1\)"
    ):
        History.from_arrays([RunArrays("r", {}, (1,), [10], {"x": [[1.0, 2.0]]})])
    assert History.from_arrays([]).runs == ()


def test_arrays_that_would_hide_each_other_are_refused():
    one = RunArrays("r", {}, (1,), [10, 20], {"x": [[1.0, 2.0]]})
    with pytest.raises(UserError, match="runs = 'r': must be of different names: it is given twice"):
        History.from_arrays([one, one])
    with pytest.raises(UserError, match=r"seeds of run r = \[1\]: must be whole numbers, each given once"):
        History.from_arrays([one._replace(seeds=(1, 1))])
    with pytest.raises(UserError, match=r"steps of run r = \[0\]: must be whole numbers, each given once"):
        History.from_arrays([one._replace(steps=[0.1, 0.9])])
    first = History.from_arrays([one._replace(steps=[0.1], columns={"x": [[1.0]]})])
    assert first.values(first.runs[0], "x").values.tolist() == [[1.0]]


def test_runs_of_a_study_that_cannot_be_gathered_are_named_and_the_others_gathered(tmp_path, monkeypatch):
    monkeypatch.setitem(kinds.KINDS, "script", ScriptKind())
    file, opened = tmp_path / "grid.toml", open_store(tmp_path / "store", create=True)
    file.write_text('name = "grid"\njob = "script"\nseeds = [5, 3]\n[axes]\nscale = [1.0, 2.0, 3.0, 4.0]\n')
    names = [one.order.name for one in plan(read_study(file), opened)]
    make_run(opened.run_path(names[0]))
    opened.run_path(names[1]).mkdir()
    opened.run_path(names[2]).write_text("no folder")
    lock = acquire(opened.run_path(names[1]))  # A run that has no spec.json yet.
    for columns in ((), ("x",)):
        out = tmp_path / f"{len(columns)}.parquet"
        path, left_out = gather_study(str(file), str(opened.path), out, columns)
        assert [run.name for run in read_history(path).runs] == names[:1]
        assert left_out[names[1]] == "it has only just begun"
        assert left_out[names[2]].endswith("is not a folder")
        assert set(left_out) == {names[1], names[2]}
    lock.release()


def test_a_store_behind_a_url_is_fetched_first_and_handed_its_history(store, tmp_path):
    url = f"memory://{tmp_path.name}"
    fs, root = fsspec.core.url_to_fs(url)
    fs.put(str(store), root, recursive=True)
    opened = open_store(url)  # Its folder here lasts as long as the object.
    history = read_history(collect(opened))
    assert [run.name for run in history.runs] == ["a", "b"]
    assert fs.exists(f"{root}/_study/history.parquet")
    gather_study(url, out=tmp_path / "out.parquet")
    assert len(read_history(tmp_path / "out.parquet").runs) == 2
    with pytest.raises(UserError, match="out = None: must be a file of this machine"):
        gather_study(url)
    overview = Watcher(url).look()
    assert (overview.title, overview.counts["finished"]) == (tmp_path.name, 2)
    fs.rm(root, recursive=True)
