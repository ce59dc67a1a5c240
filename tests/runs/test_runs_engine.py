"""Starting and resuming in one process: what lands on disk, how a run ends, what is refused."""

import dataclasses
import json
import math
import threading
from typing import Any

import numpy as np
import pytest
from counting_job import CountingJob, CountingSpec, Recorder
from safetensors.numpy import load_file

from escapevelocity.errors import UserError
from escapevelocity.runs import (
    Status,
    checkpoint,
    open_run,
    read_records,
    read_status,
    resume,
    run_directory,
    spec_hash,
    start,
)

JOB = CountingJob()
SPEC = CountingSpec()


def rows_of(run_dir):
    """All records but their wall time, as text: NaN equals NaN there."""
    return repr(read_records(run_dir).drop_columns(["wall_time"]).to_pylist())


def arrays_of(run_dir, number=None):
    folder = run_dir / "checkpoints"
    number = checkpoint.numbers(folder)[-1] if number is None else number
    return {name: (a.dtype.name, a.tobytes()) for name, a in checkpoint.load_arrays(folder, number).items()}


def test_a_run_counts_and_walks_as_a_plain_loop_does(tmp_path):
    status = start(JOB, SPEC, tmp_path / "run")
    expected, position, count = [], np.zeros((2, 3)), 0
    for k in range(4):
        generators = [np.random.default_rng([seed, k]) for seed in (1, 2)]
        for index in range(3):
            for member in range(2):
                position[member] += generators[member].normal(size=3)
                count += 1
                expected.append((k, 3 * k + index, member + 1, position[member, 0]))
    table = read_records(tmp_path / "run")
    columns = [table[name].to_pylist() for name in ("segment", "batch", "seed", "x")]
    assert list(zip(*columns, strict=True)) == expected
    assert all(math.isnan(value) for value in table["undefined"].to_pylist())
    assert table["sometimes"].to_pylist()[:4] == [1, 2, None, None]
    final = checkpoint.load(tmp_path / "run" / "checkpoints", 4, JOB.initial_state(SPEC))
    assert int(final["count"]) == count == 24
    assert final["walk"]["position"].tolist() == position.tolist()
    assert dataclasses.replace(status, wall_time=0.0, host="", pid=0) == Status(
        "finished", "", 4, 4, 120, 120
    )
    assert read_status(tmp_path / "run") == status


def test_a_run_leaves_exactly_the_files_of_the_architecture(tmp_path):
    run = tmp_path / "run"
    start(JOB, SPEC, run)
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    compact_file = next((run / "records").iterdir()).name
    expected = {".lock", "spec.json", "provenance.json", "status.json", f"records/{compact_file}"}
    expected |= {f"checkpoints/{n:05d}.{s}" for n in range(5) for s in ("json", "safetensors")}
    expected |= {f"snapshots/{n:05d}.{s}" for n in range(4) for s in ("json", "safetensors")}
    assert files == expected


def test_two_runs_of_one_spec_are_identical(tmp_path):
    for name in ("a", "b"):
        start(JOB, SPEC, tmp_path / name)
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    assert arrays_of(tmp_path / "a") == arrays_of(tmp_path / "b")


def test_the_files_of_a_segment_land_in_the_order_shard_arrays_commit(tmp_path, monkeypatch):
    import os

    landed, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (landed.append(b), replace(a, b)))
    start(JOB, CountingSpec(segments=1), tmp_path / "run")
    names = [str(path.relative_to(tmp_path / "run")) for path in landed]
    assert names[:-1] == [
        "spec.json",
        "provenance.json",
        "checkpoints/00000.safetensors",
        "checkpoints/00000.json",
        "status.json",
        "snapshots/00000.safetensors",
        "snapshots/00000.json",
        "records/00000.parquet",
        "checkpoints/00001.safetensors",
        "checkpoints/00001.json",
        "status.json",
        landed[-2].relative_to(tmp_path / "run").as_posix(),
    ]
    assert names[-2].startswith("records/compact-")
    assert names[-1] == "status.json"


