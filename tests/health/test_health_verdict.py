"""How far a sign is beyond its bound: what needs no other beside it, and what leaves nothing to infer."""

import pytest
from plausible_records import DISCRETE, healthy, ill

from escapevelocity.health.diagnosis import diagnose
from escapevelocity.health.signs import Sign
from escapevelocity.health.verdict import Verdict

SICK = {
    "health/actor/feature_rank_pca": 3.0,
    "health/actor/dead_neurons": 58.0,
    "health/actor/preactivation_norm": 4000.0,
    "trust/ratio_below_mean": 0.2,
    "perf/return_mean": 110.0,
}


def test_more_signs_make_a_verdict_surer_and_a_contradiction_less_sure():
    lone = diagnose(ill({"health/actor/dead_neurons": 60.0}), DISCRETE)
    # One instrument agrees, norm and ratios disagree: 1/(1 + 2 + 1).
    assert lone.confidence == 0.25
    assert lone.confidence_word == "low"
    # Features, norm, ratios and return agree, none disagrees: 4/5.
    assert diagnose(ill(SICK), DISCRETE).confidence == 0.8
    unasked = {n: v for n, v in ill(SICK).items() if not n.startswith("trust/")}
    assert diagnose(unasked, DISCRETE).confidence == 0.75


def test_a_low_rank_alone_is_told_but_is_no_collapse():
    found = diagnose(ill({"health/actor/feature_rank_pca": 3.0}), DISCRETE)
    assert found.verdict is Verdict.HEALTHY
    assert [onset.sign for onset in found.onsets] == [Sign.RANK_DECLINE]
    assert "rank decline, but nothing that goes with an illness" in found.reason
    assert found.confidence < diagnose(healthy(), DISCRETE).confidence
    beside = ill({"health/actor/feature_rank_pca": 3.0, "trust/ratio_below_mean": 0.1})
    assert diagnose(beside, DISCRETE).verdict is Verdict.REPRESENTATION_COLLAPSE


NOTHING_LEFT = [
    ({"health/actor/dead_neurons": 64.0}, "all units of the actor's last hidden layer are dead"),
    ({"health/actor/feature_rank_pca": 0.0}, "the actor's features are all zero"),
    ({"policy/variance": 1e-17, "policy/entropy": 1.37}, "the policy is the same in every state"),
]


@pytest.mark.parametrize(("changes", "reason"), NOTHING_LEFT)
def test_a_collapse_that_left_nothing_is_certain_though_norm_and_ratios_are_well(changes, reason):
    """studies/small_scale: 512 of 512 units dead were a collapse of confidence 0.33, a dead network has no ratios."""
    found = diagnose(ill(changes), DISCRETE)
    assert found.verdict is Verdict.REPRESENTATION_COLLAPSE
    assert (found.confidence, found.reason) == (1.0, reason)
    assert found.confidence > diagnose(ill(SICK), DISCRETE).confidence


def test_an_entropy_of_nothing_makes_its_verdict_certain_and_needs_a_return_that_fell_all_the_same():
    gone = {"policy/entropy": 1e-9}
    found = diagnose(ill({**gone, "perf/return_mean": 120.0}), DISCRETE)
    assert (found.verdict, found.confidence) == (Verdict.ENTROPY_COLLAPSE, 1.0)
    assert diagnose(ill(gone), DISCRETE).verdict is Verdict.HEALTHY


@pytest.mark.parametrize(
    ("column", "slight", "far"),
    [
        ("trust/excess_ratio", 5.9, 6.1),  # bound 2 × 1.2/0.8 = 3
        ("trust/ratio_below_mean", 0.21, 0.19),  # half of 1 − ε = 0.4
        ("trust/kl", 1.9, 2.1),  # 1 nat
    ],
)
def test_one_sign_of_the_trust_region_alone_is_an_illness_from_twice_its_bound(column, slight, far):
    """studies/hopper_collapse: excess ratios of 2.6 to 4.5 and nothing else, in runs of 5 million steps that lost no
    return.
    """
    found = diagnose(ill({column: slight}), DISCRETE)
    assert found.verdict is Verdict.HEALTHY
    assert "but nothing that goes with an illness" in found.reason
    assert diagnose(ill({column: far}), DISCRETE).verdict is Verdict.TRUST_REGION_FAILURE
    # Not by how far it is, but by how many see it: of another instrument, or a return that fell.
    other = "trust/kl" if column != "trust/kl" else "trust/excess_ratio"
    for beside in ({other: 1.5 if other == "trust/kl" else 4.0}, {"perf/return_mean": 120.0}):
        assert diagnose(ill({column: slight, **beside}), DISCRETE).verdict is Verdict.TRUST_REGION_FAILURE


def test_a_clip_fraction_alone_never_says_how_far():
    """ε = 0.1 in Phoenix: nine samples of ten are clipped at a KL of 0.08 nats."""
    assert diagnose(ill({"trust/clip_fraction": 0.9}), DISCRETE).verdict is Verdict.HEALTHY
    assert diagnose(ill({"trust/clip_fraction": 0.9, "trust/ratio_below_mean": 0.3}), DISCRETE).verdict is (
        Verdict.TRUST_REGION_FAILURE
    )


def test_far_out_in_two_batches_of_five_is_not_far():
    records = ill({"trust/kl": 1.5})
    records["trust/kl"][30:] = [1.5, 1.5, 1.5, 50.0, 50.0] * 6
    assert diagnose(records, DISCRETE).verdict is Verdict.HEALTHY


def test_what_showed_the_illness_on_the_way_does_not_speak_against_it_afterwards():
    """A network that is dead is not updated any more: its ratios are fine, and were far out before."""
    lost = ill({"health/actor/feature_rank_pca": 3.0, "health/actor/dead_neurons": 60.0})
    on_the_way = {**lost, "trust/ratio_below_mean": lost["trust/ratio_below_mean"].copy()}
    on_the_way["trust/ratio_below_mean"][20:30] = 0.2
    # Features agree, norm and ratios disagree: 1/4. Afterwards the norm alone does: 1/3.
    assert diagnose(lost, DISCRETE).confidence == 0.25
    assert diagnose(on_the_way, DISCRETE).confidence == pytest.approx(1 / 3)


def test_features_that_point_one_way_are_lost_whatever_else_is_seen():
    """Freeway of studies/escort_minatar: rank 83 to 1 within a tenth of the run, one action in all states."""
    assert diagnose(ill({"health/actor/feature_rank_pca": 1.0}), DISCRETE).verdict is (
        Verdict.REPRESENTATION_COLLAPSE
    )
    assert diagnose(ill({"health/actor/feature_rank_pca": 2.0}), DISCRETE).verdict is Verdict.HEALTHY
    # Where there never were many, one is no loss: as CartPole, which begins with two.
    few = {**healthy(), "health/actor/feature_rank_pca": [3.0] * 30 + [1.0] * 30}
    assert diagnose(few, DISCRETE).verdict is Verdict.HEALTHY
