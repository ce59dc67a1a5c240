"""A branch beside its parent: curves, marks and captions read off the figure, and what the diagnosis tells of both."""

import dataclasses
import shutil

import numpy as np
import pytest
from scripted_runs import BATCH, make_row, make_spec

from escapevelocity.branch_point import BranchPoint
from escapevelocity.health.verdict import Verdict
from escapevelocity.report._futures import find_parent
from escapevelocity.report._panels import PANELS, column_panel
from escapevelocity.report.diagnosis import diagnose_run, diagnosis_text, first_onset
from escapevelocity.report.overview import run_page, runs_table
from escapevelocity.report.plots import compose, default_folder, plot_columns, plot_run
from escapevelocity.report.settings import lineage_lines
from escapevelocity.runs import Origin, open_run, parent_at, seen_from, start

POINT = 20  # The branch leaves its parent after 20 of 40 batches.
SICK = {
    "health__actor__feature_rank_pca": 3.0,
    "health__actor__dead_neurons": 60.0,
    "trust__ratio_below_mean": 0.1,
}


class HalvesJob:
    """Emits given rows in two segments, up to the branch point and behind it, and says it is PPO."""

    name = "ppo"

    def __init__(self, rows):
        self.rows = rows

    def segments(self, spec):
        return 2

    def initial_state(self, spec):
        return {"x": np.zeros(1)}

    def step(self, spec, k):
        return (0, POINT, spec.num_batches)[k] * BATCH

    def segment(self, spec, state, k, emit):
        for row in self.rows:
            if (row["batch"] >= POINT) == bool(k):
                emit(row)
        return state


def rows_of(batches=40, ill=lambda batch: False, gain=10.0, seeds=(1, 2)):
    return [
        make_row(seed, batch, perf__return_mean=100.0 + gain * batch, **(SICK if ill(batch) else {}))
        for batch in range(batches)
        for seed in seeds
    ]


def make_branch(parent, path, rows, batches=40, **changes):
    point = parent_at(open_run(parent), 1)
    point = dataclasses.replace(point, path=seen_from(path, point.path))
    branch = BranchPoint(point.spec_hash, 1, point.step, point.sha256, 40, 2, point.path)
    spec = make_spec(batches, (1, 2), branch=branch, **changes)
    start(HalvesJob(rows), spec, path, origin=Origin(point, lambda: {"x": np.zeros(1)}))
    return open_run(path)


@pytest.fixture
def parent(tmp_path):
    start(HalvesJob(rows_of(ill=lambda batch: batch >= 10)), make_spec(40, (1, 2)), tmp_path / "sick")
    return open_run(tmp_path / "sick")


@pytest.fixture
def branch(parent, tmp_path):
    """Half as long again as its parent; it gets well, and its return rises twice as fast."""
    optimizer = dataclasses.replace(make_spec().optimizer, learning_rate=1e-5)
    rows = rows_of(60, lambda batch: batch < 25, 20.0)
    return make_branch(parent.path, tmp_path / "well", rows, 60, optimizer=optimizer)


def lines_of(axes):
    """The curves of a panel as (steps, values), without the empty lines of the legend and the flat ones of marks."""
    found = [
        line for line in axes.lines if line.get_linestyle() not in ("None", ":") and len(line.get_xdata()) > 2
    ]
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in found]


def marks_of(axes):
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_linestyle() == ":"]