def test_observers_hear_everything_in_order(tmp_path):
    observer = Recorder()
    status = start(JOB, SPEC, tmp_path / "run", [observer])
    info = observer.info
    assert (info.job, info.spec, info.path) == ("count", SPEC, tmp_path / "run")
    assert (info.segments_done, info.segments_total, info.steps_done, info.steps_total) == (0, 4, 0, 120)
    assert [(row["batch"], row["seed"]) for row in observer.rows] == [
        (b, s) for b in range(12) for s in (1, 2)
    ]
    times = [row["wall_time"] for row in observer.rows]
    assert times == sorted(times)
    assert observer.status == status
    assert observer.messages == []


def test_observers_change_nothing(tmp_path):
    class Vandal(Recorder):
        def on_row(self, row: Any) -> None:
            row["x"] = 0.0

    start(JOB, SPEC, tmp_path / "alone")
    witness = Recorder()
    start(JOB, SPEC, tmp_path / "watched", [Vandal(), witness])
    assert rows_of(tmp_path / "alone") == rows_of(tmp_path / "watched")
    assert witness.messages == ["Vandal is dropped: 'mappingproxy' object does not support item assignment"]


def test_when_the_last_observer_breaks_it_is_a_warning_and_the_run_goes_on(tmp_path):
    class Broken(Recorder):
        def on_row(self, row: Any) -> None:
            raise OSError("no network")

    with pytest.warns(RuntimeWarning, match="Broken is dropped: no network"):
        assert start(JOB, SPEC, tmp_path / "run", [Broken()]).state == "finished"


def test_an_observer_that_cannot_start_ends_the_run_with_its_error(tmp_path):
    class Wrong(Recorder):
        def on_start(self, info: Any) -> None:
            raise UserError("track = 'x': must be wandb or tensorboard")

    with pytest.raises(UserError, match="track = 'x'"):
        start(JOB, SPEC, tmp_path / "run", [Wrong()])
    status = read_status(tmp_path / "run")
    assert (status.state, status.why, status.exit_code) == (
        "failed",
        "track = 'x': must be wandb or tensorboard",
        2,
    )


@pytest.mark.parametrize("stop_after", [1, 6, 7, 14, 24])
def test_stopping_abandons_the_segment_keeps_its_rows_and_resuming_ends_as_if_never_stopped(
    tmp_path, stop_after
):
    run = tmp_path / "run"
    observer = Recorder(stop_after, "rank below 3")
    status = start(JOB, SPEC, run, [observer])
    # Six rows make a segment; the one in which the observer said stop is not committed.
    assert (status.state, status.why, status.exit_code) == ("interrupted", "rank below 3", 0)
    assert status.segments_done == (stop_after - 1) // 6
    assert observer.status == status
    assert read_records(run).num_rows == stop_after
    again = Recorder()
    assert resume(JOB, SPEC, run, [again]).state == "finished"
    assert again.info.segments_done == status.segments_done
    assert len(again.rows) == 24 - 6 * status.segments_done
    start(JOB, SPEC, tmp_path / "whole")
    assert rows_of(run) == rows_of(tmp_path / "whole")
    assert arrays_of(run) == arrays_of(tmp_path / "whole")
    assert not list(run.rglob("*.partial.parquet"))


def test_a_stop_without_a_reason_names_the_observer(tmp_path):
    assert start(JOB, SPEC, tmp_path / "run", [Recorder(1, "")]).why == "stopped by Recorder"


def test_wall_time_adds_up_over_resumes(tmp_path):
    spec = CountingSpec(segments=2, pause=0.01)
    first = start(JOB, spec, tmp_path / "run", [Recorder(8)])
    second = resume(JOB, spec, tmp_path / "run")
    assert 0.03 < first.wall_time < second.wall_time  # four batches of 10 ms each, and then two more
    times = read_records(tmp_path / "run")["wall_time"].to_pylist()
    assert times == sorted(times)
    assert times[6] >= first.wall_time  # the first row of the segment that was computed again


def test_a_run_failed_keeps_rows_and_arrays_and_says_why(tmp_path):
    run = tmp_path / "run"
    status = start(JOB, CountingSpec(fault="2:1:fail"), run)
    assert (status.state, status.exit_code, status.segments_done) == ("failed", 1, 2)
    assert status.why == "loss is nan in batch 7, minibatch 2" == read_status(run).why
    assert read_records(run).num_rows == 14
    fault = json.loads((run / "fault" / "fault.json").read_text())
    assert (fault["reason"], fault["segment"]) == (status.why, 2)
    saved = load_file(run / "fault" / "last_good.safetensors")
    assert [a.shape for a in saved.values()] == [(2, 3)]
    assert saved["['position']"][0, 0] == read_records(run)["x"].to_pylist()[-2]


