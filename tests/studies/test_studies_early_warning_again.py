"""The choice held against runs trained anew: nothing is chosen on them, and the page says what the table says."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from early_warning_kept import CHOSEN, HERE, agreed, runs_of, section, warnings_of
from studies.early_warning.__main__ import main
from studies.early_warning.grid import LIBRARY_PACE
from studies.early_warning.plan import PLAN, SEEDS, spec_of
from studies.early_warning.repetition import kept_choice, repeated_page
from studies.early_warning.table import (
    chosen_thresholds,
    floats,
    had_no_say,
    score_rows,
    unused_signs,
)
from studies.early_warning.training import train_plan

from escapevelocity.errors import UserError

ILL = {"representation collapse", "trust-region failure"}


@pytest.fixture(scope="module")
def table():
    return pq.read_table(HERE / "again.parquet")


def test_the_page_says_what_the_kept_table_says(table):
    anew = json.loads((HERE / "again.json").read_text(encoding="utf-8"))["thresholds"]
    assert section("again") == repeated_page(table, CHOSEN["thresholds"], anew).strip()


def test_a_page_about_the_same_thresholds_says_that_all_stay(table):
    page = repeated_page(table, CHOSEN["thresholds"], CHOSEN["thresholds"])
    assert "Chosen anew on half of these runs, as above: every threshold stays." in page


def test_the_rule_is_the_kept_one():
    choice = kept_choice(CHOSEN)
    assert chosen_thresholds(choice) == CHOSEN["thresholds"]
    assert [str(sign) for sign in unused_signs(choice)] == CHOSEN["unused_signs"]
    assert (choice.pace, choice.agreeing) == (LIBRARY_PACE, CHOSEN["agreeing"])


def test_a_threshold_that_is_no_level_of_the_study_is_refused():
    other = {**CHOSEN, "thresholds": {**CHOSEN["thresholds"], "norm_growth": 11}}
    with pytest.raises(ValueError, match="not in"):
        kept_choice(other)


def test_all_runs_of_the_plan_are_a_test_and_their_warnings_follow_from_their_signs(table):
    assert sorted(runs_of(table)) == sorted((setting.name, seed) for setting in PLAN for seed in SEEDS)
    np.testing.assert_array_equal(warnings_of(table), agreed(table))


def test_they_are_other_runs_than_those_that_the_choice_was_made_on(table):
    first = pq.read_table(HERE / "runs.parquet")
    shares = [dict(zip(runs_of(one), floats(one, "readable_last"), strict=True)) for one in (first, table)]
    assert first["part"].to_pylist() == table["part"].to_pylist()
    assert not [run for run, share in shares[0].items() if share == shares[1][run]]


def test_what_the_page_says_in_words_is_in_the_table(table):
    rows = table.to_pylist()
    of = {name: [row for row in rows if row["outcome"] == name] for name in ("collapsed", "damaged", "sound")}
    in_time = [row for row in of["collapsed"] if row["warning"] < row["onset"]]
    assert (len(in_time), len(of["collapsed"]), len(of["sound"])) == (28, 42, 68)
    assert all(row["warning"] is None and row["verdict"] not in ILL for row in of["sound"])
    batches = {setting.name: spec_of(setting).batch_steps for setting in PLAN}
    late = [row for row in of["collapsed"] if row not in in_time]
    assert all(row["onset"] <= row["warning"] == 5 * batches[row["setting"]] for row in late)
    assert all(row["verdict"] in ILL for row in of["collapsed"])
    assert (sum(row["verdict"] in ILL for row in of["damaged"]), len(of["damaged"])) == (44, 50)
    kept, anew = (score_rows(table, had_no_say(table), column) for column in ("warning", "anew"))
    assert kept.detected == anew.detected


@pytest.mark.parametrize("options", [["--again"], ["--again", "--quick", "--out", "somewhere"]])
def test_without_runs_of_their_own_it_is_one_clear_line(options, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["early_warning", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--again takes --out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_programs_that_cannot_be_trained_are_all_named_before_the_study_ends(tmp_path, capsys):
    """A program that another process held hid what became of all that were trained after it."""
    plan = PLAN[:2]
    for setting in plan:
        (tmp_path / setting.name).mkdir()
    with pytest.raises(UserError, match=r"-v4-(tanh|relu)-e10"):
        train_plan(plan, tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" ")[0] for line in printed] == ["1/2", "2/2"]
    assert all(f"{setting.name}: not trained: " in "".join(printed) for setting in plan)
