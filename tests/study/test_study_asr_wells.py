"""The study of wells: its grid, wells measured seed by seed on curves whose wells are known, and the table."""

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.study.asr_wells import NARROW, require_curve, shown_starts, wells_by_start, wells_study
from escapevelocity.study.asr_wells_page import answer, draw_wells_of, wells_table
from escapevelocity.study.grid import cells
from escapevelocity.study.history import History, RunArrays
from escapevelocity.study.kinds import kind

STEPS = np.arange(0, 110, 10.0)
FLAT = np.linspace(0.5, 0.7, 11)
# By hand: it rises to 0.5 at step 20, falls to 0.2 at 50, and is at 0.5 again at 80.
DIP = np.array([0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


@pytest.fixture
def history():
    runs = [
        RunArrays("n", {"init": NARROW}, (1, 2), STEPS, {"test/recall_at_1": np.stack([FLAT, FLAT - 0.1])}),
        RunArrays("a", {"init": "normal(0.5,0.4)"}, (1, 2), STEPS, {"test/recall_at_1": np.stack([DIP, FLAT])}),
        RunArrays("b", {"init": "normal(1,0.4)"}, (1, 2), STEPS, {"test/recall_at_1": np.stack([DIP, DIP])}),
    ]  # fmt: skip
    return History.from_arrays(runs)


def test_the_grid_crosses_means_and_spreads_beside_the_narrow_start():
    study = wells_study("digits", [0.5, 1.0], [0.05], [1, 2], steps=60)
    assert [cell.settings["init"] for cell in cells(study)] == [
        "narrow",
        "normal(0.5,0.05)",
        "normal(1,0.05)",
    ]
    assert (study.job, study.seeds, study.base["steps"]) == ("asr", (1, 2), 60)
    for means, stds, field in (([], [0.1], "means"), ([0.5], [], "stds")):
        with pytest.raises(UserError, match=rf"{field} = \[\]: must be one or more"):
            wells_study("digits", means, stds, [1])


def test_wells_are_measured_seed_by_seed_and_gains_against_the_same_seed_of_the_narrow_start(history):
    narrow, half, one = wells_by_start(history)
    assert [wells.init for wells in (narrow, half, one)] == ["narrow", "normal(0.5,0.4)", "normal(1,0.4)"]
    assert half.seeds == (1, 2)
    # Histories hold float32.
    np.testing.assert_allclose(half.values["depth"], [0.3, 0.0], atol=1e-6)
    np.testing.assert_allclose(half.values["onset"], [20.0, np.nan])
    np.testing.assert_allclose(half.values["lasted"], [60.0, 0.0])
    np.testing.assert_allclose(half.values["area"], [9.0, 0.0], atol=1e-5)  # A triangle: 60 · 0.3 / 2.
    np.testing.assert_allclose(half.values["final_gain"], [0.0, 0.1], atol=1e-6)
    np.testing.assert_allclose(narrow.values["final_gain"], [0.0, 0.0], atol=1e-6)


def test_the_table_has_a_row_for_each_start_and_the_answer_counts_the_wells(history):
    wells = wells_by_start(history)
    rows = wells_table(wells).splitlines()
    assert len(rows) == 2 + len(wells)
    assert rows[2].startswith("| narrow | 2 | 0 | 0.000 [0.000, 0.000] | – |")
    assert rows[4].startswith(
        "| normal(1,0.4) | 2 | 2 | 0.300 [0.300, 0.300] | 20 (20–20) | 60 (60–60) | 0 |"
    )
    assert answer(wells).startswith("3 of 6 curves fell below their best")
    assert answer(wells[:1]).startswith("No well: none of 2 curves")


def test_curves_that_are_not_there_are_not_called_flat(history):
    wells = wells_by_start(history, "test/nmi")
    assert answer(wells).startswith("Nothing was measured")
    assert answer([]).startswith("Nothing was measured")


@pytest.mark.parametrize(
    ("column", "window", "said"),
    [
        ("test/recal_at_1", 1, "column = 'test/recal_at_1': must be a curve such as test/recall_at_1"),
        ("asr/entropy", 1, "column = 'asr/entropy'"),
        ("test/recall_at_1", 2, "window = 2: must be an odd number"),
    ],
)
def test_a_curve_that_no_run_has_is_refused_before_anything_is_trained(column, window, said):
    with pytest.raises(UserError, match=said):
        require_curve(column, window)
    require_curve("validation/nmi", 3)


def test_maps_are_drawn_of_the_normal_starts_alone(history, tmp_path):
    wells = wells_by_start(history)
    paths = draw_wells_of(wells, tmp_path / "plots", "digits")
    assert [path.name for path in paths] == ["wells.png", "wells.pdf"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert draw_wells_of(wells[:1], tmp_path, "digits") == []


def test_curves_are_drawn_of_the_narrow_start_and_of_the_middle_mean(history):
    assert [run.settings["init"] for run in shown_starts(history, [0.5, 1.0])] == [NARROW, "normal(1,0.4)"]


def test_a_cell_takes_what_fits_its_images_and_then_its_own_settings():
    spec = kind("asr").spec({"data": "digits", "init": "narrow", "head": "escort", "steps": 90}, (3,))
    assert (spec.seeds, spec.learner.batch_size, spec.sampler.init) == ((3,), 100, "narrow")
    assert (spec.controller.head, kind("asr").steps(spec)) == ("escort", 90)
    assert kind("asr").folder(spec).startswith("asr-digits-")
    assert '"job": "asr"' in kind("asr").spec_text(spec)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "data = None: must be one of digits"),
        ({"data": "digit"}, "data = 'digit'"),
        ({"data": "digits", "initt": "broad"}, "initt = 'broad': unknown setting; did you mean init"),
        ({"data": "digits", "init": "normal(9,1)"}, "init: mean = 9.0: must be in the support"),
        ({"data": "digits", "sampler": "curriculum", "then": "x"}, "then = 'x'"),
        ({"data": "digits", "per_class": 4}, "batch-size = 100.*25 classes"),
    ],
)
def test_a_cell_that_cannot_be_trained_is_refused_by_name(settings, said):
    with pytest.raises(UserError, match=said):
        kind("asr").spec(settings, (1,))
