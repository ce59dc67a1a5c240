"""Thresholds are data: each has a source, those of docs/metrics.md are the same numbers, a study replaces them."""

import json
from dataclasses import fields

import pytest

from escapevelocity.errors import UserError
from escapevelocity.health import METRICS
from escapevelocity.health.thresholds import PROVISIONAL, Thresholds


def test_every_threshold_has_a_unit_and_a_source():
    for field in fields(Thresholds):
        threshold = getattr(Thresholds(), field.name)
        assert threshold.unit
        assert threshold.source
        assert threshold.value > 0


def test_thresholds_with_a_healthy_range_are_the_numbers_of_the_metric_table():
    ranges = {column: metric.healthy for metric in METRICS for column in metric.columns() if metric.healthy}
    t = Thresholds()
    assert t.rank_low.value == ranges["health/actor/feature_rank_pca"].low
    assert t.dead_share.value == ranges["health/actor/dead_neurons"].high_share
    assert t.norm_high.value == ranges["health/actor/preactivation_norm"].high
    assert t.kl_high.value == ranges["trust/kl"].high
    assert t.clip_fraction_high.value == ranges["trust/clip_fraction"].high
    assert t.variance_low.value == ranges["policy/variance"].low
    # The table's 0.4 is that of ε = 0.2.
    assert t.ratio_below.value * (1 - 0.2) == pytest.approx(ranges["trust/ratio_below_mean"].low)


def test_a_study_replaces_thresholds_and_writes_them_as_data():
    mine = Thresholds().with_values({"kl_high": 0.5, "persistence": 2}, "studies/mine")
    assert (mine.kl_high.value, mine.kl_high.unit, mine.kl_high.source) == (0.5, "nats", "studies/mine")
    assert mine.rank_low == Thresholds().rank_low
    assert Thresholds.from_json(json.loads(json.dumps(mine.to_json()))) == mine
    assert Thresholds.from_json({}) == Thresholds()
    assert Thresholds().smoothing.source.startswith(PROVISIONAL)


def test_what_is_no_threshold_is_refused():
    with pytest.raises(UserError, match="threshold = 'kl_low': must be one of smoothing, "):
        Thresholds().with_values({"kl_low": 1}, "x")
    with pytest.raises(UserError, match="threshold = 'nothing'"):
        Thresholds.from_json({"nothing": {}})
    with pytest.raises(UserError, match=r"thresholds\['kl_high'\] = 3: must hold value, unit and source"):
        Thresholds.from_json({"kl_high": 3})
