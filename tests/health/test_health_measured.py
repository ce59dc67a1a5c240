"""A NaN never comes without its reason, alone or in a population."""

import numpy as np
import pytest

from escapevelocity import health
from escapevelocity.health import Measured, explain, feature_ranks, member, merge, undefined_text


def test_defined_values_need_no_reason():
    measured = explain({"a": 1, "b": np.float32(np.inf), "c": np.array([1.0, 2.0])}, "never used")
    assert measured.reasons == {}
    assert measured.values["a"] == 1.0
    assert measured.values["b"] == np.inf
    np.testing.assert_array_equal(measured.values["c"], [1.0, 2.0])


def test_each_nan_gets_its_reason_and_only_it():
    measured = explain(
        {"a": np.array([np.nan, 2.0, np.nan]), "b": float("nan"), "c": 0.0},
        {"a": np.array(["first", "unused", "third"]), "b": "scalar", "c": "unused"},
    )
    assert measured.reasons["a"].tolist() == ["first", "", "third"]
    assert measured.reasons["b"] == "scalar"
    assert "c" not in measured.reasons


def test_a_nan_that_nobody_explained_still_has_a_reason():
    general = "its inputs contain NaN or Inf"
    assert explain({"a": np.nan}).reasons == {"a": general}
    assert explain({"a": np.nan}, {"b": "other"}).reasons == {"a": general}
    assert explain({"a": np.array([np.nan, np.nan])}, {"a": np.array(["x", ""])}).reasons["a"].tolist() == [
        "x",
        general,
    ]


def test_members_carry_only_their_own_reasons():
    features = np.ones((2, 3, 4, 2))
    features[1, 2, 0, 0] = np.nan
    measured = feature_ranks(features)
    sick, healthy = member(measured, (1, 2)), member(measured, (0, 0))
    assert set(sick.reasons) == set(measured.values)
    assert set(sick.reasons.values()) == {"features contain NaN"}
    assert healthy.reasons == {}
    assert healthy.values["srank"] == 1.0
    assert all(type(value) is float for value in sick.values.values())


def test_merged_measurements_keep_every_name_under_its_prefix():
    merged = merge(
        {
            "health/actor/": Measured({"srank": np.nan}, {"srank": "features contain NaN"}),
            "health/critic/": Measured({"srank": 2.0}, {}),
        }
    )
    np.testing.assert_equal(merged.values, {"health/actor/srank": np.nan, "health/critic/srank": 2.0})
    assert merged.reasons == {"health/actor/srank": "features contain NaN"}


def test_the_text_of_a_row_groups_names_by_reason():
    measured = Measured(
        {"actor/srank": np.nan, "trust/kl": np.nan, "actor/effective_rank": np.nan, "value/std": 1.0},
        {
            "actor/srank": "features contain NaN",
            "trust/kl": "no samples",
            "actor/effective_rank": "features contain NaN",
        },
    )
    assert undefined_text(measured) == (
        "actor/srank, actor/effective_rank: features contain NaN; trust/kl: no samples"
    )
    assert undefined_text(Measured({"a": 1.0}, {})) == ""


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_tensors_with_a_gradient_and_in_half_precision_are_taken_as_they_are(dtype):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor([0.5, float("nan")], dtype=getattr(torch, dtype), requires_grad=True)
    found = health.explain({"loss": tensor[0], "both": tensor}, "why")
    assert found.values["loss"] == 0.5  # Exact in every precision.
    np.testing.assert_array_equal(found.values["both"], [0.5, np.nan])
    np.testing.assert_array_equal(found.reasons["both"], ["", "why"])
    sigma = torch.tensor([10.0, 2.0, 0.125], dtype=getattr(torch, dtype), requires_grad=True)
    for rank in (health.feature_rank_pca, health.srank, health.effective_rank, health.stable_rank):
        assert rank(sigma) == rank(np.array([10.0, 2.0, 0.125]))
    assert health.feature_rank_lyle(sigma, 100) == 3
