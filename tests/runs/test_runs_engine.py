"""Starting and resuming in one process: what is computed, what lands on disk, what goes on."""

import dataclasses
import json
import math
import os
import threading

import numpy as np
import pytest
from counting_job import CountingJob, CountingSpec, Recorder, contents

from escapevelocity.errors import UserError
from escapevelocity.runs import (
    Status,
    checkpoint,
    open_run,
    read_records,
    read_status,
    resume,
    run_directory,
    start,
)

JOB = CountingJob()
SPEC = CountingSpec()


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
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_files_of_a_segment_land_in_the_order_shard_arrays_commit(tmp_path, monkeypatch):

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


def test_wall_time_adds_up_over_resumes(tmp_path):
    spec = CountingSpec(segments=2, pause=0.01)
    first = start(JOB, spec, tmp_path / "run", [Recorder(8)])
    second = resume(JOB, spec, tmp_path / "run")
    assert 0.03 < first.wall_time < second.wall_time  # four batches of 10 ms each, and then two more
    times = read_records(tmp_path / "run")["wall_time"].to_pylist()
    assert times == sorted(times)
    assert times[6] >= first.wall_time  # the first row of the segment that was computed again


def test_an_observer_field_may_differ_on_resume(tmp_path):
    start(JOB, SPEC, tmp_path / "run", [Recorder(8)])
    assert resume(JOB, CountingSpec(pause=0.001), tmp_path / "run").state == "finished"


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
    accepted = (
        "must be the name of one folder, without slashes (see --out): printable characters in valid UTF-8, at most "
        "200 bytes, no dot in front"
    )
    for name in ("", " ", "..", ".", "a/b", "a\\b", ".hidden", "a\0b", "a\nb", "\udcff", "ü" * 101):
        with pytest.raises(UserError) as caught:
            run_directory(tmp_path, name, "default")
        assert str(caught.value) == f"name = {name!r}: {accepted}"
    for name in ("ü" * 100, "Ünter suchung–2"):
        assert run_directory(tmp_path, name, "default") == tmp_path / name
