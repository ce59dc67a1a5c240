"""What a study wants is kept beside its runs: names, seeds, steps and settings of all that were planned last."""

import dataclasses
import json
import os

import pytest

from dashboard_stores import BATCH, write_run
from escapevelocity.study.dashboard_scan import Scanner
from escapevelocity.study.dashboard_verdicts import Verdicts
from escapevelocity.study.dashboard_views import grid_json, studies_json
from escapevelocity.study.grid import Study
from escapevelocity.study.index import read_indexed, stamp_of
from escapevelocity.study.plan import plan
from escapevelocity.study.store import STUDY_FOLDER
from escapevelocity.study.wanted import WANTED, read_wanted, wanted_files

STUDY = Study("s", {"task": "Hopper-v4", "steps": 30 * BATCH}, {"epochs": (10, 20, 30)}, seeds=(1, 2))
NOTHING_JUDGED = Verdicts(lambda path: {})


def wanted(store):
    return [run for path in wanted_files(store / STUDY_FOLDER) for run in read_wanted(path)]


def test_a_plan_keeps_what_the_study_wants(tmp_path):
    planned = plan(STUDY, tmp_path)
    found = wanted(tmp_path)
    assert [run.name for run in found] == [one.order.name for one in planned]
    assert {run.state for run in found} == {"missing"}
    assert [run.settings["epochs"] for run in found] == [10, 20, 30]
    assert [(run.seeds, run.steps_total) for run in found] == [((1, 2), planned[0].order.steps)] * 3


def test_settings_are_those_that_the_run_will_have(tmp_path):
    planned = plan(STUDY, tmp_path)
    order = planned[1].order
    run = write_run(tmp_path / order.name)
    (run / "spec.json").write_text(order.spec)
    assert wanted(tmp_path)[1].settings == read_indexed(run, order.name, stamp_of(run)).settings


def test_the_last_plan_of_a_study_replaces_its_earlier_ones_and_leaves_other_studies(tmp_path):
    plan(STUDY, tmp_path)
    plan(dataclasses.replace(STUDY, name="other", axes={"epochs": (40,)}), tmp_path)
    plan(dataclasses.replace(STUDY, axes={"epochs": (10,)}), tmp_path)
    assert sorted(run.settings["epochs"] for run in wanted(tmp_path)) == [10, 40]


def test_what_a_kept_history_holds_is_not_wanted(tmp_path):
    first = plan(STUDY, tmp_path, record=False)[0].order.name
    planned = plan(STUDY, tmp_path, kept={first: (1, 2)})
    assert [one.state for one in planned] == ["kept", "missing", "missing"]
    assert [run.settings["epochs"] for run in wanted(tmp_path)] == [20, 30]


def test_a_plan_that_is_not_kept_writes_nothing(tmp_path):
    plan(STUDY, tmp_path, record=False)
    assert wanted(tmp_path) == []


def test_a_plan_that_changes_nothing_writes_nothing(tmp_path):
    plan(STUDY, tmp_path)
    (path,) = wanted_files(tmp_path / STUDY_FOLDER)
    os.utime(path, ns=(0, 0))
    plan(STUDY, tmp_path)
    assert path.stat().st_mtime_ns == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": 1, "runs": [{"name": 1}]}'])
def test_a_damaged_file_is_written_anew(tmp_path, text):
    plan(STUDY, tmp_path)
    (path,) = wanted_files(tmp_path / STUDY_FOLDER)
    path.write_text(text)
    plan(STUDY, tmp_path)
    assert len(wanted(tmp_path)) == 3


def begun(root):
    """A study of three runs below `root`, of which the first is finished."""
    first = plan(STUDY, root / "s")[0].order
    run = write_run(root / "s" / first.name)
    (run / "spec.json").write_text(first.spec)
    return first.name


def test_the_dashboard_shows_planned_runs_in_the_grid_of_their_study(tmp_path):
    name = begun(tmp_path)
    scan = Scanner(tmp_path).scan()
    assert list(scan.entries) == [f"s/{name}"]  # In the list stands what exists.
    grid = grid_json(scan, NOTHING_JUDGED, "s")
    assert grid["axes"] == ["epochs"]
    assert [(cell["labels"], cell["counts"], cell["done"]) for cell in grid["cells"]] == [
        (["10"], {"finished": 1}, 1.0),
        (["20"], {"missing": 1}, 0.0),
        (["30"], {"missing": 1}, 0.0),
    ]
    assert [cell["runs"] for cell in grid["cells"]] == [[f"s/{name}"], [], []]
    assert (grid["counts"], grid["total"], grid["ends"]) == ({"finished": 1, "missing": 2}, 3, None)
    (store,) = studies_json(scan, ["s"])["stores"]
    assert store["counts"] == {"finished": 1, "missing": 2}


def test_a_study_that_is_planned_anew_is_looked_at_anew(tmp_path):
    begun(tmp_path)
    scanner = Scanner(tmp_path)
    assert len(scanner.scan().planned["s"]) == 2
    plan(dataclasses.replace(STUDY, axes={"epochs": (10,)}), tmp_path / "s")
    assert scanner.scan().planned["s"] == []


HOSTILE = (
    "{",
    "[" * 100_000,
    '{"schema_version": 2, "runs": []}',
    json.dumps({"schema_version": 1, "runs": [{"name": "a", "seeds": ["<u>"], "steps": 1, "settings": {}}]}),
    json.dumps({"schema_version": 1, "runs": [{"name": "a", "seeds": [1], "steps": 1e300, "settings": {}}]}),
    json.dumps({"schema_version": 1, "runs": [{"name": "a", "seeds": [1], "steps": 1, "settings": []}]}),
    json.dumps({"schema_version": 1, "runs": [{"name": "../a", "seeds": [1], "steps": 1, "settings": {}}]}),
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_strangers_file_hides_nothing_but_itself(tmp_path, text):
    name = begun(tmp_path)
    (path,) = wanted_files(tmp_path / "s" / STUDY_FOLDER)
    path.write_text(text)
    scan = Scanner(tmp_path).scan()
    assert (list(scan.entries), scan.planned) == ([f"s/{name}"], {"s": []})


def test_a_file_that_links_out_of_the_folder_or_waits_for_a_writer_is_not_read(tmp_path):
    begun(tmp_path / "root")
    folder = tmp_path / "root" / "s" / STUDY_FOLDER / WANTED
    outside = (folder / "s.json").rename(tmp_path / "outside.json")
    (folder / "s.json").symlink_to(outside)
    os.mkfifo(folder / "t.json")
    assert Scanner(tmp_path / "root").scan().planned == {"s": []}
