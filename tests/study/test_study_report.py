"""The report page of a study: cells, groups that differ in one thing, tables, and a store that is left as it was."""

import os

import numpy as np
import pytest

from dashboard_stores import BATCH, commit, rows, write_run
from escapevelocity.errors import UserError
from escapevelocity.report.page import render
from escapevelocity.report.page_curves import SeedCurves, Traced
from escapevelocity.runs.records import write_shard
from escapevelocity.study.history import History, RunArrays
from escapevelocity.study.paired import paired_comparison
from escapevelocity.study.report_cells import cells_of, grouped, study_panels, traced_cell, varying
from escapevelocity.study.report_page import joined, runs_page
from escapevelocity.study.report_study import gathered, study_page
from escapevelocity.study.report_tables import Compared, last_table, last_values, paired_table

STEPS = np.arange(1.0, 101.0)


@pytest.fixture(scope="module", autouse=True)
def no_fsync():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def no_advice(run, diagnosis):
    return []


def history_of(*settings, seeds=(1, 2), level=0.0):
    """A run for each of the settings, whose return ends at 100 · index + seed."""
    runs = []
    for index, own in enumerate(settings):
        values = [np.full(STEPS.size, 100.0 * index + seed + level) for seed in seeds]
        runs.append(
            RunArrays(f"run{index}", {"task": "T", **own}, seeds, STEPS, {"perf/return_mean": values})
        )
    return History.from_arrays(runs)


def groups_of(*settings):
    return grouped(cells_of(history_of(*settings).runs))


def test_runs_of_the_same_settings_are_one_cell_with_all_their_seeds():
    steps = [10.0, 20.0]
    history = History.from_arrays(
        [
            RunArrays("a", {"remedy": "none"}, (1, 2), steps, {"x": [[1, 2], [3, 4]]}),
            RunArrays("b", {"remedy": "none"}, (3,), [20.0, 30.0], {"x": [[5, 6]]}),
        ]
    )
    (cell,) = cells_of(history.runs)
    assert cell.seeds == (1, 2, 3)
    found = traced_cell(history, cell, "a", 0).read("x")
    assert found.seeds == (1, 2, 3)
    assert found.steps.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(found.values, [[1, 2, np.nan], [3, 4, np.nan], [np.nan, 5, 6]])


def test_groups_differ_in_the_remedy_and_none_comes_first():
    settings = [
        {"remedy": remedy, "activation": activation}
        for activation in ("tanh", "relu")
        for remedy in ("pfo", "none")
    ]
    first, second = groups_of(*settings)
    assert (first.title, first.labels) == ("activation relu", ("no remedy", "pfo"))
    assert (second.title, second.labels) == ("activation tanh", ("no remedy", "pfo"))


def test_what_a_remedy_brings_along_makes_no_group():
    (group,) = groups_of(
        {"remedy": "none", "layer_norm": False}, {"remedy": "layer-norm", "layer_norm": True}
    )
    assert (group.title, group.labels) == ("", ("no remedy", "layer-norm"))


def test_fields_of_a_remedy_tell_its_cells_apart():
    (group,) = groups_of(
        {"remedy": "none"}, {"remedy": "pfo", "pfo.coef": 1.0}, {"remedy": "pfo", "pfo.coef": 10.0}
    )
    assert group.labels == ("no remedy", "pfo (coef 1)", "pfo (coef 10)")


def test_without_remedies_the_widest_axis_is_held_against_itself():
    groups = groups_of(*({"epochs": e, "activation": a} for a in ("tanh", "relu") for e in (20, 5, 10)))
    assert [group.title for group in groups] == ["activation relu", "activation tanh"]
    assert groups[0].labels == ("epochs 5", "epochs 10", "epochs 20")


def test_a_single_cell_is_a_group_and_nothing_is_none():
    assert groups_of({"epochs": 5})[0].labels == ("all runs",)
    assert grouped([]) == []
    assert varying([]) == {}


def test_the_same_experiment_twice_is_two_cells_that_can_be_told_apart():
    (group,) = groups_of({"epochs": 5}, {"epochs": 5})
    assert group.labels == ("all runs: run0", "all runs: run1")


