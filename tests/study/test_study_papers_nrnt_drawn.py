"""The figures are drawn from made-up histories. Warnings are errors."""

import numpy as np
import pytest
from nrnt_synthetic import history_of

from escapevelocity.lab.experiments.experiment import Findings, Summary
from escapevelocity.study.history import History, RunArrays
from escapevelocity.study.papers.nrnt.toy import verdict
from escapevelocity.study.papers.registry import find_figure

PANELS = {1: 6, 2: 3, 3: 4, 4: 3, 6: 6, 19: 12, 29: 4, 32: 4, 34: 4, 35: 4, 36: 8}
"""Panels at small scale by hand, of a figure of each kind: those of 7–20, of 21–31 and of 36–41 differ in nothing but
the setting."""
RENDERED = (2, 4, 6, 29, 36)
"""Rendered too, one of each kind of picture; that is what takes time."""


def _drawn(figure, scale="small"):
    task = figure.tasks[-1]
    return figure.draw(history_of(figure.study(task, scale), True), task)


def _texts(drawn) -> str:
    words = [text.get_text() for axes in drawn.axes for text in axes.texts]
    return " ".join([*words, *(text.get_text().replace("\n", " ") for text in drawn.texts)])


@pytest.mark.parametrize(("number", "panels"), PANELS.items())
def test_a_figure_of_each_kind_is_drawn_with_labelled_axes_and_a_caption(number, panels):
    drawn = _drawn(find_figure(f"nrnt/figure-{number}"))
    shown = [axes for axes in drawn.axes if axes.axison]
    assert len(shown) == panels
    assert all(axes.get_title() or axes.get_xlabel() for axes in shown)
    assert any(axes.get_xlabel() for axes in shown) or "agreement" in _texts(drawn)
    assert "not the paper's experiment" in _texts(drawn)
    if number in RENDERED:
        drawn.set_dpi(20)
        drawn.canvas.draw()


def test_the_remedies_have_a_row_for_each_number_of_epochs_at_the_papers_scale():
    drawn = _drawn(find_figure("nrnt/figure-29"), "paper")
    assert len([axes for axes in drawn.axes if axes.axison]) == 12


@pytest.mark.parametrize("number", [1, 4, 6, 36])
def test_what_was_not_measured_is_said_so(number):
    figure = find_figure(f"nrnt/figure-{number}")
    study = figure.study(figure.tasks[0], "small")
    # Another column than the figures', and one run alone.
    settings = {**study.base, "epochs": 4, "remedy": "none", "clip_epsilon": 0.1, "hidden": (512,)}
    run = RunArrays("run", settings, (25,), [1.0, 2.0], {"trust/kl": np.ones((1, 2))})
    history = History.from_arrays([run])
    said = _texts(figure.draw(history, figure.tasks[0]))
    assert "not measured" in said or "–" in said


@pytest.mark.parametrize("number", [3, 21])
def test_a_history_without_runs_gives_empty_panels(number):
    figure = find_figure(f"nrnt/figure-{number}")
    rows = history_of(figure.study(figure.tasks[0], "small"), True).rows
    assert "not measured" in _texts(figure.draw(History((), rows), figure.tasks[0]))


def test_arms_without_runs_keep_their_place_in_the_legend():
    figure = find_figure("nrnt/figure-1")
    history = history_of(figure.study("Hopper-v4", "small"), True)
    drawn = figure.draw(History(history.runs[:1], history.rows), "Hopper-v4")
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels == ["10 epochs", "15 epochs (no run)", "20 epochs (no run)"]


@pytest.mark.parametrize(
    ("high", "outcome"), [(1.253, "confirmed"), (1.256, "not confirmed"), (1.09, "not confirmed")]
)
def test_the_toy_of_figure_5_is_held_against_the_published_ratios(high, outcome):
    # x and y at the end, as published: α = 3 in Figure 5, −1 in Table 1, −2 in the drawing.
    steps = {"alpha": [3.0, -1.0, -2.0], "step": [20] * 3, "ratio_x": [1.103, 0.989, 0.941]}
    steps["ratio_y"] = [high, 1.012, 1.141]
    (said,) = verdict(Findings({"": steps}, Summary([], []), []))
    assert said.endswith(f"Judgement: {outcome}.")
    assert find_figure("nrnt/figure-5").study("", "small") is None
