"""What observers hear, and the ways in which a run ends."""

import json
from typing import Any

import pytest
from counting_job import CountingJob, CountingSpec, Recorder, contents
from safetensors.numpy import load_file

from escapevelocity.errors import UserError
from escapevelocity.runs import Status, faults, read_records, read_status, resume, start

JOB = CountingJob()
SPEC = CountingSpec()


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
    assert contents(tmp_path / "alone") == contents(tmp_path / "watched")
    assert witness.messages == ["Vandal is dropped: 'mappingproxy' object does not support item assignment"]


def test_when_the_last_observer_breaks_it_is_a_warning_and_the_run_goes_on(tmp_path):
    class Broken(Recorder):
        def on_row(self, row: Any) -> None:
            raise OSError("no network")

    with pytest.warns(RuntimeWarning, match="Broken is dropped: no network"):
        assert start(JOB, SPEC, tmp_path / "run", [Broken()]).state == "finished"


def test_two_observers_may_break_over_the_same_row(tmp_path):
    class Broken(Recorder):
        def on_row(self, row: Any) -> None:
            raise OSError("disk full")

    class Mute(Broken):
        def on_message(self, text: str) -> None:
            raise OSError("disk full")

    witness = Recorder()
    assert start(JOB, SPEC, tmp_path / "run", [Broken(), Mute(), witness]).state == "finished"
    assert sorted(witness.messages) == ["Broken is dropped: disk full", "Mute is dropped: disk full"]
    assert len(witness.rows) == 24


def test_an_observer_that_cannot_start_stops_it_all_before_anything_is_written(tmp_path):
    class Wrong(Recorder):
        def on_start(self, info: Any) -> None:
            raise UserError("track = 'x': must be wandb or tensorboard")

    before, after = Recorder(), Recorder()
    with pytest.raises(UserError, match="track = 'x'"):
        start(JOB, SPEC, tmp_path / "run", [before, Wrong(), after])
    assert before.status == Status("failed", "track = 'x': must be wandb or tensorboard")
    assert after.info is None is after.status
    assert list(tmp_path.iterdir()) == []


def test_messages_come_after_the_start(tmp_path):
    class Ordered(Recorder):
        def on_message(self, text: str) -> None:
            assert self.info is not None
            super().on_message(text)

    start(JOB, SPEC, tmp_path / "run", [Recorder(8)])
    (tmp_path / "run" / "checkpoints" / "00001.safetensors").write_bytes(b"")
    observer = Ordered()
    resume(JOB, SPEC, tmp_path / "run", [observer])
    assert "00001.safetensors is damaged" in observer.messages[0]


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
    assert contents(run) == contents(tmp_path / "whole")
    assert not list(run.rglob("*.partial.parquet"))


def test_a_stop_without_a_reason_names_the_observer(tmp_path):
    assert start(JOB, SPEC, tmp_path / "run", [Recorder(1, "")]).why == "stopped by Recorder"


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
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    assert list((tmp_path / "run" / "fault").iterdir()) == []


def test_a_fault_that_the_run_survives_is_kept_and_computed_again_with_its_segment(tmp_path):
    spec, run = CountingSpec(fault="1:1:survive"), tmp_path / "run"
    assert start(JOB, spec, run).state == "finished"
    fault = json.loads((run / "fault" / "seed-1.json").read_text())
    assert (fault["reason"], fault["segment"]) == ("seed 1, batch 4: frozen", 1)
    kept = {path.name: path.read_bytes() for path in (run / "fault").iterdir()}
    assert set(kept) == {"seed-1.json", "state-seed-1.safetensors"}
    # Behind the last committed segment it goes, with a stray file; before it, it stays.
    (run / "fault" / "stray.safetensors").write_bytes(b"")
    faults.drop_from(run, 2)
    assert {path.name: path.read_bytes() for path in (run / "fault").iterdir()} == kept
    faults.drop_from(run, 1)
    assert list((run / "fault").iterdir()) == []
