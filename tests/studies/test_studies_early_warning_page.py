import numpy as np
import pyarrow.parquet as pq
import pytest
from early_warning_kept import CHOSEN, HERE, agreed, runs_of, section, warnings_of
from studies.early_warning.choice import split
from studies.early_warning.grid import LIBRARY_PACE, PACES
from studies.early_warning.page import page
from studies.early_warning.plan import LAST_TASK, PLAN, SEEDS, UNSEEN_TASK, quick_plan, spec_of
from studies.early_warning.table import (
    CHOOSING,
    PACE_NAMES,
    SPLIT_SEED,
    UNSEEN,
    floats,
    score_rows,
)
from studies.early_warning.truth import SOUND_LEFT

from escapevelocity.health.thresholds import Thresholds

UNSEEN_TASKS = (UNSEEN_TASK, LAST_TASK)


@pytest.fixture(scope="module")
def table():
    return pq.read_table(HERE / "runs.parquet")


def test_the_page_says_what_the_kept_table_says(table):
    assert section("numbers") == page(table, CHOSEN).strip()


def test_the_kept_table_holds_the_plans_runs_and_enough_of_both_kinds(table):
    rows = set(runs_of(table))
    assert rows == {(setting.name, seed) for setting in PLAN for seed in SEEDS}
    assert table.num_rows == len(rows)
    outcomes = table["outcome"].to_pylist()
    assert outcomes.count("collapsed") >= 30
    assert outcomes.count("sound") >= 30


def test_the_halves_are_those_of_the_stated_seed_and_the_unseen_tasks_are_in_neither(table):
    part, tasks = np.array(table["part"].to_pylist()), np.array(table["task"].to_pylist())
    choosing, unseen = split(np.array(table["setting"].to_pylist()), SPLIT_SEED), np.isin(tasks, UNSEEN_TASKS)
    assert (unseen == (part == UNSEEN)).all()
    assert ((part == CHOOSING) == (choosing & ~unseen)).all()


def test_the_kept_warnings_follow_from_the_kept_signs(table):
    for column in ("warning", f"pace/{PACE_NAMES[LIBRARY_PACE]}"):
        np.testing.assert_array_equal(warnings_of(table, column), agreed(table))


def test_a_collapse_begins_where_its_first_loss_does(table):
    parts = np.stack([floats(table, "return_onset"), floats(table, "representation_onset")])
    onsets = floats(table, "onset")
    lost = np.isfinite(parts).any(axis=0)
    np.testing.assert_array_equal(np.fmin(*parts)[lost], onsets[lost])
    outcomes = np.array(table["outcome"].to_pylist())
    assert ((outcomes == "collapsed") == np.isfinite(onsets)).all()
    assert ((floats(table, "readable_last") >= SOUND_LEFT)[~lost] == (outcomes == "sound")[~lost]).all()


def test_the_scores_agree_with_a_count_by_hand(table):
    rows = np.array(table["part"].to_pylist()) == UNSEEN
    own = [row for row in table.to_pylist() if row["task"] in UNSEEN_TASKS]
    found = score_rows(table, rows)
    collapsed = [row for row in own if row["outcome"] == "collapsed"]
    in_time = [row for row in collapsed if row["warning"] is not None and row["warning"] < row["onset"]]
    assert (found.collapsed, found.detected) == (len(collapsed), len(in_time))
    assert found.alarmed == sum(row["outcome"] == "sound" and row["warning"] is not None for row in own)
    assert found.told == sum(row["outcome"] == "damaged" and row["warning"] is not None for row in own)
    leads = [(row["onset"] - row["warning"]) / row["steps"] for row in in_time]
    assert found.lead[0] == pytest.approx(np.median(leads))


def test_the_library_judges_by_what_the_study_chose():
    own = Thresholds().to_json()
    for name, value in CHOSEN["thresholds"].items():
        assert own[name]["value"] == value, name
        assert CHOSEN["source"] in own[name]["source"], name
    for name, value in PACES[LIBRARY_PACE].items():
        assert own[name]["value"] == value, name


def test_the_plan_expects_enough_runs_of_both_kinds_and_its_settings_reach_the_trainer():
    expected = [setting.expected for setting in PLAN for _ in SEEDS]
    assert sum(expected) >= 35
    assert len(expected) - sum(expected) >= 35
    assert len({setting.name for setting in PLAN}) == len(PLAN)
    setting = quick_plan()[1]
    spec = spec_of(setting)
    reached = (
        spec.task,
        spec.optimizer.learning_rate,
        spec.optimizer.epochs,
        spec.network.activation,
        spec.steps,
    )
    assert reached == (setting.task, setting.learning_rate, setting.epochs, setting.activation, setting.steps)
    assert (spec.optimizer.anneal, spec.network.initialization, spec.seeds) == ("none", "torch", SEEDS)


def test_the_library_tells_the_leads_and_keeps_the_silence_that_the_study_chose():
    from escapevelocity.health.signs import MEDIAN_LEADS, NO_WARNING

    assert {str(sign): lead for sign, lead in MEDIAN_LEADS.items()} == CHOSEN["median_lead"]
    # Capacity was not measured in the study's runs; health/signs.py says why it warns of nothing.
    assert {str(sign) for sign in NO_WARNING} == {*CHOSEN["unused_signs"], "capacity loss"}
