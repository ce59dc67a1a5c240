"""Branches: the same past, another future, and what is on disk of both."""

import dataclasses
import os
import shutil
from typing import Any

import pytest
from counting_job import CountingJob, CountingSpec, Recorder, contents

from escapevelocity.errors import UserError
from escapevelocity.runs import (
    Origin,
    checkpoint,
    open_parent,
    open_run,
    parent_at,
    read_records,
    resume,
    seen_from,
    start,
    whole_records,
)

JOB = CountingJob()
SPEC = CountingSpec()


@dataclasses.dataclass(frozen=True)
class BranchSpec(CountingSpec):
    """A spec that says where it begins, as the engine asks of a branch."""

    branch: str = ""


def begin(parent, number, branch, observers=(), **changes):
    """Branch `parent` at a checkpoint."""
    point = parent_at(open_run(parent), number)
    point = dataclasses.replace(point, path=seen_from(branch, point.path))
    spec = BranchSpec(branch=f"{point.sha256}", **changes)
    origin = Origin(point, lambda: open_run(parent).load_checkpoint(number, JOB.initial_state(spec)))
    return spec, origin, start(JOB, spec, branch, list(observers), origin)


def test_a_path_on_another_drive_is_written_whole(tmp_path, monkeypatch):
    def no_way(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")  # What Windows says.

    monkeypatch.setattr(os.path, "relpath", no_way)
    assert seen_from(tmp_path / "branch", tmp_path / "run") == (tmp_path / "run").resolve().as_posix()


def future(run_dir, first):
    """All arrays and records of a run from segment `first` on."""
    arrays = {
        name: value
        for name, value in contents(run_dir).items()
        if name != "records" and int(name.split("/")[1]) >= first
    }
    rows = [
        row
        for row in read_records(run_dir).drop_columns(["wall_time"]).to_pylist()
        if row["segment"] >= first
    ]
    return repr(rows), arrays


@pytest.fixture
def parent(tmp_path):
    start(JOB, SPEC, tmp_path / "parent")
    return tmp_path / "parent"


def test_a_branch_without_a_change_repeats_its_parents_own_future_bit_for_bit(parent, tmp_path):
    for number in (1, 2, 3):
        branch = tmp_path / f"branch-{number}"
        _, _, status = begin(parent, number, branch)
        assert (status.state, status.segments_done, status.segments_total) == ("finished", 4, 4)
        assert (status.steps_done, status.steps_total) == (120, 120)
        assert future(branch, number) == future(parent, number)
        assert min(read_records(branch)["segment"].to_pylist()) == number
        assert checkpoint.numbers(branch / "checkpoints") == list(range(number, 5))


def test_a_branch_may_be_longer_than_its_parent_and_leaves_it_alone(parent, tmp_path):
    before = contents(parent)
    _, _, status = begin(parent, 4, tmp_path / "longer", segments=6)
    assert status.state == "finished"
    start(JOB, CountingSpec(segments=6), tmp_path / "whole")
    assert future(tmp_path / "longer", 4) == future(tmp_path / "whole", 4)
    assert contents(parent) == before


def test_the_lineage_is_recorded_with_every_checkpoint(parent, tmp_path):
    branch = tmp_path / "deep" / "branch"
    begin(parent, 2, branch)
    meta = checkpoint.load_meta(parent / "checkpoints", 2)
    for saved in open_run(branch).checkpoints():
        assert saved.meta["lineage"]["parent"] == {
            "path": "../../parent",
            "spec_hash": meta["lineage"]["spec_hash"],
            "checkpoint": 2,
            "step": 60,
            "sha256": meta["sha256"],
        }
        assert saved.meta["lineage"]["spec_hash"] != meta["lineage"]["spec_hash"]
    found = open_run(branch).parent
    assert found is not None
    assert open_parent(branch, found).path.resolve() == parent.resolve()
    assert open_run(parent).parent is None


def test_an_observer_hears_where_the_branch_begins(parent, tmp_path):
    observer = Recorder()
    begin(parent, 3, tmp_path / "branch", [observer])
    info = observer.info
    assert (info.segments_done, info.segments_total, info.steps_done, info.steps_total) == (3, 4, 90, 120)
    assert info.parent == open_run(tmp_path / "branch").parent
    assert {row["segment"] for row in observer.rows} == {3}


@pytest.mark.parametrize("rows", [1, 8, 14])
def test_an_interrupted_branch_goes_on_to_the_same_end(parent, tmp_path, rows):
    begin(parent, 1, tmp_path / "whole")
    spec, origin, status = begin(parent, 1, tmp_path / "branch", [Recorder(rows)])
    assert status.state == "interrupted"
    shutil.rmtree(parent)  # It is not needed any more.
    assert resume(JOB, spec, tmp_path / "branch", [], origin).state == "finished"
    assert contents(tmp_path / "branch") == contents(tmp_path / "whole")
    assert open_run(tmp_path / "branch").parent == origin.parent


@pytest.mark.parametrize("lost", ["00001.json", "00001.safetensors"])
def test_a_branch_that_lost_all_its_checkpoints_begins_again_from_its_parent(parent, tmp_path, lost):
    begin(parent, 1, tmp_path / "whole")
    spec, origin, _ = begin(parent, 1, tmp_path / "branch", [Recorder(3)])
    os.remove(tmp_path / "branch" / "checkpoints" / lost)
    assert resume(JOB, spec, tmp_path / "branch", [], origin).state == "finished"
    assert contents(tmp_path / "branch") == contents(tmp_path / "whole")


def test_without_its_parent_it_says_so_and_changes_nothing(parent, tmp_path):
    spec, origin, _ = begin(parent, 1, tmp_path / "branch", [Recorder(3)])
    os.remove(tmp_path / "branch" / "checkpoints" / "00001.json")
    shutil.rmtree(parent)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="parent is not a folder"):
        resume(JOB, spec, tmp_path / "branch", [], origin)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_branch_that_begins_where_it_ends_is_refused_and_leaves_nothing(parent, tmp_path):
    with pytest.raises(UserError, match="segments = 4: must be at least 5; the run is too short"):
        begin(parent, 4, tmp_path / "branch")
    assert not (tmp_path / "branch").exists()