def test_a_bug_keeps_its_traceback_and_the_rows(tmp_path):
    run = tmp_path / "run"
    observer = Recorder()
    with pytest.raises(ArithmeticError, match="a bug") as caught:
        start(JOB, CountingSpec(fault="1:2:raise"), run, [observer])
    assert caught.traceback[-1].name == "break_down"
    assert read_status(run).state == "failed"
    assert read_status(run).why == "ArithmeticError: a bug in the job"
    assert read_records(run).num_rows == 10
    assert observer.status.state == "failed"


def test_a_failed_run_goes_on_once_the_reason_is_gone(tmp_path):
    class Fixed(CountingJob):
        @staticmethod
        def break_down(kind, position):
            """Nothing is wrong any more."""

    spec = CountingSpec(fault="2:1:fail")
    start(JOB, spec, tmp_path / "run")
    assert resume(Fixed(), spec, tmp_path / "run").state == "finished"
    start(JOB, SPEC, tmp_path / "whole")
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    assert list((tmp_path / "run" / "fault").iterdir()) == []


def test_a_folder_that_holds_a_run_is_refused_with_what_to_do(tmp_path):
    run = tmp_path / "run"
    start(JOB, SPEC, run, [Recorder(8)])
    other = CountingSpec(rows=5)
    hashes = f"{spec_hash(SPEC, 'count')}, not {spec_hash(other, 'count')}"
    for go in (start, resume):
        with pytest.raises(UserError, match=rf"holds another spec \({hashes}\); give another --name"):
            go(JOB, other, run)
    with pytest.raises(UserError, match=r"holds this run, unfinished; `ev resume .*run` goes on with it"):
        start(JOB, SPEC, run)
    resume(JOB, SPEC, run)
    for go in (start, resume):
        with pytest.raises(UserError, match="is finished; to run it again give another --name"):
            go(JOB, SPEC, run)


def test_another_job_with_the_same_fields_is_another_spec(tmp_path):
    class Other(CountingJob):
        name = "other"

    start(JOB, SPEC, tmp_path / "run")
    with pytest.raises(UserError, match="holds another spec"):
        start(Other(), SPEC, tmp_path / "run")


