"""The Hopper study: windows by hand, what happens to a seed, differences over shared seeds, and the kept page."""

import numpy as np
import pytest
from studies.hopper_collapse.claims import CLAIMS, count
from studies.hopper_collapse.measures import MEASURES, measured, window
from studies.hopper_collapse.page import page

from escapevelocity.study.history import Curves, History, RunArrays

STEPS = np.arange(1, 101) * 10.0
SETTINGS = {"task": "Hopper-v4", "activation": "relu", "trunk": "separate", "adam_beta2": 0.999}
COLUMNS = {
    "perf/return_mean": 1000.0,
    "health/actor/feature_rank_pca_after": 30.0,
    "health/critic/feature_rank_pca_after": 3.0,
    "health/actor/dead_neurons": 1.0,
    "health/actor/preactivation_norm": 2.0,
    "policy/variance": 1.0,
    "policy/entropy": 0.5,
    "trust/kl": 0.1,
    "trust/ratio_below_mean": 0.6,
}


def run(name, settings, **columns):
    """A run of two seeds; a column is a constant, or (seeds, points)."""
    values = {key: np.full((2, STEPS.size), value) for key, value in COLUMNS.items()} | columns
    return RunArrays(name, SETTINGS | settings, (7, 25), STEPS, values)


@pytest.fixture(scope="module")
def found():
    """Without a remedy, seed 25 loses return and rank for good after 60 %; with PFO nothing happens."""
    falls = np.ones((2, STEPS.size))
    falls[1, 60:] = 0.2
    plain = run(
        "plain",
        {"epochs": 20, "remedy": "none"},
        **{"perf/return_mean": 1000 * falls, "health/actor/feature_rank_pca_after": 30 * falls},
    )
    treated = run("treated", {"epochs": 20, "remedy": "pfo", "pfo.layers": "last"})
    return measured(History.from_arrays([plain, treated]))


def test_a_window_holds_its_end_and_not_its_beginning():
    curves = Curves(STEPS, np.arange(1.0, 101.0)[None])
    assert window(curves, 1000.0, 0.95, 1.0).tolist() == [98.0]  # 96, …, 100
    assert np.isnan(window(Curves(STEPS, np.full((1, 100), np.nan)), 1000.0, 0.0, 1.0)).all()


def test_a_seed_that_falls_is_counted_and_the_other_is_not(found):
    plain = found["relu", 20, "none"]
    assert plain["kept"] == pytest.approx({7: 1.0, 25: 0.2})
    assert plain["whole"] == pytest.approx({7: 1000.0, 25: 680.0})  # 0.6 × 1000 + 0.4 × 200
    assert plain["rank_low"] == pytest.approx({7: 30.0, 25: 6.0})
    counts = {claim.words: count(claim, plain)[:2] for claim in CLAIMS}
    assert counts == {
        "norm tripled": (0, 2),
        "rank below 0.9 of its best": (1, 2),
        "rank of a window of 1 % in single digits": (1, 2),
        "half the units dead": (0, 2),
        "KL of a batch above 1 nat": (0, 2),
        "return below half of its best": (1, 2),
        "numbers not finite": (0, 2),
    }


def test_a_seed_that_died_is_read_where_it_ended_and_counted(kill):
    falls = np.ones((2, STEPS.size))
    falls[1, 30:] = 0.2
    plain = run("plain", {"epochs": 20, "remedy": "none"}, **{"perf/return_mean": 1000 * falls})
    found = measured(kill(History.from_arrays([plain]), {"plain": {25: 400}}))["relu", 20, "none"]
    assert found["return"] == pytest.approx({7: 1000.0, 25: 200.0})  # 380 < steps ≤ 400
    assert found["kept"] == pytest.approx({7: 1.0, 25: 0.2})
    assert found["died"] == {7: 0.0, 25: 1.0}
    every = kill(History.from_arrays([plain]), {"plain": {7: 300, 25: 400}})
    assert every.runs[0].state == "failed"
    assert measured(every)["relu", 20, "none"]["died"] == {7: 1.0, 25: 1.0}
    claim = next(claim for claim in CLAIMS if claim.measures == ("died",))
    assert count(claim, measured(every)["relu", 20, "none"])[:2] == (2, 2)


def test_a_seed_without_a_number_has_no_say():
    claim = next(claim for claim in CLAIMS if claim.measures == ("kept",))
    assert count(claim, {"kept": {1: 0.1, 2: np.nan}})[:2] == (1, 1)


def test_most_seeds_means_that_wilsons_interval_leaves_out_one_half():
    claim = next(claim for claim in CLAIMS if claim.measures == ("kept",))
    judged = [
        count(claim, {"kept": dict(enumerate([0.1] * n + [1.0] * (5 - n)))}).judgement for n in (0, 1, 4, 5)
    ]
    # Wilson's intervals of 0, 1, 4 and 5 of 5: [0, 0.43], [0.04, 0.62], [0.38, 0.96], [0.57, 1].
    assert judged == ["no", "open", "open", "yes"]


def test_the_page_pairs_a_remedy_with_none_at_equal_epochs(found):
    text = page(found, ["epochs 10, activation relu, remedy none"])
    # Return 1000 − 1000 and 1000 − 200: the mean is 400, and no change of signs makes its size smaller.
    assert "| relu, 20 epochs, PFO (last) | +400 [+0, +800], p = 1 |" in text
    assert "Not finished yet: epochs 10, activation relu, remedy none." in text
    assert all(measure.title for measure in MEASURES.values())