def test_a_damaged_branch_point_is_refused_and_leaves_nothing(parent, tmp_path):
    (parent / "checkpoints" / "00002.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="its checksum differs"):
        begin(parent, 2, tmp_path / "branch")
    with pytest.raises(UserError, match=r"00009\.json cannot be read"):
        begin(parent, 9, tmp_path / "branch")
    assert not (tmp_path / "branch").exists()


def test_a_damaged_shard_of_a_branch_is_computed_again(parent, tmp_path):
    begin(parent, 1, tmp_path / "whole")
    spec, origin, _ = begin(parent, 1, tmp_path / "branch", [Recorder(15)])
    (tmp_path / "branch" / "records" / "00002.parquet").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"00002\.parquet is damaged"):
        read_records(tmp_path / "branch")
    observer = Recorder()
    assert resume(JOB, spec, tmp_path / "branch", [observer], origin).state == "finished"
    assert any("falling back from checkpoint 00003" in text for text in observer.messages)
    assert contents(tmp_path / "branch") == contents(tmp_path / "whole")


def whole(run_dir) -> tuple[Any, list[str]]:
    return whole_records(run_dir, open_run(run_dir).parent)


def test_records_of_a_branch_of_a_branch_go_back_to_the_beginning(parent, tmp_path):
    begin(parent, 1, tmp_path / "child")
    begin(tmp_path / "child", 3, tmp_path / "grandchild")
    table, lost = whole(tmp_path / "grandchild")
    expected = read_records(parent)
    assert lost == []
    # Nothing was changed, so that all three together are what the first run would have recorded alone.
    assert repr(table.drop_columns(["wall_time"]).to_pylist()) == repr(
        expected.drop_columns(["wall_time"]).to_pylist()
    )


def test_a_past_that_is_gone_or_another_runs_is_told_and_the_rest_is_there(parent, tmp_path):
    begin(parent, 2, tmp_path / "branch")
    own = read_records(tmp_path / "branch")
    moved = parent.rename(tmp_path / "moved")
    table, lost = whole(tmp_path / "branch")
    assert table.num_rows == own.num_rows
    assert lost == [
        f"the shared past is missing: {parent}, the run that {tmp_path / 'branch'} branched from, is gone"
    ]
    start(JOB, CountingSpec(rows=2), parent)
    assert "its spec is another" in whole(tmp_path / "branch")[1][0]
    shutil.rmtree(parent)
    moved.rename(parent)
    assert whole(tmp_path / "branch")[1] == []
    # Both moved together, as a folder of runs is.
    (tmp_path / "elsewhere").mkdir()
    for name in ("parent", "branch"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    assert whole(tmp_path / "elsewhere" / "branch")[1] == []


@pytest.mark.parametrize("fault", ["3:1:fail", "3:1:raise", ""])
def test_an_unfinished_parent_can_be_branched_and_its_own_last_rows_are_no_past(tmp_path, fault):
    parent, branch = tmp_path / "parent", tmp_path / "branch"
    observers = [] if fault else [Recorder(20)]
    if fault.endswith("raise"):
        with pytest.raises(ArithmeticError):
            start(JOB, CountingSpec(fault=fault), parent)
    else:
        start(JOB, CountingSpec(fault=fault), parent, observers)
    assert open_run(parent).status.state == ("failed" if fault else "interrupted")
    assert max(read_records(parent)["segment"].to_pylist()) == 3  # the partial shard
    begin(parent, 2, branch)
    table, lost = whole(branch)
    start(JOB, SPEC, tmp_path / "untroubled")
    assert lost == []
    assert table["x"].to_pylist() == read_records(tmp_path / "untroubled")["x"].to_pylist()