def test_an_observer_field_may_differ_on_resume(tmp_path):
    start(JOB, SPEC, tmp_path / "run", [Recorder(8)])
    assert resume(JOB, CountingSpec(pause=0.001), tmp_path / "run").state == "finished"


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="is not empty and not a run; give another --name or --out"):
        start(JOB, SPEC, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    assert not (tmp_path / "status.json").exists()


def test_an_empty_folder_is_taken(tmp_path):
    assert start(JOB, SPEC, tmp_path).state == "finished"


def test_nothing_to_resume_is_a_user_error_and_makes_no_folder(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file.*give a run's folder"):
        resume(JOB, SPEC, tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_found_by_the_job_leaves_nothing_behind(tmp_path):
    class Picky(CountingJob):
        def initial_state(self, spec):
            raise UserError("task = 'Hoper-v4': must be a known id; did you mean Hopper-v4?")

    with pytest.raises(UserError, match="did you mean Hopper-v4"):
        start(Picky(), SPEC, tmp_path / "run")
    with pytest.raises(UserError, match="segments = 0: must be at least 1"):
        start(JOB, CountingSpec(segments=0), tmp_path / "run")
    with pytest.raises(UserError, match="rows = 'x': must be int"):
        start(JOB, CountingSpec(rows="x"), tmp_path / "run")  # pyright: ignore
    assert list(tmp_path.iterdir()) == []


def test_an_edited_spec_does_not_take_over_old_checkpoints(tmp_path):
    run = tmp_path / "run"
    start(JOB, SPEC, run, [Recorder(8)])
    document = json.loads((run / "spec.json").read_text())
    document["spec"]["rows"] = 5
    (run / "spec.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"its checkpoints belong to spec .*; it was edited"):
        resume(JOB, CountingSpec(rows=5), run)


def test_a_second_start_in_one_process_is_refused_while_the_first_runs(tmp_path):
    class Nested(Recorder):
        def on_row(self, row: Any) -> bool:
            with pytest.raises(UserError, match="is being run by another process"):
                resume(JOB, SPEC, tmp_path / "run")
            assert read_status(tmp_path / "run").state == "running"
            self.rows.append(row)
            return False

    nested = Nested()
    start(JOB, SPEC, tmp_path / "run", [nested])
    assert len(nested.rows) == 1
    assert nested.messages == []


def test_a_state_that_changes_its_form_is_a_bug_that_is_named(tmp_path):
    class Growing(CountingJob):
        def segment(self, spec, state, k, emit):
            return {"count": np.zeros(k + 1, np.int64), "walk": state["walk"]}

    with pytest.raises(
        TypeError, match=r"state leaf \['count'\] was ndarray int64\[\], is now ndarray int64\[1\]"
    ):
        start(Growing(), SPEC, tmp_path / "run")
    assert checkpoint.numbers(tmp_path / "run" / "checkpoints") == [0]


@pytest.mark.parametrize("column", ["segment", "wall_time"])
def test_a_job_must_not_write_the_columns_of_the_engine(tmp_path, column):
    class Meddling(CountingJob):
        def segment(self, spec, state, k, emit):
            emit({column: 1})
            return state

    with pytest.raises(ValueError, match=f"record column '{column}': the engine adds it"):
        start(Meddling(), SPEC, tmp_path / "run")


def test_the_next_segment_gets_what_a_resumed_run_would_load(tmp_path):
    """A weakly typed JAX scalar would promote differently after a resume; it is handed on strongly typed."""
    import jax.numpy as jnp

    seen = []

    class Weak(CountingJob):
        def initial_state(self, spec):
            return {"x": jnp.asarray(1.0)}

        def segment(self, spec, state, k, emit):
            seen.append(state["x"].weak_type)
            return {"x": jnp.asarray(2.0) if k % 2 else jnp.full((), 3.0)}

    assert jnp.asarray(1.0).weak_type
    start(Weak(), SPEC, tmp_path / "run")
    assert seen == [False] * 4


def test_resuming_elsewhere_warns_and_both_places_are_recorded(tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    start(JOB, SPEC, run, [Recorder(8)])
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    observer = Recorder()
    resume(JOB, SPEC, run, [observer])
    assert observer.messages == [
        "resumed elsewhere, numbers may differ in the last bits: threads/OMP_NUM_THREADS was '1', is now '4'"
    ]
    sessions = json.loads((run / "provenance.json").read_text())["sessions"]
    assert [(s["segments_done"], s["threads/OMP_NUM_THREADS"]) for s in sessions] == [(0, "1"), (1, "4")]


def test_snapshots_are_written_again_identically(tmp_path):
    start(JOB, SPEC, tmp_path / "whole")
    start(JOB, SPEC, tmp_path / "run", [Recorder(15)])  # segment 2 had taken its snapshot already
    assert len(open_run(tmp_path / "run").snapshots()) == 3
    resume(JOB, SPEC, tmp_path / "run")
    for path in sorted((tmp_path / "whole" / "snapshots").iterdir()):
        assert (tmp_path / "run" / "snapshots" / path.name).read_bytes() == path.read_bytes()


def test_a_run_works_outside_of_the_main_thread(tmp_path):
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(start(JOB, SPEC, tmp_path / "run")))
    thread.start()
    thread.join()
    assert statuses[0].state == "finished"


def test_the_folder_of_a_run_is_out_and_name(tmp_path):
    assert run_directory(tmp_path, "mine", "Hopper-v4-abc") == tmp_path / "mine"
    assert run_directory(tmp_path, None, "ALE/Pong-v5-abc") == tmp_path / "ALE-Pong-v5-abc"
    for name in ("", " ", "..", ".", "a/b", "a\\b", ".hidden", "a\0b"):
        with pytest.raises(UserError, match="must be the name of one folder, without slashes"):
            run_directory(tmp_path, name, "default")
