"""The verdict on records whose illness is known: real runs of ours, and plausible ones made ill on purpose."""

import json

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from plausible_records import DISCRETE, HOPPER, WIDTH, golden, healthy, ill, onset_step

from escapevelocity.errors import UserError
from escapevelocity.health.context import Context
from escapevelocity.health.diagnosis import USED, combine, diagnose, seeds_of
from escapevelocity.health.metrics import METRICS
from escapevelocity.health.signs import Sign
from escapevelocity.health.verdict import Verdict, confidence_word
from escapevelocity.health.watch import Watch

ILLNESSES = {
    Verdict.NON_FINITE: {"fault": "seed 1: non-finite loss in batch 30, minibatch 2"},
    Verdict.REPRESENTATION_COLLAPSE: {
        "health/actor/feature_rank_pca": 3.0,
        "health/actor/dead_neurons": 58.0,
        "health/actor/preactivation_norm": 4000.0,
        "trust/ratio_below_mean": 0.2,
        "perf/return_mean": 110.0,
    },
    Verdict.TRUST_REGION_FAILURE: {
        "trust/kl": 20.0,
        "trust/clip_fraction": 0.8,
        "trust/ratio_below_mean": 0.2,
        "trust/excess_ratio": 30.0,
    },
    Verdict.ENTROPY_COLLAPSE: {"policy/entropy": 0.001, "perf/return_mean": 120.0},
    Verdict.GRAVITY_WELL: {"policy/entropy": 0.001, "norm/actor_gradient": 1e-5, "perf/return_mean": 120.0},
    Verdict.VALUE_FAILURE: {"value/std": 0.5, "perf/return_mean": 120.0},
}
KINDS = sorted([*ILLNESSES, Verdict.HEALTHY])


def records_of(verdict, **options):
    if verdict is Verdict.HEALTHY:
        return healthy(**options)
    return ill(ILLNESSES[verdict], **options)


@pytest.mark.parametrize("verdict", ILLNESSES)
def test_each_illness_gets_its_verdict_and_its_onsets_lie_where_it_began(verdict):
    found = diagnose(records_of(verdict), DISCRETE)
    assert found.verdict is verdict
    # The median of five tells of a change when it is two batches old; a return that falls is not dated back.
    began = [o.step for o in found.onsets if o.sign is not Sign.PLATEAU]
    assert began
    assert all(onset_step(30) <= step <= onset_step(32) for step in began)
    assert found.remedies
    assert found.refuted_by


def test_the_real_hopper_run_that_collapsed_is_named_with_its_onsets_in_order():
    records = golden("hopper_sick")
    members = [diagnose(records, HOPPER, seed) for seed in seeds_of(records)]
    together = combine(members)
    assert together.verdict is Verdict.REPRESENTATION_COLLAPSE
    assert together.seeds == (1, 2, 3)
    for member in members:
        # By eye in the records: KL above 1 or ratios below 0.4 in the first batch, 33 and more of 64 units dead
        # from batch 4 or 5 on, a rank below 10 and a norm beyond 50 times the start only later.
        order = [onset.sign for onset in member.onsets]
        assert order[0] in (Sign.TRUST_REGION_LEFT, Sign.LOW_RATIOS)
        assert order.index(Sign.LOW_RATIOS) < order.index(Sign.DEAD_NEURONS) < order.index(Sign.RANK_DECLINE)
        onsets = {onset.sign: onset for onset in member.onsets}
        dead = records["health/actor/dead_neurons"][records["seed"] == member.seed]
        steps = records["env_steps"][records["seed"] == member.seed]
        near = np.abs(steps - onsets[Sign.DEAD_NEURONS].step).argmin()
        assert dead[: near - 1].max() <= WIDTH / 2 < dead[near]
        assert member.confidence_word == "high"
        assert any("too large a step" in sentence for sentence in member.evidence)


def test_the_real_healthy_hopper_run_is_learning_without_any_sign():
    records = golden("hopper_healthy")
    for seed in seeds_of(records):
        found = diagnose(records, HOPPER, seed)
        assert found.verdict is Verdict.LEARNING
        assert found.onsets == ()
        assert [text.split(":")[0] for text in found.not_measured] == ["capacity loss"]


