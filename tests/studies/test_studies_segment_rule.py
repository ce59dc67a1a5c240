from pathlib import Path

import numpy as np
import pytest
import studies.segment_rule
from studies.segment_rule.compare import comparisons, episodes_cut, first_difference, holm
from studies.segment_rule.page import page
from studies.segment_rule.plan import FORTY, ONE

from escapevelocity.study.history import History, RunArrays, read_history

HERE = Path(studies.segment_rule.__file__).parent
COLUMNS = (
    "health/actor/feature_rank_pca_after",
    "health/critic/feature_rank_pca_after",
    "health/actor/preactivation_norm",
    "health/actor/dead_neurons",
    "trust/ratio_below_mean",
)
SEEDS, POINTS = tuple(range(1, 13)), 50


def runs_of(job, epochs, shift, rng):
    """Runs that are noise around 10, the return `shift` higher; a boundary after 25 points cuts two episodes."""
    noise = {name: 10 + rng.normal(size=(len(SEEDS), POINTS)) for name in COLUMNS}
    cut = np.zeros((len(SEEDS), POINTS))
    cut[:, [24, 49]] = 2 if job == FORTY else 0
    columns = noise | {
        "perf/return_mean": 10 + shift + rng.normal(size=(len(SEEDS), POINTS)),
        "perf/episodes_cut": cut,
        "perf/episodes": np.full((len(SEEDS), POINTS), 3.0),
        "wall_time": np.full((len(SEEDS), POINTS), 60.0),
    }
    steps = 100.0 * np.arange(1, POINTS + 1)
    return RunArrays(f"{job}-{epochs}", {"job": job, "epochs": epochs}, SEEDS, steps, columns)


@pytest.fixture
def history(rng):
    """At 10 epochs the rules do the same; at 20 the return under 40 segments is 5 higher."""
    shifts = {10: 0.0, 20: 5.0}
    runs = [
        runs_of(job, epochs, shift * (job == FORTY), rng)
        for epochs, shift in shifts.items()
        for job in (FORTY, ONE)
    ]
    return History.from_arrays(runs)


def test_a_planted_difference_is_found_and_nothing_else(history):
    found = list(comparisons(history, repetitions=500))
    adjusted = holm([one.paired.p_value for one in found])
    called = {(one.epochs, one.quantity.title) for one, p in zip(found, adjusted, strict=True) if p < 0.05}
    assert called == {(20, "return, last 5 %"), (20, "return, mean over the run")}
    [final] = [o for o in found if o.epochs == 20 and o.quantity.title == "return, last 5 %"]
    # The last 5 % hold three points of standard deviation 1: the mean of 12 differences is 5 ± 3·√(2/3/12).
    assert final.paired.mean.estimate == pytest.approx(5, abs=3 * np.sqrt(2 / 3 / 12))
    assert final.improvement.estimate == 1.0
    text = page(history, repetitions=500)
    assert "Of 14 comparisons 2 differ at 5 %" in text
    assert "12 seeds under 1 segment at 20 epochs (5,000 steps)" in text


def test_what_is_still_to_come_is_corrected_for_too(history):
    early = history.where(epochs=20)
    smallest = min(one.paired.p_value for one in comparisons(early, repetitions=200))
    # Seven of fourteen: the smallest p-value is multiplied by fourteen all the same.
    assert f"The smallest adjusted p-value is {14 * smallest:.2g}: " in page(early, repetitions=200)


def test_a_seed_that_died_counts_in_its_pair(history, kill):
    died = kill(history, {f"{ONE}-10": {3: 1000}})
    found = {(one.epochs, one.quantity.title): one for one in comparisons(died, repetitions=200)}
    final = found[10, "return, last 5 %"]
    assert final.paired.seeds == SEEDS
    # Eleven returns of about 10 and one of 0, so a standard deviation of √(11·1²/12 · …) ≈ 10/√12 = 2.9.
    assert final.seed_std == pytest.approx(10 / np.sqrt(12), rel=0.2)
    # A fifth of a run at 10 and the rest at 0.
    assert found[10, "return, mean over the run"].seed_std == pytest.approx(8 / np.sqrt(12), rel=0.2)
    assert "not finite: 1." in page(died, repetitions=200)


def test_what_boundaries_cut_is_counted_per_seed(history):
    assert episodes_cut(history, FORTY, 10) == (4.0, 150.0)
    assert episodes_cut(history, ONE, 10) == (0.0, 150.0)


def test_the_first_batch_that_differs_is_found(rng):
    forty, one = (runs_of(job, 10, 0.0, np.random.default_rng(1)) for job in (FORTY, ONE))
    one.columns["perf/return_mean"][:, 25:] += 1e-3
    one.columns["perf/return_mean"][3] = forty.columns["perf/return_mean"][3]
    found = first_difference(History.from_arrays([forty, one]), 10)
    assert found.pop(SEEDS[3]) == np.inf
    assert set(found.values()) == {2600.0}


def test_holm_multiplies_by_the_number_that_is_left():
    # Sorted: 0.01 × 4, 0.015 × 3, 0.02 × 2 (raised to 0.045), 0.8 × 1.
    assert holm([0.02, 0.01, 0.8, 0.015]) == pytest.approx([0.045, 0.04, 0.8, 0.045])


def test_without_both_rules_the_page_says_so(history):
    assert "No setting" in page(history.where(job=ONE))


def test_the_page_says_what_the_kept_history_says():
    text = (HERE / "README.md").read_text(encoding="utf-8")
    kept = text.split("<!-- numbers:start -->")[1].split("<!-- numbers:end -->")[0]
    assert kept.strip() == page(read_history(HERE / "history.parquet")).strip()