def traced(label, group, values, seeds, column="perf/return_mean"):
    curves = SeedCurves(STEPS, tuple(seeds), np.asarray(values, float))
    nothing = SeedCurves(np.zeros(0), (), np.zeros((0, 0)))
    return Traced(label, group, lambda name: curves if name == column else nothing, 100.0)


def test_last_values_are_means_over_the_last_tenth_of_what_is_defined():
    values = np.tile(STEPS, (3, 1))
    values[1, 95:] = np.nan
    values[2] = np.nan
    found = last_values(traced("a", 0, values, (7, 8, 9)), "perf/return_mean")
    assert found == {7: pytest.approx(95.5), 8: pytest.approx(93.0)}


def test_the_last_tenth_of_a_frozen_seed_ends_where_it_was_frozen():
    values = np.tile(STEPS, (2, 1))
    values[1, 50:] = np.nan
    one = traced("a", 0, values, (7, 8))
    assert last_values(one, "perf/return_mean") == {7: pytest.approx(95.5)}
    died = one._replace(frozen={8: 50.0})
    assert last_values(died, "perf/return_mean") == {7: pytest.approx(95.5), 8: pytest.approx(45.5)}
    caption = last_table([Compared(died, "T", "learning", "good")], "ppo").caption
    assert caption.endswith("1 seed was frozen by a fault and counts as it then was.")


def test_a_cell_knows_which_of_its_seeds_died_and_which_are_not_as_far(tmp_path):
    run = write_run(tmp_path / "died", seeds=(1, 2))
    kept = [
        {**row, "segment": 0, "wall_time": 1.0} for row in rows(30) if row["seed"] == 1 or row["batch"] < 10
    ]
    kept[19]["fault"] = "seed 2, batch 9: loss is nan"
    write_shard(run, 0, kept)
    commit(run)
    write_run(tmp_path / "cut", seeds=(3,), batches=20, total=30, state="interrupted", why="stopped")
    history = gathered(str(tmp_path)).history
    (cell,) = cells_of(history.runs)
    found = traced_cell(history, cell, "cell", 0)
    assert (found.frozen, found.behind) == ({2: 10.0 * BATCH}, {3: 20.0 * BATCH})


def test_differences_are_paired_by_seed_and_agree_with_the_paired_comparison():
    first = traced("a", 0, [STEPS * 0 + 1, STEPS * 0 + 2, STEPS * 0 + 9], (1, 2, 3))
    second = traced("b", 1, [STEPS * 0 + 5, STEPS * 0 + 3], (2, 1))
    table = paired_table([Compared(first, "T"), Compared(second, "T")], {}, "ppo")
    assert table is not None
    expected = paired_comparison({2: 5.0, 1: 3.0}, {1: 1.0, 2: 2.0, 3: 9.0}, seed=0)
    cells = [cell.text for cell in table.rows[0]]
    assert cells == ["b", "a", "2", "+2.50", "2 of 2", "0.5"]
    assert (expected.iqm.estimate, expected.p_value) == (2.5, 0.5)


def test_other_tasks_and_other_seeds_are_not_compared():
    first, second = traced("a", 0, [STEPS], (1,)), traced("b", 1, [STEPS], (2,))
    assert paired_table([Compared(first, "T"), Compared(second, "T")], {}, "ppo") is None
    assert paired_table([Compared(first, "T"), Compared(first._replace(label="c"), "U")], {}, "ppo") is None


def test_a_run_on_its_way_is_held_against_what_the_other_was_at_the_same_step():
    whole = traced("a", 0, [STEPS, STEPS], (1, 2))
    begun = SeedCurves(STEPS[:30], (1, 2), np.tile(STEPS[:30], (2, 1)))
    half = whole._replace(label="b", group=1, read=lambda name: begun)
    table = paired_table([Compared(whole, "T"), Compared(half, "T")], {}, "ppo")
    assert table is not None
    (row,) = table.rows
    assert [cell.text for cell in row[3:]] == ["+0", "0 of 2", "1"]
    assert row[1].below == "both at step 30"
    names = [row[0].below for row in last_table([Compared(whole, "T"), Compared(half, "T")], "ppo").rows]
    assert names == ["", "at step 30 of 100"]