def test_a_return_that_stands_still_after_learning_is_healthy_and_one_that_rises_is_learning():
    assert diagnose(healthy(60), DISCRETE).verdict is Verdict.HEALTHY
    rising = healthy(60)
    rising["perf/return_mean"] = 100.0 + 10.0 * np.arange(60)
    assert diagnose(rising, DISCRETE).verdict is Verdict.LEARNING


def test_a_column_of_another_job_that_holds_nothing_asks_for_nothing():
    records = healthy()
    assert diagnose({**records, "test/recall_at_1": [None] * len(records["env_steps"])}) == diagnose(records)


def test_a_solved_task_leaves_neither_gradient_nor_doubt_and_is_no_gravity_well():
    records = healthy(60)
    solved = np.arange(60) >= 10
    records["perf/return_mean"] = np.where(solved, 500.0, 20.0)
    records["perf/return_max"] = np.where(solved, 500.0, 60.0)
    records["policy/entropy"] = np.where(solved, 1e-4, 0.6)
    records["norm/actor_gradient"] = np.where(solved, 1e-6, 1.0)
    assert diagnose(records, DISCRETE).verdict is Verdict.HEALTHY
    # The same far below what single episodes reach.
    records["perf/return_mean"] = np.where(solved, 120.0, 20.0)
    assert diagnose(records, DISCRETE).verdict is Verdict.GRAVITY_WELL


def test_rows_of_a_trainer_without_a_seed_are_those_of_one_run():
    records = {**healthy(60), "seed": [None] * 60}
    assert seeds_of(records) == [0]
    assert diagnose(records, DISCRETE).verdict is diagnose(healthy(60), DISCRETE).verdict


def test_a_critic_that_was_as_bad_while_the_return_rose_is_not_what_stops_it_now():
    """As in short runs of CartPole whose critic is slow: value failure from the first batches, and 20 → 200 all the
    same. Where the return rose before the critic failed, or never, it is the cause.
    """
    records = healthy(60)
    records["perf/return_mean"] = np.where(np.arange(60) < 20, 100.0 + 20 * np.arange(60), 500.0)
    records["loss/value"] = np.full(60, 1e4)
    records["value/std"] = np.full(60, 1.0)
    found = diagnose(records, DISCRETE)
    assert Sign.VALUE_FAILURE in {onset.sign for onset in found.onsets}
    assert found.verdict is not Verdict.VALUE_FAILURE
    late = {**records, "loss/value": np.where(np.arange(60) < 25, 1.0, 1e4)}
    late["value/std"] = np.where(np.arange(60) < 25, 100.0, 1.0)
    assert diagnose(late, DISCRETE).verdict is Verdict.VALUE_FAILURE
    never = {**records, "perf/return_mean": np.full(60, 100.0)}
    assert diagnose(never, DISCRETE).verdict is Verdict.VALUE_FAILURE


def test_a_return_that_never_rose_is_a_plateau_unless_it_is_at_its_ceiling():
    flat = healthy(60, learning=False)
    assert diagnose(flat, DISCRETE).verdict is Verdict.PLATEAU
    solved = healthy(60)
    solved["perf/return_mean"] = np.where(np.arange(60) < 10, 20.0, 499.0)  # CartPole: no episode beats 500
    solved["perf/return_max"] = np.where(np.arange(60) < 10, 40.0, 500.0)
    assert diagnose(solved, DISCRETE).verdict is Verdict.HEALTHY


@pytest.mark.parametrize(
    "columns", [("health/", "trust/", "policy/"), ("health/",), ("trust/",), ("policy/",)]
)
def test_fine_returns_without_health_are_not_measured_and_never_healthy(columns):
    records = {name: values for name, values in healthy().items() if not name.startswith(columns)}
    found = diagnose(records, DISCRETE)
    assert found.verdict is Verdict.NOT_MEASURED
    assert found.reason.startswith("the records do not show: ")
    assert found.remedies == ("measure-health",)


def test_health_columns_that_hold_only_nan_or_null_are_not_measured():
    records = healthy()
    for name in records:
        if name.startswith(("health/", "trust/")):
            records[name] = np.full(60, np.nan) if name.startswith("health/") else [None] * 60
    found = diagnose(records, DISCRETE)
    assert found.verdict is Verdict.NOT_MEASURED
    assert "rank decline: no health/actor/feature_rank_pca in the records" in found.not_measured


def test_a_flat_return_alone_names_no_cause():
    records = {n: v for n, v in healthy(learning=False).items() if not n.startswith("health/")}
    assert diagnose(records, DISCRETE).verdict is Verdict.NOT_MEASURED