def test_the_shared_past_is_drawn_once_then_both_futures_with_a_line_where_they_part(parent, branch):
    figure = compose(branch, PANELS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sick", "well"]
    for axes in figure.axes:
        assert marks_of(axes) == [POINT * BATCH]
    (past, _), (future, _) = lines_of(figure.axes[0])
    assert (past[0], past[-1]) == (BATCH, 40 * BATCH)
    # It begins with the last point that is shared, so that the lines join.
    assert (future[0], future[-1]) == (POINT * BATCH, 60 * BATCH)
    caption = " ".join(figure.texts[0].get_text().split())
    assert "Dotted: well leaves sick at step 40,960." in caption


def test_the_branch_joins_its_parents_smoothed_curve(parent, tmp_path):
    same = make_branch(
        parent.path, tmp_path / "same", rows_of(ill=lambda batch: batch >= 10), 40, preset="classic"
    )
    (steps, values), (behind, others) = lines_of(compose(same, PANELS).axes[0])
    # Equal records behind the point: the same curve, since the average goes on from where the past has brought it.
    np.testing.assert_array_equal(behind, steps[POINT - 1 :])
    np.testing.assert_allclose(others, values[POINT - 1 :], rtol=1e-12)


def test_it_makes_no_difference_whether_the_parent_is_named(parent, branch, tmp_path):
    (alone,) = plot_run(branch, tmp_path / "a", ["png"])
    (both,) = plot_run([parent, branch], tmp_path / "b", ["png"])
    assert alone.read_bytes() == both.read_bytes()
    assert default_folder(branch) == branch.path / "plots"


def test_two_branches_of_one_parent_share_it(parent, branch, tmp_path):
    other = make_branch(parent.path, tmp_path / "other", rows_of(50), 50, preset="classic")
    figure = compose([branch, other], PANELS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sick", "well", "other"]
    assert len(lines_of(figure.axes[0])) == 3
    assert marks_of(figure.axes[0]) == [POINT * BATCH]


def test_a_branch_whose_parent_is_gone_is_drawn_alone_and_the_caption_says_so(parent, branch):
    shutil.rmtree(parent.path)
    figure = compose(branch, PANELS)
    ((steps, _),) = lines_of(figure.axes[0])
    assert steps[0] == (POINT + 1) * BATCH
    caption = " ".join(figure.texts[0].get_text().split())
    assert f"the run that {branch.path} branched from, is gone." in caption


def test_a_column_that_only_the_branch_has_is_drawn_for_it_alone(parent, tmp_path):
    rows = [row | {"remedy/pfo/distance": 0.5} for row in rows_of()]
    branch = make_branch(parent.path, tmp_path / "treated", rows, 40, preset="classic")
    axes = compose(branch, [column_panel("remedy/pfo/distance")]).axes[0]
    ((steps, values),) = lines_of(axes)
    assert steps[0] == (POINT + 1) * BATCH
    assert set(values) == {0.5}
    assert plot_columns(branch, ["remedy/pfo/distance"], tmp_path / "one.png").exists()


def test_the_diagnosis_of_a_branch_knows_its_past_and_tells_both_futures(parent, branch):
    found = diagnose_run(branch)
    # These rows hold too little to call it healthy; but it is ill no more.
    assert found.verdict is Verdict.NOT_MEASURED
    # The rank fell in the shared past, at batch 10, and rose again in the branch.
    onsets = {onset.step: onset.ended for onset in found.members[0].onsets}
    assert min(onsets) == 11 * BATCH
    assert None not in onsets.values()
    assert first_onset(found) is None
    assert first_onset(diagnose_run(parent)) == 11 * BATCH
    lines = diagnosis_text(branch, found, []).splitlines()
    assert lines[0].startswith(f"{branch.path}: NOT MEASURED in 2 of 2 seeds")
    assert lines[1] == f"branched from {parent.path} at step {POINT * BATCH:,} (50% of it)"
    assert lines[2].startswith("  parent went on to: REPRESENTATION COLLAPSE in 2 of 2 seeds, confidence")
    assert lines[3] == "  this branch:       NOT MEASURED in 2 of 2 seeds"


def test_the_two_are_compared_over_the_same_last_steps_of_what_both_have(parent, branch):
    text = diagnosis_text(branch, diagnose_run(branch), [])
    # The parent ends at batch 40, so that its future has 20 batches; the last tenth are 39 and 40, counted from 1:
    # returns 100 + 10 · (38, 39) and 100 + 20 · (38, 39), medians 485 and 870.
    cells = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert cells["perf/return_mean"] == ["485", "870"]
    assert cells["health/actor/dead_neurons"] == ["60", "2"]
    assert f"  steps {38 * BATCH + 1:,} to {40 * BATCH:,}, median  parent  branch" in text.replace(
        "median   ", "median  "
    )


def test_a_parent_that_ended_where_the_branch_begins_has_no_future_to_compare(tmp_path):
    start(HalvesJob(rows_of(POINT)), make_spec(POINT, (1, 2)), tmp_path / "short")
    branch = make_branch(tmp_path / "short", tmp_path / "long", rows_of(), 40)
    text = diagnosis_text(branch, diagnose_run(branch), [])
    assert "one of the two has no records behind this point" in text


def test_without_its_parent_the_diagnosis_goes_on(parent, branch):
    moved = parent.path.rename(parent.path.with_name("moved"))
    assert find_parent(branch)[0] is None
    text = diagnosis_text(branch, diagnose_run(branch), [])
    assert (
        f"Only this branch can be told of: {parent.path}, the run that {branch.path} branched from, is gone."
        in text
    )
    assert "parent went on" not in text
    moved.rename(parent.path)


def test_the_page_and_the_list_tell_where_a_branch_began_and_what_differs(parent, branch, tmp_path):
    from rich.console import Console

    assert lineage_lines(branch) == [
        f"branched from {parent.path} at step {POINT * BATCH:,} (50% of it)",
        "  optimizer.learning_rate = 1e-05  (parent: 0.0003)",
        f"  steps = {60 * BATCH}  (parent: {40 * BATCH})",
    ]
    assert lineage_lines(parent) == []
    console = Console(width=200)
    with console.capture() as capture:
        console.print(run_page(branch), runs_table(tmp_path))
    text = capture.get()
    assert f"branched from {parent.path} at step" in text.replace("\n", "")
    assert text.count("from sick at 40,960") == 1
    # What a value is marked against is where the whole line of runs began.
    assert "branch.parent" not in text
