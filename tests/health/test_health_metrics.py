"""The table of metrics: complete, unambiguous, and the same as docs/metrics.md."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.health import (
    METRICS,
    SIGNS,
    HealthyRange,
    Thresholds,
    feature_ranks,
    metric,
    outside_healthy_range,
)
from escapevelocity.health.reference import markdown
from escapevelocity.health.trust import TRUST_NAMES

NETWORKS = ("actor", "critic")
AFTER = ("", "_after")
RECALLS = ("recall_at_1", "recall_at_2", "recall_at_4", "recall_at_8")
# Typed out from the record columns of the architecture, not derived from the table.
EXPECTED = (
    {"seed", "segment", "batch", "env_steps", "wall_time", "health/undefined", "fault"}
    | {f"perf/{x}" for x in ("return_mean", "return_max", "length_mean", "episodes", "episodes_cut")}
    | {"policy/entropy", "policy/entropy_base", "policy/variance", "policy/variance_after"}
    | {"value/std", "value/std_after", "trust/kl"}
    | {
        "loss/objective_last",
        "loss/value",
        "loss/entropy",
        "loss/skipped_minibatches",
        "time/collect",
        "time/update",
        "time/health",
    }
    | {f"norm/{n}_{x}" for n in NETWORKS for x in ("gradient", "weights")}
    | {f"capacity/{n}{x}" for n in NETWORKS for x in ("", "_data")}
    | {
        f"change/{n}/{x}_{d}"
        for n in NETWORKS
        for x in ("features", "preactivations")
        for d in ("l2", "cosine")
    }
    | {f"trust/{x}" for x in TRUST_NAMES}
    | {
        f"health/{n}/{x}{a}"
        for n in NETWORKS
        for a in AFTER
        for x in (
            "feature_rank_pca",
            "effective_rank",
            "srank",
            "stable_rank",
            "feature_rank_lyle",
            "numerical_rank",
            "dead_neurons",
            "preactivation_norm",
            "preactivation_norm_all",
        )
    }
    # Of an embedding whose negatives a controller chooses.
    | {f"{part}/{x}" for part in ("validation", "test") for x in (*RECALLS, "nmi")}
    | {f"{part}/{x}_distance" for part in ("validation", "test") for x in ("intra", "inter")}
    | {"test/f1", "test/r_precision", "test/map_at_r"}
    | {"loss/embedding", "loss/active_fraction", "norm/gradient", "norm/weights", "norm/controller_gradient"}
    | {"health/embedding/feature_rank_pca", "health/embedding/effective_rank"}
    | {f"time/{x}" for x in ("train", "validation", "test", "controller")}
    | {
        f"asr/{x}"
        for x in (
            "reward",
            "metric",
            "distribution",
            "drawn",
            "entropy",
            "energy",
            "free_energy",
            "distance_mean",
            "distance_std",
            "floor_bins",
            "negative_distance",
            "positive_distance",
            "policy_entropy",
            "policy_energy",
            "policy_free_energy",
            "action_up",
            "action_down",
            "controller_finite",
            "ratio",
            "clip_fraction",
            "value",
            "advantage",
            "skipped_steps",
        )
    }
)


def test_the_table_defines_every_record_column_exactly_once():
    columns = [column for m in METRICS for column in m.columns()]
    assert len(columns) == len(set(columns))
    assert set(columns) == EXPECTED


def test_a_fresh_policy_with_a_small_last_layer_is_not_marked_for_its_variance():
    healthy = next(m for m in METRICS if "policy/variance" in m.columns()).healthy
    assert healthy is not None
    assert healthy.bounds(64, start=1.5e-7) == (0.75e-7, np.inf)
    assert healthy.bounds(64, start=1e-3) == (1e-6, np.inf)


def test_every_rank_that_is_measured_is_defined():
    for name in feature_ranks(np.eye(2)).values:
        assert metric(f"health/actor/{name}").unit.startswith("directions")


def test_every_metric_has_all_its_texts():
    for m in METRICS:
        for text in (m.formula, m.source, m.unit, m.window, m.why):
            assert text.strip() == text != "", m.name


def test_docs_metrics_md_is_what_the_table_says():
    page = Path(__file__).parents[2] / "docs" / "metrics.md"
    assert page.read_text(encoding="utf-8") == markdown(), (
        "run python -m escapevelocity.health.reference > docs/metrics.md"
    )


def test_every_row_of_the_page_has_as_many_cells_as_its_header():
    metrics, signs, thresholds = re.split(r"^## (?:Signs|Thresholds)$", markdown(), flags=re.MULTILINE)
    lines = [line for line in metrics.splitlines() if line.startswith("|")]
    assert {cells(line) for line in lines} == {7}
    # Each group is one table: a header and a rule above its metrics.
    groups = re.findall(r"^## (.*)$", metrics, flags=re.MULTILINE)
    assert len(groups) == len(set(groups))
    assert len(lines) == len(METRICS) + 2 * len(groups)
    for part, width, rows in ((signs, 5, len(SIGNS)), (thresholds, 4, len(fields(Thresholds)))):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert {cells(line) for line in lines} == {width}
        assert len(lines) == rows + 2


def cells(line):
    """How many cells a row of a Markdown table has."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_the_module_prints_the_page_without_a_warning():
    command = [sys.executable, "-X", "utf8", "-W", "error", "-m", "escapevelocity.health.reference"]
    printed = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert printed.stdout == markdown()
    assert printed.stderr == ""