def test_a_return_that_falls_with_all_else_well_is_unexplained_and_not_healthy():
    found = diagnose(ill({"perf/return_mean": 110.0}, at=40), DISCRETE)
    assert found.verdict is Verdict.NOT_MEASURED
    assert found.reason == "the return has fallen and no sign that was measured explains it"


def test_without_the_layers_width_dead_neurons_are_not_measured_but_the_rank_is():
    found = diagnose(
        ill(ILLNESSES[Verdict.REPRESENTATION_COLLAPSE]), Context(continuous=False, action_size=4)
    )
    assert found.verdict is Verdict.REPRESENTATION_COLLAPSE
    assert "dead neurons: the layer's width is unknown" in found.not_measured
    assert Sign.DEAD_NEURONS not in {onset.sign for onset in found.onsets}


def test_a_few_batches_are_too_short_and_the_number_needed_is_said():
    found = diagnose(healthy(4), DISCRETE)
    assert found.verdict is Verdict.NOT_MEASURED
    # A median takes three values, and a sign must hold three times.
    assert found.reason == "4 logged batches; a sign needs 5"
    assert found.remedies == ("longer-run",)
    found = diagnose(healthy(9, learning=False), DISCRETE)
    assert found.reason.startswith("in 9 batches the return has not risen")
    assert "longer-run" in found.remedies


def test_a_fault_counts_from_the_first_batch():
    found = diagnose(ill(ILLNESSES[Verdict.NON_FINITE], at=0, rows=1), DISCRETE)
    assert found.verdict is Verdict.NON_FINITE
    assert found.confidence == 1.0


def test_an_infinite_loss_is_non_finite_where_a_nan_is_only_undefined():
    assert diagnose(ill({"loss/value": np.inf}), DISCRETE).verdict is Verdict.NON_FINITE
    assert diagnose(ill({"loss/value": np.nan}), DISCRETE).verdict is Verdict.HEALTHY


def test_signs_that_went_away_are_told_but_no_longer_count():
    records = healthy()
    records["health/actor/dead_neurons"][10:20] = 60.0
    found = diagnose(records, DISCRETE)
    assert found.verdict is Verdict.HEALTHY
    (onset,) = found.onsets
    assert (onset.sign, onset.step) == (Sign.DEAD_NEURONS, onset_step(10))
    # Batches 20, 21 leave three dead values of five in the median; 22 is the first without.
    assert onset.ended == onset_step(22)


def test_recalls_that_are_nan_in_every_row_are_those_of_another_job():
    """A history read into arrays has NaN where the file has null."""
    records = {**healthy(), "test/recall_at_1": np.full(60, np.nan)}
    assert diagnose(records, DISCRETE) == diagnose(healthy(), DISCRETE)


def test_the_run_has_the_verdict_of_most_seeds_and_of_the_gravest_in_a_tie():
    members = [diagnose(records_of(v, seed=i), DISCRETE) for i, v in enumerate(KINDS)]
    well, sick = members[KINDS.index("healthy")], members[KINDS.index("representation collapse")]
    assert combine([well, well, sick]).verdict is Verdict.HEALTHY
    assert combine([well, sick]).verdict is Verdict.REPRESENTATION_COLLAPSE
    assert combine([well, sick]).seeds == (sick.seed,)
    with pytest.raises(UserError, match="diagnoses"):
        combine([])


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    verdict=st.sampled_from(KINDS),
    scale=st.floats(1e-3, 1e3),
    hole_seed=st.integers(0, 2**32 - 1),
    other=st.sampled_from(KINDS),
)
def test_holes_the_unit_of_reward_and_other_seeds_do_not_change_the_verdict(verdict, scale, hole_seed, other):
    rng = np.random.default_rng(hole_seed)
    own, beside = records_of(verdict), records_of(other, seed=2, noise_seed=1)
    for name in own:
        if name.startswith(("perf/", "value/")):
            own[name] = own[name] * scale
        elif name in ("loss/value", "norm/critic_gradient"):
            own[name] = own[name] * (scale**2 if name == "loss/value" else scale)
        if name not in ("seed", "env_steps", "fault"):
            # At most one hole in ten: the newest values still are in the medians.
            own[name] = np.where(rng.random(60) < 0.1, np.nan, own[name])
    order = rng.permutation(120)
    mixed = {name: np.concatenate([own[name], beside[name]])[order] for name in own}
    found = diagnose(mixed, DISCRETE, seed=1).verdict
    # On noise alone, one return in fifty looks as if it were still rising.
    assert found is verdict or (verdict, found) == (Verdict.HEALTHY, Verdict.LEARNING)


