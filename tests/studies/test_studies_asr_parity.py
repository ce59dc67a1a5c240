"""Parity with pytorch-metric-learning: the page's numbers by hand, and that it is made of the kept ones."""

import json

import pytest
from studies.asr.parity import HERE, KEPT, SEEDS, TRAINERS, page


def results(ours, theirs):
    both = zip(TRAINERS, (ours, theirs), strict=True)
    return {f"{trainer}/{seed}": value for trainer, values in both for seed, value in enumerate(values, 1)}


def test_the_difference_is_that_of_pairs_and_its_interval_decides():
    near = page(results([0.60, 0.62, 0.64], [0.61, 0.62, 0.63]))
    assert "over 3 seeds: +0.0000 [" in near
    assert near.endswith("within ±0.02.")
    assert "not within" not in near
    # Every pair differs by the same, so every resample does.
    far = page(results([0.60, 0.62, 0.64], [0.50, 0.52, 0.54]))
    assert "+0.1000 [+0.1000, +0.1000] (95 % bootstrap): not within ±0.02." in far


def test_seeds_that_only_one_has_trained_are_left_out():
    found = results([0.6, 0.7, 0.8], [0.6, 0.7])
    assert "over 2 seeds" in page(found)
    assert page(results([0.6], [0.6])).startswith("Fewer than two seeds")


def test_the_page_is_made_of_the_kept_numbers():
    if not KEPT.exists():
        pytest.skip("the study has not been run yet")
    found = json.loads(KEPT.read_text())
    assert len(found) == len(SEEDS) * len(TRAINERS)
    assert page(found) in (HERE / "README.md").read_text(encoding="utf-8")