@pytest.mark.parametrize(
    ("name", "value", "width", "outside"),
    [
        ("health/actor/feature_rank_pca", 9.0, 64, True),
        ("health/actor/feature_rank_pca", 10.0, 64, False),
        ("health/actor/feature_rank_pca_after", 0.0, 512, True),
        # Half of a layer of 8 is less than ten.
        ("health/actor/feature_rank_pca", 4.0, 8, False),
        ("health/actor/feature_rank_pca", 3.0, 8, True),
        # Healthy critics stand at 2 to 5: no bound.
        ("health/critic/feature_rank_pca", 2.0, 64, None),
        ("health/actor/dead_neurons", 32.0, 64, False),
        ("health/actor/dead_neurons", 33.0, 64, True),
        ("health/actor/preactivation_norm", 80.0, None, False),
        ("health/actor/preactivation_norm", 1e4, None, True),
        ("health/actor/preactivation_norm", float("inf"), None, True),
        ("policy/variance", 0.0, None, True),
        ("policy/variance", 0.1, None, False),
        ("trust/clip_fraction", 0.2, None, False),
        ("trust/clip_fraction", 0.999, None, True),
        ("trust/ratio_outside_fraction", 0.999, None, True),
        ("loss/skipped_minibatches", 0, None, False),
        ("loss/skipped_minibatches", 1, None, True),
        ("trust/kl", 33.0, None, True),
        ("trust/kl", 0.01, None, False),
        ("trust/ratio_below_mean", 0.55, None, False),
        ("trust/ratio_below_mean", 0.1, None, True),
        # Nothing can be said: no range, or nothing measured.
        ("perf/return_mean", -1e9, None, None),
        ("trust/clip_fraction", float("nan"), None, None),
        ("health/actor/feature_rank_pca", float("nan"), 64, None),
    ],
)
def test_values_are_judged_by_their_range(name, value, width, outside):
    assert outside_healthy_range(name, value, width) is outside


def test_known_runs_are_judged_as_the_studies_judged_them():
    # ppo_collapse.md: Phoenix at 4 epochs (healthy), 8 epochs (collapsed), Hopper without collapse.
    assert not outside_healthy_range("health/actor/feature_rank_pca", 180.0, 512)
    assert outside_healthy_range("health/actor/feature_rank_pca", 0.0, 512)
    assert not outside_healthy_range("health/actor/feature_rank_pca", 28.0, 64)
    assert not outside_healthy_range("trust/ratio_below_mean", 0.51)


def test_a_range_relative_to_the_width_needs_the_width():
    for width in (None, 0):
        with pytest.raises(UserError, match=rf"width = {width}: must be the layer's number of units, ≥ 1"):
            outside_healthy_range("health/actor/dead_neurons", 3.0, width)


def test_an_unknown_metric_is_refused_with_the_nearest_names():
    with pytest.raises(UserError, match=r"metric = 'trust/clipfraction': must be .* trust/clip_fraction"):
        outside_healthy_range("trust/clipfraction", 0.1)
    with pytest.raises(UserError, match=r"metric = '\?': must be a column of docs/metrics.md, such as seed"):
        metric("?")


def test_ranges_read_as_a_person_would_write_them():
    assert str(HealthyRange(low=10.0, low_share=0.5, provisional=False)) == "≥ min(10, 0.5·D)"
    assert str(HealthyRange(high=3.0, high_share=0.5)) == "≤ max(3, 0.5·D) (provisional)"
    assert str(HealthyRange(low=0.0, high=1.0)) == "≥ 0, ≤ 1 (provisional)"
    assert str(HealthyRange(high_share=0.5)) == "≤ 0.5·D (provisional)"
    assert HealthyRange(high=3.0, high_share=0.5).bounds(4) == (-np.inf, 3.0)
    assert HealthyRange(high=3.0, high_share=0.5).bounds(40) == (-np.inf, 20.0)


def test_a_rank_is_judged_by_where_its_run_began_where_that_is_known():
    rank = "health/actor/feature_rank_pca"
    # CartPole's four inputs: a run that begins at 2 and stays there has lost nothing.
    assert outside_healthy_range(rank, 2.0, width=64) is True
    assert outside_healthy_range(rank, 2.0, width=64, start=2.0) is False
    # Fallen from 12 to 5, less than half: outside; 6 is just half.
    assert outside_healthy_range(rank, 5.0, width=64, start=12.0) is True
    assert outside_healthy_range(rank, 6.0, width=64, start=12.0) is False
    # A high start moves nothing: single digits stay the bound.
    assert outside_healthy_range(rank, 9.0, width=64, start=60.0) is True
    assert outside_healthy_range(rank, 9.0, width=64, start=float("nan")) is True
    assert outside_healthy_range("health/actor/dead_neurons", 40.0, width=64, start=0.0) is True
