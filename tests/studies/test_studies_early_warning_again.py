"""The choice held against runs trained anew: nothing is chosen on them, and the page says what the table says."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import studies.early_warning
from studies.early_warning.__main__ import main
from studies.early_warning.choice import agreed_steps
from studies.early_warning.grid import INSTRUMENTS, LIBRARY_PACE, SIGNS_ASKED
from studies.early_warning.plan import PLAN, SEEDS
from studies.early_warning.repetition import AGAIN, kept_choice, repeated_page
from studies.early_warning.table import chosen_thresholds, columns_of, floats, unused_signs

from escapevelocity.health.signs import Sign

HERE = Path(studies.early_warning.__file__).parent
ILL = {"representation collapse", "trust-region failure"}


@pytest.fixture(scope="module")
def table():
    return pq.read_table(HERE / "again.parquet")


@pytest.fixture(scope="module")
def chosen():
    return json.loads((HERE / "chosen.json").read_text(encoding="utf-8"))


def test_the_page_says_what_the_kept_table_says(table):
    text = (HERE / "README.md").read_text(encoding="utf-8")
    kept = text.split("<!-- again:start -->")[1].split("<!-- again:end -->")[0]
    assert kept.strip() == repeated_page(table).strip()


def test_the_rule_is_the_kept_one(chosen):
    choice = kept_choice(chosen)
    assert chosen_thresholds(choice) == chosen["thresholds"]
    assert [str(sign) for sign in unused_signs(choice)] == chosen["unused_signs"]
    assert (choice.pace, choice.agreeing) == (LIBRARY_PACE, chosen["agreeing"])


def test_a_threshold_that_is_no_level_of_the_study_is_refused(chosen):
    other = {**chosen, "thresholds": {**chosen["thresholds"], "norm_growth": 11}}
    with pytest.raises(ValueError, match="not in"):
        kept_choice(other)


def test_all_runs_of_the_plan_are_a_test_and_their_warnings_follow_from_their_signs(table, chosen):
    rows = list(zip(table["setting"].to_pylist(), table["seed"].to_pylist(), strict=True))
    assert sorted(rows) == sorted((setting.name, seed) for setting in PLAN for seed in SEEDS)
    assert set(table["part"].to_pylist()) == {AGAIN}
    names = list(columns_of(table, "sign"))
    assert names == chosen["signs"]
    by_sign = np.stack([np.nan_to_num(floats(table, f"sign/{name}"), nan=np.inf) for name in names], axis=1)
    instruments = INSTRUMENTS[[SIGNS_ASKED.index(Sign(name)) for name in names]]
    warned = agreed_steps(by_sign, instruments, chosen["agreeing"])
    np.testing.assert_array_equal(np.nan_to_num(floats(table, "warning"), nan=np.inf), warned)


def test_they_are_other_runs_than_those_that_the_choice_was_made_on(table):
    first = pq.read_table(HERE / "runs.parquet")
    shares = [dict(zip(_keys(one), floats(one, "readable_last"), strict=True)) for one in (first, table)]
    same = [key for key, value in shares[0].items() if value == shares[1][key]]
    assert not same


def _keys(table):
    return list(zip(table["setting"].to_pylist(), table["seed"].to_pylist(), strict=True))


def test_what_the_page_says_in_words_is_in_the_table(table):
    rows = table.to_pylist()
    collapsed = [row for row in rows if row["outcome"] == "collapsed"]
    in_time = [row for row in collapsed if row["warning"] is not None and row["warning"] < row["onset"]]
    sound = [row for row in rows if row["outcome"] == "sound"]
    damaged = [row for row in rows if row["outcome"] == "damaged"]
    assert (len(in_time), len(collapsed), len(sound)) == (28, 42, 68)
    assert all(row["warning"] is None and row["verdict"] not in ILL for row in sound)
    late = [row for row in collapsed if row not in in_time]
    assert all(row["warning"] is not None for row in late)  # at the fifth batch, when it had happened already
    assert all(row["verdict"] in ILL for row in collapsed)
    assert (sum(row["verdict"] in ILL for row in damaged), len(damaged)) == (44, 50)


@pytest.mark.parametrize("options", [["--again"], ["--again", "--quick", "--out", "somewhere"]])
def test_without_runs_of_their_own_it_is_one_clear_line(options, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["early_warning", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--again takes --out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