def test_the_same_records_as_lists_and_arrays_give_the_same_diagnosis_which_is_json():
    records = ill(ILLNESSES[Verdict.TRUST_REGION_FAILURE])
    found = diagnose(records, DISCRETE)
    assert diagnose({name: values.tolist() for name, values in records.items()}, DISCRETE) == found
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["verdict"] == "trust-region failure"
    assert document["onsets"][0]["step"] == onset_step(30)
    assert document["confidence_word"] == confidence_word(found.confidence)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({}, "records: empty"),
        ({"env_steps": []}, "records: empty"),
        ({"perf/return_mean": [1.0]}, "the column env_steps is missing"),
        ({"env_steps": [1, 2], "trust/kl": [0.1]}, "columns of different lengths"),
        ({"env_steps": [1, None]}, "env_steps: must be a number in every row"),
        ({"env_steps": [1, 1], "seed": [4, 7]}, "seed = None: must be one of the records' seeds: 4 7"),
    ],
)
def test_records_that_cannot_be_diagnosed_are_refused(records, message):
    with pytest.raises(UserError, match=message):
        diagnose(records)


def test_an_unknown_seed_is_refused():
    with pytest.raises(UserError, match="seed = 3: must be one of the records' seeds: 1"):
        diagnose(healthy(), seed=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width = 0: must be at least 1"),
        ({"clip_epsilon": 0.0}, "clip_epsilon = 0.0"),
        ({"update_rule": "escort"}, "escort_p = None"),
        ({"escort_p": 2.0}, "escort_p = 2.0"),
    ],
)
def test_a_context_that_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        Context(**options)


@pytest.mark.parametrize(
    "context",
    [
        Context(width=64, continuous=False, action_size=4, return_episodes=100),
        Context(continuous=True, action_size=2),
        Context(tabular=True),
        Context(retrieval=True),
    ],
)
def test_every_column_that_the_watch_reads_is_handed_to_it(context):
    read = set()

    class Row(dict):
        def get(self, column, default=None):
            read.add(column)
            return super().get(column, default)

        def __getitem__(self, column):
            read.add(column)
            return super().__getitem__(column)

    columns = [column for metric in METRICS for column in metric.columns()]
    watch = Watch(context=context)
    for batch in range(40):
        for value in (0.0, float("nan")):  # Rules look elsewhere where a column is undefined.
            watch.update(Row({**dict.fromkeys(columns, value), "env_steps": 10 * batch, "seed": 0}))
    assert "perf/return_mean" in read or "test/recall_at_1" in read
    assert read - {"seed"} <= set(USED)


def test_a_running_mean_is_known_as_one_in_a_diagnosis_too():
    """Its neighbouring values share most of their episodes: by their differences a flat return would have collapsed."""
    collapsed = {}
    for length in (1000.0, float("nan")):
        rng = np.random.default_rng(3)
        collapsed[length] = 0
        for _ in range(8):
            episodes = rng.normal(300.0, 60.0, 400)
            ends = np.arange(100, 400, 2)
            records = {
                "env_steps": 1000 * ends,
                "perf/return_mean": [episodes[end - 100 : end].mean() for end in ends],
                "perf/length_mean": np.full(len(ends), length),
            }
            found = diagnose(records, Context(return_episodes=100))
            collapsed[length] += any(onset.sign is Sign.PERFORMANCE_COLLAPSE for onset in found.onsets)
    assert collapsed[1000.0] == 0
    assert list(collapsed.values())[1] > 0  # As if nobody knew how many episodes two batches share.


def test_a_batch_without_a_ratio_below_the_clip_range_ends_low_ratios_in_a_diagnosis_too():
    low = np.arange(40) < 15
    records = {
        "env_steps": 1024 * np.arange(1, 41),
        "trust/ratio_below_mean": np.where(low, 0.1, np.nan),
        "trust/ratio_below_count": np.where(low, 50.0, 0.0),
    }
    found = diagnose(records, Context(clip_epsilon=0.2))
    (onset,) = [onset for onset in found.onsets if onset.sign is Sign.LOW_RATIOS]
    assert onset.ended is not None
