"""Parity with pytorch-metric-learning: the page's numbers by hand, and that it is made of the kept ones."""

import json
import re

from scipy.stats import ttest_rel
from studies.asr.parity import BAND, HERE, KEPT, SEEDS, TRAINERS, page


def results(ours, theirs):
    both = zip(TRAINERS, (ours, theirs), strict=True)
    return {f"{trainer}/{seed}": value for trainer, values in both for seed, value in enumerate(values, 1)}


def test_the_difference_is_that_of_pairs_and_its_interval_decides():
    # Every pair differs by the same: no interval has a width.
    near = page(results([0.60, 0.62, 0.64], [0.59, 0.61, 0.63]))
    assert "over 3 seeds: +0.0100 [+0.0100, +0.0100] (Student's 95 % interval): within ±0.02." in near
    far = page(results([0.60, 0.62, 0.64], [0.50, 0.52, 0.54]))
    assert "+0.1000 [+0.1000, +0.1000] (Student's 95 % interval): they differ by more than ±0.02." in far


def test_students_interval_decides_and_the_bootstraps_stands_beside_it():
    # Differences −0.01, 0 and +0.01: every resample lies within ±0.01, Student's 95 % ends are ±4.30·0.01/√3.
    text = page(results([0.60, 0.62, 0.64], [0.61, 0.62, 0.63]))
    assert "+0.0000 [-0.0248, +0.0248] (Student's 95 % interval): not shown to be within ±0.02. " in text
    # 90 %: 2.92·0.01/√3.
    assert "ask for the 90 % interval, [-0.0169, +0.0169], to be within: it is. " in text
    assert text.endswith("too narrow with so few seeds, is [-0.0100, +0.0100], within.")


def test_that_both_reach_the_same_is_said_no_more_surely_than_the_kept_seeds_show():
    """Parity was once claimed of them, since a bootstrap of five seeds lies within the band."""
    found = json.loads(KEPT.read_text())
    ours, theirs = ([found[f"{trainer}/{seed}"] for seed in SEEDS] for trainer in TRAINERS)
    test = ttest_rel(ours, theirs)
    low, high = test.confidence_interval(0.95)
    (verdict,) = re.findall(r"\(Student's 95 % interval\): (.*?) ±0\.02\.", page(found))
    assert verdict == ("within" if low >= -BAND and high <= BAND else "not shown to be within")
    assert f"[{low:+.4f}, {high:+.4f}] (Student's" in page(found)
    # What is written by hand gives the same ends, and no claim where there is none.
    by_hand = {
        HERE / "README.md": f"[{low:+.4f}, {high:+.4f}]",
        HERE.parents[1] / "README.md": f"[{100 * low:+.1f}, {100 * high:+.1f}] points",
    }
    for path, ends in by_hand.items():
        said = " ".join(path.read_text(encoding="utf-8").split())
        assert ends.replace("-", "−") in said
        claimed = re.search(
            "our training reaches what pytorch-metric-learning reaches[^:]* is not shown", said
        )
        assert (claimed is None) == (verdict == "within")


def test_seeds_that_only_one_has_trained_are_left_out():
    found = results([0.6, 0.7, 0.8], [0.6, 0.7])
    assert "over 2 seeds" in page(found)
    assert page(results([0.6], [0.6])).startswith("Fewer than two seeds")


def test_the_page_is_made_of_the_kept_numbers():
    found = json.loads(KEPT.read_text())
    assert len(found) == len(SEEDS) * len(TRAINERS)
    assert page(found) in (HERE / "README.md").read_text(encoding="utf-8")
