"""The map of collapse: since when a seed is ill, what the page counts, the figure, and the kept page."""

from pathlib import Path

import numpy as np
import pytest
import studies.collapse_map
from matplotlib.image import imread
from studies.collapse_map.figure import draw
from studies.collapse_map.outcomes import ill_since, places
from studies.collapse_map.page import page

from escapevelocity.study.grid import cells, read_study
from escapevelocity.study.history import History, RunArrays, read_history

HERE = Path(studies.collapse_map.__file__).parent
STEPS = np.arange(1, 101) * 100.0


def run(name, rate=1e-2, epochs=20, task="Hopper-v4", **columns):
    """A run of two seeds: rank 30, no dead unit, norm 2, KL 0.1; a column is a constant, or (seeds, points)."""
    usual = {
        "health/actor/feature_rank_pca_after": 30.0,
        "health/actor/dead_neurons_after": 0.0,
        "health/actor/preactivation_norm": 2.0,
        "trust/kl": 0.1,
        "perf/return_mean": 100.0,
    }
    values = {
        key: np.broadcast_to(value, (2, STEPS.size)).astype(float) for key, value in (usual | columns).items()
    }
    settings = {"task": task, "epochs": epochs, "learning_rate": rate, "hidden": (64, 64)}
    return RunArrays(name, settings, (7, 25), STEPS, values)


def falling(column, before, after, at=50):
    """Seed 25 falls at a point, seed 7 does not."""
    values = np.full((2, STEPS.size), before, float)
    values[1, at:] = after
    return {column: values}


RANK, DEAD = "health/actor/feature_rank_pca_after", "health/actor/dead_neurons_after"


@pytest.mark.parametrize("columns", [falling(RANK, 30, 2), falling(DEAD, 0, 60)], ids=["rank", "dead units"])
def test_a_seed_is_ill_from_where_rank_or_units_are_gone_for_good(columns):
    found = ill_since(History.from_arrays([run("a", **columns)]))
    assert np.isnan(found[7])
    # It falls behind step 5,000; the mean over five points follows within two.
    assert 4_900 <= found[25] <= 5_300


def test_what_recovers_is_not_ill_and_a_single_batch_decides_nothing():
    dip = np.full((2, STEPS.size), 30.0)
    dip[0, 20:60] = 2  # It comes back.
    dip[1, 50:] = 8
    dip[1, 90] = 12  # The mean over five points stays below 9: (4 · 8 + 12) / 5.
    found = ill_since(History.from_arrays([run("a", **{RANK: dip})]))
    assert np.isnan(found[7])
    assert 4_900 <= found[25] <= 5_300


def test_a_seed_whose_numbers_stopped_being_finite_is_ill_since_then(kill):
    history = kill(History.from_arrays([run("a")]), {"a": {7: 4_000}})
    found = ill_since(history)
    assert (found[7], np.isnan(found[25])) == (4_000.0, True)


def test_the_page_counts_by_task_epochs_and_rate():
    low, high = run("low", rate=1e-3), run("high", **falling(RANK, 30, 2))
    # The return falls to a tenth with the rank.
    high.columns["perf/return_mean"][1] = np.where(np.arange(100) < 50, np.linspace(1, 100, 100), 5)
    history = History.from_arrays([low, high, run("ant", task="Ant-v4", epochs=10)])
    text = page(history, planned=24, repetitions=50)
    assert "3 of 24 runs have ended, 6 seeds. Ill: 1; return lost: 1, of which 1 are ill too." in text
    [row] = [line for line in text.splitlines() if line.startswith("| Hopper-v4, 20 epochs |")]
    # Wilson's interval of 1 in 2 is [9 %, 91 %], of 0 in 2 [0 %, 66 %].
    assert row.startswith("| Hopper-v4, 20 epochs | 0 of 2 [0 %, 66 %] | 1 of 2 [9 %, 91 %], since 5")
    assert row.endswith("; return lost in 1 |")
    assert "| Hopper-v4, 20 epochs, rate 0.01 | 16.0 [2.0, 30.0] |" in text
    assert page(History((), history.rows), planned=24) == "No run has come to its end yet."


def test_the_figure_shows_what_there_is(tmp_path):
    runs = [run(f"{rate}-{count}", rate, count) for rate in (1e-3, 1e-2) for count in (10, 20)]
    draw(History.from_arrays(runs), tmp_path / "map.png")
    assert imread(tmp_path / "map.png").std() > 0.05  # Not a blank page.


def test_the_grid_has_24_cells_and_no_remedy():
    study = read_study(HERE / "study.toml")
    grid = cells(study)
    assert (len(grid), len(study.seeds)) == (24, 5)
    assert {cell.settings["steps"] for cell in grid} == {300_000, 200_000, 150_000}
    assert not any("remedy" in cell.settings for cell in grid)


def test_the_page_says_what_the_kept_history_says():
    text = (HERE / "README.md").read_text(encoding="utf-8")
    kept = text.split("<!-- numbers:start -->")[1].split("<!-- numbers:end -->")[0]
    history = read_history(HERE / "history.parquet")
    assert kept.strip() == page(history, 24).strip()
    assert len(places(history)) == len(history.runs)
