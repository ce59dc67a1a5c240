"""The online engine: when a sign counts, where it began, when it ends, and what is never taken for measured."""

import math
from dataclasses import replace

import numpy as np
import pytest
from plausible_records import DISCRETE, column, golden, healthy, ill, onset_step

from escapevelocity.health.context import Context
from escapevelocity.health.diagnosis import diagnose
from escapevelocity.health.signs import SIGNS, Sign
from escapevelocity.health.thresholds import Thresholds
from escapevelocity.health.watch import Watch

DEAD = "health/actor/dead_neurons"


def rows_of(records):
    return [dict(zip(records, values, strict=True)) for values in zip(*records.values(), strict=True)]


def test_a_sign_is_told_once_the_median_has_held_three_times_and_dated_back_to_the_first_value():
    watch, told = column([2.0] * 10 + [60.0] * 10)
    # Of the last five values three are 60 from batch 12 on; the third time is batch 14.
    assert told == {Sign.DEAD_NEURONS: 14}
    (onset,) = watch.onsets()
    assert (onset.step, onset.confirmed, onset.ended) == (onset_step(10), onset_step(14), None)
    assert onset.text == "60 of 64 neurons dead, 2 at the start"


def test_two_bad_batches_of_five_are_never_a_sign():
    _, told = column([60.0, 60.0, 2.0, 2.0, 2.0] * 10)
    assert told == {}


def test_values_that_were_not_measured_neither_make_nor_end_a_sign():
    holes = [value for value in [2.0] * 10 + [60.0] * 10 for value in (value, math.nan, None)]
    watch, told = column(holes)
    assert told == {Sign.DEAD_NEURONS: 14 * 3}
    after, _ = column(holes + [math.nan] * 50)
    assert after.active() == watch.active() == {Sign.DEAD_NEURONS}
    assert column([math.nan] * 50)[0].measured() == frozenset()


def test_a_sign_that_comes_back_keeps_its_first_onset_and_is_told_once():
    watch, told = column([60.0] * 10 + [2.0] * 10 + [60.0] * 10)
    assert told == {Sign.DEAD_NEURONS: 4}
    (onset,) = watch.onsets()
    assert (onset.step, onset.ended) == (onset_step(0), None)


def test_patience_and_smoothing_are_thresholds_like_the_others():
    hasty = Thresholds().with_values({"persistence": 1, "smoothing": 1}, "this test")
    _, told = column([2.0] * 10 + [60.0] * 10, thresholds=hasty)
    assert told == {Sign.DEAD_NEURONS: 10}


def test_seeds_are_watched_apart_whatever_the_order_of_their_rows():
    sick, well = rows_of(ill({DEAD: 60.0}, seed=3)), rows_of(healthy(seed=8))
    watch = Watch(context=DISCRETE)
    told = [onset for pair in zip(sick, well, strict=True) for row in pair for onset in watch.update(row)]
    assert [(onset.seed, onset.sign) for onset in told] == [(3, Sign.DEAD_NEURONS)]
    assert watch.seeds() == [3, 8]
    assert watch.active(8) == frozenset()


def test_online_and_after_the_fact_the_same_signs_are_found():
    records = golden("hopper_sick")
    context = Context(width=64, continuous=True, action_size=3)
    watch = Watch(context=context)
    told = [onset for row in rows_of(records) for onset in watch.update(row)]
    for seed in (1, 2, 3):
        found = diagnose(records, context, seed)
        assert list(found.onsets) == watch.onsets(seed)
        assert {o.sign: o.step for o in told if o.seed == seed} == {o.sign: o.step for o in found.onsets}


BOUNDS = [
    # sign, column, a value just inside, one just outside; everything starts at 8 where nothing else is said.
    (Sign.TRUST_REGION_LEFT, "trust/kl", 1.0, 1.01, 0.1),  # docs/metrics.md
    (Sign.TRUST_REGION_LEFT, "trust/clip_fraction", 0.5, 0.51, 0.1),  # docs/metrics.md
    (Sign.LOW_RATIOS, "trust/ratio_below_mean", 0.401, 0.399, 0.7),  # docs/metrics.md, ε = 0.2
    (Sign.LOW_RATIOS, "trust/excess_ratio", 2.99, 3.01, 1.9),  # 2 × 1.2/0.8
    (Sign.PREACTIVATION_GROWTH, "health/actor/preactivation_norm", 79.0, 81.0, 8.0),  # 10 × 8
    (Sign.PREACTIVATION_GROWTH, "health/actor/preactivation_norm", 999.0, 1001.0, 150.0),  # docs/metrics.md
    (Sign.DEAD_NEURONS, DEAD, 33.0, 34.0, 2.0),  # half of the 62 that lived at the start, and the 2
    (Sign.RANK_DECLINE, "health/actor/feature_rank_pca", 10.0, 9.0, 40.0),  # single digits
    (Sign.RANK_DECLINE, "health/actor/feature_rank_pca", 4.0, 3.0, 8.0),  # half of the start
    (Sign.CAPACITY_LOSS, "capacity/critic", 1.99, 2.01, 1.0),  # twice the start
    (Sign.TRAPPED, "gravity/best_prob", 0.1, 0.099, 0.5),  # health.gravity
    (Sign.ENTROPY_COLLAPSE, "policy/entropy", 0.051, 0.049, 1.0),  # a twentieth
    (Sign.VANISHING_GRADIENT, "norm/actor_gradient", 0.021, 0.019, 2.0),  # a hundredth of the largest
]


