"""Looking at runs, whole and damaged."""

import numpy as np
import pytest
from counting_job import CountingJob, CountingSpec, Recorder, contents

from escapevelocity.errors import UserError
from escapevelocity.runs import list_runs, open_run, resume, start

JOB = CountingJob()


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A finished run, an interrupted one deeper down, a failed one, and three damaged ones."""
    folder = tmp_path_factory.mktemp("out")
    start(JOB, CountingSpec(), folder / "finished")
    start(JOB, CountingSpec(), folder / "study" / "interrupted", [Recorder(14, "enough")])
    start(JOB, CountingSpec(fault="1:0:fail"), folder / "failed")
    for name, file, text in (
        ("x-spec", "spec.json", "{"),
        ("x-status", "status.json", "\0"),
        ("x-none", "spec.json", None),
    ):
        start(JOB, CountingSpec(), folder / name)
        path = folder / name / file
        path.unlink() if text is None else path.write_text(text)
    (folder / "notes").mkdir()
    return folder


def test_every_run_is_listed_and_damaged_ones_say_why(out):
    listed = {str(entry.path.relative_to(out)): entry for entry in list_runs(out)}
    assert {name: entry.state for name, entry in listed.items()} == {
        "failed": "failed",
        "finished": "finished",
        "study/interrupted": "interrupted",
        "x-none": "damaged",
        "x-spec": "damaged",
        "x-status": "damaged",
    }
    assert "cannot read" in listed["x-none"].damage
    assert "spec.json is not valid JSON" in listed["x-spec"].damage
    assert "status.json is damaged" in listed["x-status"].damage
    run = listed["study/interrupted"].run
    assert run is not None
    assert (run.status.segments_done, run.status.segments_total, run.status.steps_done) == (2, 4, 60)
    assert [entry.path for entry in list_runs(out)] == sorted(entry.path for entry in list_runs(out))


def test_json_of_any_shape_is_damage_and_no_exception(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "spec.json").write_text("[" * 100_000)
    (listed,) = list_runs(tmp_path)
    assert listed.state == "damaged"
    assert "RecursionError" in listed.damage


def test_an_open_run_gives_its_spec_records_checkpoints_and_snapshots(out):
    run = open_run(out / "study" / "interrupted")
    assert (run.job, run.spec["rows"], run.status.why) == ("count", 3, "enough")
    assert run.records().num_rows == 14
    assert [(saved.number, saved.step) for saved in run.checkpoints()] == [(0, 0), (1, 30), (2, 60)]
    assert [(saved.number, saved.step) for saved in run.snapshots()] == [(0, 0), (1, 30)]
    assert run.latest_checkpoint() == (2, [])
    state = run.load_checkpoint(2, JOB.initial_state(CountingSpec()))
    assert int(state["count"]) == 12
    assert state["walk"]["position"].tolist() == run.arrays(2)["['walk']['position']"].tolist()
    assert state["walk"]["position"][0, 0] == run.records()["x"].to_pylist()[10]
    snapshot = run.load_snapshot(1, {"position": np.zeros((2, 3))})
    assert snapshot["position"][1, 0] == run.records()["x"].to_pylist()[7]


def test_older_checkpoints_may_be_deleted_and_the_run_loses_but_its_branch_points(tmp_path):
    """As docs/design.md says."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    start(JOB, CountingSpec(), whole)
    start(JOB, CountingSpec(), run, [Recorder(14, "enough")])
    for path in (run / "checkpoints").iterdir():
        if path.stem != "00002":
            path.unlink()
    opened = open_run(run)
    assert [saved.number for saved in opened.checkpoints()] == [2]
    assert opened.spec_hash == open_run(whole).spec_hash
    assert opened.records().num_rows == 14
    assert resume(JOB, CountingSpec(), run).state == "finished"
    ours, theirs = contents(run), contents(whole)
    assert ours["records"] == theirs["records"]
    assert {name: ours[name] for name in ours if "/4/" in name} == {
        name: theirs[name] for name in theirs if "/4/" in name
    }


def test_a_damaged_snapshot_is_not_listed(tmp_path):
    start(JOB, CountingSpec(segments=2), tmp_path / "run")
    (tmp_path / "run" / "snapshots" / "00000.json").write_text("{}")
    assert [saved.number for saved in open_run(tmp_path / "run").snapshots()] == [1]


def test_a_run_without_a_whole_checkpoint_says_so(tmp_path):
    start(JOB, CountingSpec(segments=1), tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("*.json"):
        path.unlink()
    with pytest.raises(UserError, match=r"has no whole checkpoint; `ev resume .*` makes them"):
        open_run(tmp_path / "run").latest_checkpoint()


def test_damaged_records_do_not_hide_the_newest_state(tmp_path):
    start(JOB, CountingSpec(), tmp_path / "run")
    next((tmp_path / "run" / "records").iterdir()).write_bytes(b"")
    run = open_run(tmp_path / "run")
    assert run.latest_checkpoint() == (4, [])
    with pytest.raises(UserError, match="is damaged"):
        run.records()


def test_what_is_no_run_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not a folder; give a run's folder, such as runs/NAME"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(
        UserError, match=r"cannot read .*spec\.json: No such file or directory; give a run's folder$"
    ):
        open_run(tmp_path)
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(UserError, match=rf"spec\.json is not a folder; .*; did you mean {tmp_path}\?"):
        open_run(tmp_path / "spec.json")
    (tmp_path / "spec.json").unlink()
    with pytest.raises(UserError, match=r"nowhere is not a folder; OUT is the folder that holds runs"):
        list_runs(tmp_path / "nowhere")
    assert list_runs(tmp_path) == []
