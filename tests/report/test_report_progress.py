"""Speed, time left, marks and numbers: what every live display stands on."""

import io

import pytest
from scripted_runs import BATCH, RowsJob, make_info, make_row, make_spec

from escapevelocity.report import terminal_observer
from escapevelocity.report._progress import Progress
from escapevelocity.report._shown import is_marked, shown, write_number, write_time
from escapevelocity.runs import Observer, resume, start

NAN = float("nan")


def test_the_ends_of_a_healthy_range_are_healthy_and_what_cannot_be_judged_is_not_marked():
    assert not is_marked("health/actor/feature_rank_pca", 10.0, 64)
    assert is_marked("health/actor/feature_rank_pca", 9.0, 64)
    assert not is_marked("health/actor/feature_rank_pca", 9.0, 16)  # half of a layer of 16 is 8
    assert not is_marked("health/actor/feature_rank_pca", 9.0, None)
    assert not is_marked("perf/return_mean", -1e9, 64)
    assert not is_marked("trust/kl", NAN, 64)
    assert not is_marked("a column of another job", 1.0, 64)
    assert is_marked("health/actor/preactivation_norm", float("inf"), 64)


def test_speed_counts_all_members_and_the_time_left_follows_from_it(clock):
    progress = Progress(make_info(batches=10, seeds=(1, 2), wall_time=100.0), clock)
    for batch in range(4):
        clock.now = 50.0 + 2.0 * batch  # 50 s of compilation, then a batch every 2 s
        for seed in (1, 2):
            progress.add(make_row(seed, batch))
    assert progress.steps_per_second() == pytest.approx(2 * BATCH / 2.0)
    assert progress.time_left() == pytest.approx(6 * 2.0)
    assert progress.elapsed() == pytest.approx(156.0)
    assert progress.share() == pytest.approx(0.4)


def test_speed_follows_a_machine_that_slows_down(clock):
    progress = Progress(make_info(batches=1000), clock)
    for batch in range(200):
        clock.now += 0.1 if batch < 100 else 1.0
        progress.add(make_row(1, batch))
    # The last 30 s hold only batches of 1 s.
    assert progress.steps_per_second() == pytest.approx(BATCH / 1.0)


def test_a_resumed_run_counts_the_steps_of_before_in_progress_but_not_in_speed(clock):
    progress = Progress(make_info(batches=10, steps_done=4 * BATCH, segments_done=2), clock)
    assert (progress.share(), progress.segment()) == (0.4, 3)
    for batch in (4, 5):
        clock.now += 1.0
        progress.add(make_row(1, batch, segment=2))
    assert progress.steps_per_second() == pytest.approx(BATCH / 1.0)
    assert progress.share() == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-3.0, "-3"), (999_999.0, "999,999"), (1e6, "1.0e+06"), (12.34, "12.3"), (1.234, "1.23"),
        (0.1234, "0.123"), (0.0004, "4.0e-04"), (9.9e-305, "<1e-99"), (NAN, "–"), (float("-inf"), "-inf"),
    ],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert write_number(value) == text


def test_texts_lose_control_characters_and_have_an_end():
    assert shown("a\x00b\nc\udcff") == "a�b�c�"
    assert shown("\x1b]0;owned\x07 \x9b2J") == "�]0;owned� �2J"
    assert len(shown("x" * 10_000)) == 2001


def test_durations_are_minutes_or_hours():
    assert [write_time(x) for x in (0.0, 59.6, 3600.0, NAN)] == ["0:00", "1:00", "1:00:00", "–"]


def test_a_rank_that_was_low_from_the_start_is_not_marked_but_one_that_fell_is(clock):
    progress = Progress(make_info(seeds=(1, 2)), clock)
    for seed in (1, 2):
        progress.add(make_row(seed, 0, health__actor__feature_rank_pca=4.0))
    progress.add(make_row(1, 1, health__actor__feature_rank_pca=2.0))
    progress.add(make_row(2, 1, health__actor__feature_rank_pca=1.0))
    assert progress.outside("health/actor/feature_rank_pca") == "health/actor/feature_rank_pca 1 (seed 2)"


def test_a_resumed_run_remembers_where_it_began(run_of, clock):
    run = run_of([make_row(1, b, health__actor__feature_rank_pca=4.0 - b) for b in range(2)])
    progress = Progress(make_info(path=run.path, segments_done=1), clock)
    progress.add(make_row(1, 2, health__actor__feature_rank_pca=2.0))
    assert progress.outside("health/actor/feature_rank_pca") == ""
    progress.add(make_row(1, 3, health__actor__feature_rank_pca=1.0))
    assert progress.outside("health/actor/feature_rank_pca") != ""


class FourSegments(RowsJob):
    """A row in each of four segments."""

    def segments(self, spec):
        return 4

    def step(self, spec, k):
        return k * BATCH

    def segment(self, spec, state, k, emit):
        emit(self.rows[k])
        return state


class StopsAt(Observer):
    """Stops a run in its last segment, whose row is then in a partial shard."""

    def on_row(self, row):
        return row["batch"] < 3


@pytest.mark.parametrize(
    ("file", "goes_on_from"),
    [("records/00001.parquet", 1), ("records/00003.partial.parquet", 3), ("measured/mine.parquet", 3)],
)
def test_a_damaged_run_is_resumed_with_a_display(tmp_path, clock, file, goes_on_from):
    """What stands behind the last sound segment is computed again; the display must not stand in its way."""
    rank = "health/actor/feature_rank_pca"
    job, spec = FourSegments([make_row(1, b, **{rank: 4.0 - b}) for b in range(4)]), make_spec(4)
    assert start(job, spec, tmp_path / "run", [StopsAt()]).state == "interrupted"
    path = tmp_path / "run" / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"torn")
    progress = Progress(make_info(path=tmp_path / "run", segments_done=goes_on_from), clock)
    # Marks are by where the run began, if that can still be read.
    assert progress.starts.get(rank) == (None if file.startswith("measured") else 4.0)
    stream = io.StringIO()
    assert resume(job, spec, tmp_path / "run", [terminal_observer(stream)]).state == "finished"
    assert "finished" in stream.getvalue()