@pytest.mark.parametrize(("sign", "name", "inside", "outside", "start"), BOUNDS)
def test_a_sign_begins_beyond_its_bound_and_not_before(sign, name, inside, outside, start):
    assert sign not in column([start] * 5 + [inside] * 20, name)[1]
    assert column([start] * 5 + [outside] * 20, name)[1] == {sign: 9}


ESTIMATES = {"trust/kl_k3": 5.0, "trust/kl_k1": 5.0, "trust/ratio_outside_fraction": 0.95}


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_stand_in_for_the_kl_where_none_was_logged_and_only_there(name):
    alone, beside = Watch(), Watch()
    for batch in range(1, 10):
        row = {"env_steps": batch, name: ESTIMATES[name]}
        alone.update(row)
        beside.update({**row, "trust/kl": 0.01})
    assert alone.active() == {Sign.TRUST_REGION_LEFT}
    assert beside.active() == frozenset()


def test_a_narrow_layer_and_a_clip_range_move_their_bounds():
    rank = "health/actor/feature_rank_pca"
    narrow = Context(width=8)
    assert column([8.0] * 5 + [4.0] * 9, rank, narrow)[1] == {}  # half of 8 is not below half of 8
    assert column([8.0] * 5 + [3.0] * 9, rank, narrow)[1] == {Sign.RANK_DECLINE: 9}
    # A log need not say how wide the layer is.
    (onset,) = column([40.0] * 5 + [3.0] * 9, rank, Context())[0].onsets()
    assert onset.text == "rank 3 of an unknown number, 40 at the start"
    # Half of 1 − ε: 0.45 at ε = 0.1, where 0.42 would have been well at ε = 0.2.
    assert column([0.8] * 5 + [0.42] * 9, "trust/ratio_below_mean", Context(clip_epsilon=0.1))[1] == {
        Sign.LOW_RATIOS: 9
    }


@pytest.mark.parametrize(
    ("name", "start", "value", "told"),
    [
        (
            "trust/ratio_below_mean",
            0.7,
            0.3,
            "trust/ratio_below_mean 0.3, below 0.4",
        ),  # docs/metrics.md, ε = 0.2
        ("trust/excess_ratio", 1.5, 6.0, "trust/excess_ratio 6, above 3"),  # twice (1 + ε)/(1 − ε)
    ],
)
def test_a_ratio_is_told_with_the_side_of_its_bound(name, start, value, told):
    (onset,) = column([start] * 5 + [value] * 9, name)[0].onsets()
    assert onset.text == told


def test_no_ratio_below_the_range_is_a_measurement_and_not_a_gap():
    watch = Watch(context=DISCRETE)
    for batch in range(10):
        watch.update({"env_steps": batch, "trust/ratio_below_mean": math.nan, "trust/ratio_below_count": 0})
    assert watch.measured() == {Sign.LOW_RATIOS}
    assert watch.active() == frozenset()


def test_continuous_entropy_falls_by_nats_per_dimension_and_needs_their_number():
    values = [6.0] * 5 + [-3.5] * 20  # 9.5 nats: more than 3 × 3 and less than 4 × 3
    name = "policy/entropy_base"
    assert column(values, name, Context(continuous=True, action_size=3))[1] == {Sign.ENTROPY_COLLAPSE: 9}
    assert column(values, name, Context(continuous=True, action_size=4))[1] == {}
    assert column(values, name, Context(continuous=True))[0].measured() == frozenset()


def both(first, second, thresholds=None):
    """Feed two columns of (start, later) values; give the active signs."""
    watch = Watch(thresholds, DISCRETE)
    for batch in range(30):
        row = {name: pair[batch >= 5] for name, pair in (first, second)}
        watch.update({"env_steps": batch, **row})
    return watch.active()


