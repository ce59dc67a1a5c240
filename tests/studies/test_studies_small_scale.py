"""The study of every figure at small scale: judgements are found, a figure takes its own runs, and the kept page."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from studies.small_scale.page import Told, outcome, page, runs_of, tell

from escapevelocity.study.grid import Study
from escapevelocity.study.history import History, RunArrays, read_history
from escapevelocity.study.papers.figure import LabFigure
from escapevelocity.study.papers.registry import all_figures, find_figure
from escapevelocity.study.plan import plan
from escapevelocity.study.store import open_store

HERE = Path(__file__).parents[2] / "studies" / "small_scale"
_ROW = re.compile(
    r"^\| (?P<id>\S+) \| .+ \| (?P<task>\S+) \| (?P<runs>.+) \| (?P<judged>.+) \|$", re.MULTILINE
)


def no_lab(figure):
    raise AssertionError(f"{figure.id} is drawn from runs")


@pytest.mark.parametrize(
    ("sentence", "judged"),
    [
        ("Judgement for Hopper-v4 (relu): not confirmed. Rule: every mean's …", "not confirmed"),
        ("Judgement: cannot be told at this scale.", "cannot be told at this scale"),
        ("… both states end above 1.1 = 1 + ε. Judgement: confirmed.", "confirmed"),
        ("Partly confirmed: slopes of log T.", "partly confirmed"),
        ("SPG's escape time over 1/(2·η·Δ·π₁): 1 to 1.01.", "–"),
    ],
)
def test_the_judgement_is_found_among_the_sentences(sentence, judged):
    assert outcome(["15 of the 15 planned runs are there.", sentence]) == judged


def test_a_figure_takes_its_own_runs_and_no_others(tmp_path):
    store = open_store(tmp_path, create=True)
    study = Study("toy", {"task": "Ant-v4", "steps": 200_000}, {"epochs": (10, 20)}, (1,))
    figure = SimpleNamespace(
        tasks=("Ant-v4", "Hopper-v4"),
        study=lambda task, scale: study if (task, scale) == ("Ant-v4", "small") else None,
        measured=lambda history, task: [f"{task}: {', '.join(run.name for run in history.runs)}"],
    )
    own = plan(study, store)[0].order.name
    runs = [RunArrays(name, {}, (1,), np.array([1.0]), {"x": np.ones((1, 1))}) for name in (own, "other")]
    told = tell(figure, History.from_arrays(runs), store, no_lab)
    assert (told.task, told.runs, told.said) == ("Ant-v4", (1, 2), [f"Ant-v4: {own}"])
    none = tell(figure, History.from_arrays(runs[1:]), store, no_lab)
    assert (none.runs, none.said) == ((0, 2), [])


def test_what_needs_no_runs_is_said_by_the_lab(tmp_path):
    figure = find_figure("sgw/figure-3")
    history = History.from_arrays([RunArrays("other", {}, (1,), np.array([1.0]), {"x": np.ones((1, 1))})])
    told = tell(figure, history, open_store(tmp_path, create=True), lambda one: [one.id])
    assert (told.runs, told.said) == (None, ["sgw/figure-3"])


def test_the_page_has_a_row_for_every_figure_and_a_section_for_what_was_said():
    trained, computed = find_figure("nrnt/figure-13"), find_figure("sgw/figure-3")
    text = page([Told(trained, "Ant-v4", (0, 3), []), Told(computed, "", None, ["Confirmed: slopes."])])
    assert "| nrnt/figure-13 | Figures 1 and 2 on Ant-v4 (tanh), with ratios | Ant-v4 | 0 of 3 | – |" in text
    assert [row["judged"] for row in _ROW.finditer(text)] == ["judgement", "---", "–", "confirmed"]
    assert text.count("### ") == 1


def test_the_kept_page_has_every_figure_with_the_runs_of_the_kept_history(tmp_path):
    store = open_store(tmp_path, create=True)
    kept = {run.name for run in read_history(HERE / "history.parquet").runs}
    expected = {}
    for figure in all_figures():
        if isinstance(figure, LabFigure):
            expected[figure.id] = "the lab"
            continue
        wanted = runs_of(figure, store)
        expected[figure.id] = f"{len(wanted & kept)} of {len(wanted)}"
    rows = {row["id"]: row["runs"] for row in _ROW.finditer((HERE / "README.md").read_text("utf-8"))}
    assert {name: rows.get(name) for name in expected} == expected