@pytest.mark.parametrize(
    ("seeds", "middle"), [((1, 2, 3), "; mean over seeds"), ((1, 2, 3, 4), "; interquartile mean over seeds")]
)
def test_a_middle_from_which_nothing_is_trimmed_is_called_a_mean(seeds, middle):
    found = Compared(traced("a", 0, [STEPS] * len(seeds), seeds), "T", "learning", "good")
    assert middle in last_table([found], "ppo").caption


def test_a_table_of_last_values_leaves_out_what_nobody_measured():
    table = last_table([Compared(traced("a", 0, [STEPS], (1,)), "T", "learning", "good")], "ppo")
    assert [head.text for head in table.head] == ["run", "verdict", "seeds", "return"]
    assert [cell.text for cell in table.rows[0]] == ["a", "learning", "1", "95.5"]


STUDY = """\
name = "small"
seeds = [1, 2]
[base]
task = "Hopper-v4"
steps = 61440
[axes]
epochs = [10, 20]
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a sound cell and a sick one."""
    root = tmp_path_factory.mktemp("store") / "small"
    write_run(root / "sound", epochs=10)
    write_run(root / "sick", dead=60.0, epochs=20)
    (root / "_study").mkdir()
    return root


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def page(store):
    before = contents(store)
    lines = []
    found = study_page(gathered(str(store)), no_advice, "0", lines.append)
    assert contents(store) == before  # A report only looks.
    assert lines == ["diagnosing sick", "diagnosing sound"]
    return found


def test_a_study_is_told_cell_by_cell(page):
    assert page.lead == "2 of 4 seeds are healthy or still learning. The others: 2 representation collapse."
    overview = page.parts[0].tables[0]
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in overview.rows}
    assert rows["epochs 10"] == ["curves", "2", "2", "0", "–", "finished"]
    assert rows["epochs 20"] == ["curves", "2", "0", "2", "2 representation collapse", "finished"]
    group = page.parts[1]
    assert [chart.title for chart in group.charts] == [panel.title for panel in study_panels("ppo")]
    assert {line.group for chart in group.charts for line in chart.lines} == {0, 1}
    assert "optimizer.epochs" not in {
        row[0].text
        for part in page.parts
        if "setting" in part.id
        for table in part.tables
        for row in table.rows
    }


def test_the_page_of_a_study_is_html_with_every_chart_in_its_place(page):
    html = render(page)
    for part in page.parts:
        for chart in part.charts:
            assert html.count(f'id="chart-{chart.id}"') == 1


def test_a_study_s_file_tells_what_is_missing(tmp_path, store):
    file = tmp_path / "study.toml"
    file.write_text(STUDY)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no runs in .* to report; `ev study run .*` trains them"):
        gathered(str(file), str(tmp_path / "empty"))


def test_a_folder_without_runs_says_what_makes_one(tmp_path):
    with pytest.raises(UserError, match="to report; `ev train TASK` makes one"):
        gathered(str(tmp_path))


def test_runs_of_several_kinds_or_too_many_are_refused(tmp_path, store):
    write_run(tmp_path / "other")
    spec = tmp_path / "other" / "spec.json"
    spec.write_text(spec.read_text().replace('"job": "ppo"', '"job": "mine"'))
    with pytest.raises(UserError, match="runs of different kinds"):
        runs_page([store / "sound", tmp_path / "other"], no_advice, "0")
    many = [write_run(tmp_path / f"run{index}", batches=2) for index in range(13)]
    with pytest.raises(UserError, match="runs = 13: must be at most 12"):
        runs_page(many, no_advice, "0")


def test_several_runs_are_summed_up_in_a_sentence(store):
    page = runs_page([store / "sound", store / "sick"], no_advice, "0")
    assert page.lead == (
        "sound is healthy: it is learning. sick is not healthy: the representation has collapsed."
        " They differ in epochs (10, 20)."
    )
    assert page.facts == ("2 seeds", f"{30 * BATCH:,} steps per seed", "finished")
    assert joined(["a"]) == "a"