def test_kl_up_while_the_clip_fraction_falls_is_a_sign_and_both_up_is_none_of_it():
    kl = ("trust/kl", (0.05, 0.3))
    assert both(kl, ("trust/clip_fraction", (0.3, 0.1))) == {Sign.KL_UP_CLIP_DOWN}
    assert both(kl, ("trust/clip_fraction", (0.1, 0.3))) == frozenset()
    # Ten times nearly nothing is nearly nothing.
    assert both(("trust/kl", (0.001, 0.01)), ("trust/clip_fraction", (0.3, 0.1))) == frozenset()


def test_zero_variance_over_states_is_a_sign_with_high_entropy_and_after_having_varied():
    high, low = ("policy/entropy", (1.0, 1.35)), ("policy/entropy", (1.0, 0.5))  # log 4 = 1.386
    lost = ("policy/variance", (0.05, 1e-9))
    assert both(lost, high) == {Sign.DEGENERATE_POLICY}
    assert both(lost, low) == frozenset()
    assert both(("policy/variance", (1e-9, 1e-9)), high) == frozenset()  # an untrained policy


def test_the_critic_fails_where_its_error_dwarfs_what_it_tells_apart():
    assert both(("loss/value", (50.0, 50.0)), ("value/std", (3.0, 2.0))) == {Sign.VALUE_FAILURE}  # 12.5 × 2²
    assert both(("loss/value", (50.0, 50.0)), ("value/std", (3.0, 2.5))) == frozenset()  # 8 × 2.5²
    assert both(("loss/value", (50.0, 50.0)), ("value/std", (3.0, 0.0))) == {Sign.VALUE_FAILURE}


def running_means(returns, episodes=10, of=100):
    """Rows as Stable-Baselines3 logs them: the mean of the last hundred episodes, ten of which ended since the last."""
    ends = range(episodes, len(returns) + 1, episodes)
    return [
        {
            "env_steps": 20 * end,
            "perf/return_mean": float(np.mean(returns[max(0, end - of) : end])),
            "perf/length_mean": 20.0,
        }
        for end in ends
    ]


def signs_of(rows, context):
    watch = Watch(None, context)
    return {onset.sign for row in rows for onset in watch.update(row)}


def test_a_running_mean_is_not_taken_for_means_of_batches():
    """Its neighbouring values share ninety episodes in a hundred, and differ by less than its noise."""
    rng = np.random.default_rng(0)
    alarms = dict.fromkeys((None, 100), 0)
    for _ in range(20):
        rows = running_means(rng.normal(0.0, 1.0, 1500))
        for episodes in alarms:
            context = replace(DISCRETE, return_episodes=episodes)
            alarms[episodes] += Sign.PERFORMANCE_COLLAPSE in signs_of(rows, context)
    # Of runs that never learn none may be said to have collapsed; by neighbouring differences nearly all would be.
    assert alarms[100] == 0
    assert alarms[None] > 10


def test_the_fall_of_a_running_mean_is_told():
    rng = np.random.default_rng(0)
    returns = np.concatenate([np.linspace(20, 200, 1000), np.full(1000, 200.0), np.full(1000, 30.0)])
    rows = running_means(returns + rng.normal(0.0, 20.0, 3000))
    context = replace(DISCRETE, return_episodes=100)
    assert Sign.PERFORMANCE_COLLAPSE in signs_of(rows, context)
    assert Sign.PERFORMANCE_COLLAPSE not in signs_of(rows[:200], context)


def test_a_return_has_collapsed_when_half_of_the_gain_and_more_than_noise_is_lost():
    def told(values):
        return column(values, "perf/return_mean")[1]

    rise = list(np.linspace(0.0, 100.0, 20))
    assert Sign.PERFORMANCE_COLLAPSE not in told(rise + [55.0] * 20)
    assert Sign.PERFORMANCE_COLLAPSE in told(rise + [40.0] * 20)
    rng = np.random.default_rng(0)
    assert Sign.PERFORMANCE_COLLAPSE not in told(list(rng.normal(0.0, 1.0, 300)))


def test_a_plateau_is_dated_to_the_last_improvement():
    values = list(np.linspace(0.0, 100.0, 10)) + [100.0] * 30
    watch, told = column(values, "perf/return_mean")
    assert Sign.PLATEAU in told
    (onset,) = [o for o in watch.onsets() if o.sign is Sign.PLATEAU]
    # The median reaches 100 two batches after the returns do, within the noise of a rise by 11 a batch earlier.
    assert onset_step(8) <= onset.step <= onset_step(12)


def test_the_table_of_signs_is_whole_and_names_columns_that_are_documented():
    from escapevelocity.health import METRICS

    documented = {column for metric in METRICS for column in metric.columns()}
    assert set(SIGNS) == set(Sign)
    for sign, info in SIGNS.items():
        assert info.meaning
        assert info.source
        assert len(info.label) <= 10
        assert sign is Sign.TRAPPED or set(info.columns) <= documented
