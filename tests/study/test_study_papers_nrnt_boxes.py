"""Figure 6: what its boxes read, and what it says of columns that its runs lack."""

import numpy as np
import pytest
from nrnt_synthetic import POINTS, history_of

from escapevelocity.study.history import History
from escapevelocity.study.papers.nrnt import judge
from escapevelocity.study.papers.nrnt.members import Track
from escapevelocity.study.papers.nrnt.read import Span
from escapevelocity.study.papers.registry import find_figure
from escapevelocity.study.reproduce import measure, select

FIGURE = find_figure("nrnt/figure-6")
TASK = "Hopper-v4"
CAPACITY = "capacity/actor"
HINT = "; `ev capacity RUN` adds them to a run."


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(judge, "REPETITIONS", 200)


def _history(change=None) -> History:
    return history_of(FIGURE.study(TASK, "paper"), True, seeds=(1, 2, 3), change=change)


def _line(said, start) -> str:
    (line,) = (one for one in said if one.startswith(start))
    return line


def _caption(drawn) -> str:
    return " ".join(text.get_text().replace("\n", " ") for text in drawn.texts)


def _panel(drawn, title):
    (axes,) = (one for one in drawn.axes if one.get_title() == title)
    return axes


def test_capacity_is_read_over_the_snapshots_of_the_last_5_percent_and_one_before():
    # Of 100 steps, 95 % are 95: the snapshot there is not later, and so it is the one before.
    steps = np.array([0.0, 50.0, 90.0, 95.0, 97.5, 100.0])
    span = Span(100.0, 100.0)
    assert span.last_and_one_before(Track(steps, np.array([64.0, 32, 16, 8, 4, 3]))) == (8 + 4 + 3) / 3
    # Where a snapshot could not be measured the one before that counts.
    assert span.last_and_one_before(Track(steps, np.array([64, 32, 16, np.nan, 4, 3]))) == (16 + 4 + 3) / 3
    assert span.last_and_one_before(Track(steps[:1], np.array([64.0]))) == 64
    assert np.isnan(span.last_and_one_before(Track(steps, np.full(6, np.nan))))


def test_norm_and_dead_neurons_are_read_after_the_update():
    def change(settings):
        norm = 5.0 if settings["remedy"] == "pfo" else 50.0
        return {
            "health/actor/preactivation_norm": 1.0,
            "health/actor/preactivation_norm_after": norm,
            "health/actor/dead_neurons": 1.0,
            "health/actor/dead_neurons_after": 7.0,
        }

    said = FIGURE.measured(_history(change), TASK)
    norm = _line(said, "Actor pre-activation norm, PFO (last layer) over no remedy")
    assert "factor 0.1 [0.1, 0.1] over 9 pairs of 3 seeds; confirmed." in norm
    assert "Actor dead neurons 7 [7, 7], Actor pre-activation norm 50 [50, 50]" in _line(said, "no remedy, 9")
    assert any("norm and rank are those after the update" in line for line in said)


def test_curves_of_the_same_runs_still_read_the_norm_before_the_update():
    figure = find_figure("nrnt/figure-30")
    history = history_of(
        figure.study(TASK, "paper"), True, seeds=(1, 2, 3), change=lambda _: {
            "health/actor/preactivation_norm": 1.0, "health/actor/preactivation_norm_after": 9.0
        }
    )  # fmt: skip
    line = _line(figure.measured(history, TASK), "Actor pre-activation norm, PFO (last layer) over no remedy")
    assert "factor 1 [1, 1]" in line


def test_capacity_that_nobody_measured_is_said_in_caption_picture_and_sentences():
    history = _history()
    drawn = FIGURE.draw(history, TASK)
    assert [text.get_text() for text in _panel(drawn, "Actor capacity loss").texts] == ["not measured"]
    assert "Capacity losses are not measured" + HINT in _caption(drawn)
    said = FIGURE.measured(history, TASK)
    assert "Capacity losses are not measured" + HINT in said
    assert "Actor capacity loss not measured" in _line(said, "no remedy, 9 runs")


def test_a_column_that_older_runs_lack_is_said_to_be_not_measured():
    name = "health/actor/preactivation_norm_after"
    history = _history(lambda settings: {name: np.nan if settings["remedy"] == "pfo" else 20.0})
    said = FIGURE.measured(history, TASK)
    missing = "Actor pre-activation norm of PFO (last layer) and PFO (all layers): not measured."
    assert missing in said
    assert _line(said, "Actor pre-activation norm, PFO").endswith(
        "not measured; cannot be told at this scale."
    )
    drawn = FIGURE.draw(history, TASK)
    assert missing in _caption(drawn)
    written = [text.get_text() for text in _panel(drawn, "Actor pre-activation norm").texts]
    assert written == ["not measured", "not measured"]


def test_an_arm_without_runs_is_not_one_that_was_not_measured():
    history = _history()
    some = History(tuple(run for run in history.runs if run.settings["remedy"] == "none"), history.rows)
    written = [text.get_text() for text in _panel(FIGURE.draw(some, TASK), "Actor feature rank").texts]
    assert written == ["no run"] * 3  # PFO twice and Adam reset; shared trunk and β₂ are settings alone.


def test_capacity_is_compared_at_epochs_at_which_all_arms_have_it():
    def change(settings):
        # Without remedy at 15 and 20 epochs; PFO (last layer) at 20 alone, with half the loss.
        pfo = settings["remedy"] == "pfo" and settings["pfo.layers"] == "last"
        none = settings["remedy"] == "none" and settings["trunk"] == "separate"
        none &= settings["adam_beta2"] == 0.999
        loss = {10: np.nan, 15: 8.0 if none else np.nan, 20: 2.0 if none else 1.0}[settings["epochs"]]
        return {CAPACITY: loss if none or pfo else np.full(POINTS, np.nan)}

    history = _history(change)
    said = FIGURE.measured(history, TASK)
    assert "Actor capacity loss 2 [2, 2]" in _line(said, "no remedy, 9 runs")  # and not the mean of 8 and 2
    assert "Actor capacity loss 1 [1, 1]" in _line(said, "PFO (last layer), 9 runs")
    whose = (
        "Capacity losses of no remedy at 10 epochs and PFO (last layer) at 10, 15 epochs and PFO (all layers) and "
        "shared trunk and Adam reset and Adam β₂ = 0.9 are not measured"
    )
    assert whose + HINT in said
    shown = "Capacity losses are shown at 20 epochs alone: there all remedies that have any have them."
    assert shown in said
    drawn = FIGURE.draw(history, TASK)
    assert shown in _caption(drawn)
    assert [text.get_text() for text in _panel(drawn, "Actor capacity loss").texts] == ["not measured"] * 4


def test_its_runs_capacity_is_measured_as_that_of_figure_1(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "escapevelocity.study.capacity.measure_capacity", lambda runs, *_: seen.extend(runs) or []
    )
    monkeypatch.setattr("escapevelocity.study.reproduce.distinct", lambda plans: sorted(plans))
    wanted = select([f"nrnt/figure-{number}" for number in (1, 2, 6)], [], TASK, "small")
    measure(wanted, {one.stem: [] for one in wanted}, None, None)
    assert seen == ["nrnt/figure-1-Hopper-v4", "nrnt/figure-6-Hopper-v4"]
