"""Signs are held against the run's own start and best: networks begin half dead, with one direction, hardly a norm."""

from plausible_records import column

from escapevelocity.health.context import Context
from escapevelocity.health.signs import Sign
from escapevelocity.health.watch import Watch

DEAD = "health/actor/dead_neurons"


def test_units_that_were_dead_at_the_start_are_no_sign_and_half_of_the_others_are():
    """Phoenix of studies/small_scale: 210 to 229 of 512 units are dead before the first update, and 20 of 21 runs
    were called ill for them. Of 302 that lived half are left at 361.
    """
    wide = Context(width=512)
    assert column([210.0] * 5 + [361.0] * 9, context=wide)[1] == {}
    assert column([210.0] * 5 + [362.0] * 9, context=wide)[1] == {Sign.DEAD_NEURONS: 9}
    # A start with more than half is none to go by: counted as half, which leaves 3/4 of 64 as the bound.
    assert column([50.0] * 9)[1] == {Sign.DEAD_NEURONS: 4}
    assert column([48.0] * 9)[1] == {}


def test_units_that_fall_silent_while_the_features_span_as_much_as_ever_are_no_sign():
    """Breakout of studies/escort_minatar: 36 to 91 of 128 dead, rank 13 to 30, return 0.3 to 22."""

    def told(ranks, dead):
        watch = Watch(context=Context(width=64))
        for batch, (rank, silent) in enumerate(zip(ranks, dead, strict=True)):
            watch.update({"env_steps": batch, "health/actor/feature_rank_pca": rank, DEAD: silent})
        return watch.active()

    dead = [2.0] * 5 + [40.0] * 10
    assert told([15.0] * 5 + [20.0] * 10, dead) == frozenset()
    assert told([15.0] * 5 + [14.0] * 10, dead) == {Sign.DEAD_NEURONS}  # fewer than at the start
    assert told([15.0] * 5 + [40.0] * 5 + [18.0] * 5, dead) == {
        Sign.DEAD_NEURONS
    }  # less than half of the most
    # Three quarters of those that lived: 2 + 46.5.
    assert told([15.0] * 15, [2.0] * 5 + [49.0] * 10) == {Sign.DEAD_NEURONS}


def test_a_norm_that_has_grown_tenfold_and_is_still_small_is_no_growth():
    """Phoenix begins at 0.3; 512 pre-activations of size 1 have the norm √512 = 22.6."""
    norm, wide = "health/actor/preactivation_norm", Context(width=512)
    assert column([0.3] * 5 + [22.0] * 9, norm, wide)[1] == {}
    assert column([0.3] * 5 + [23.0] * 9, norm, wide)[1] == {Sign.PREACTIVATION_GROWTH: 9}
    assert column([0.3] * 5 + [3.1] * 9, norm, Context())[1] == {Sign.PREACTIVATION_GROWTH: 9}


def test_a_rank_that_rose_from_one_may_fall_and_a_rank_of_nothing_always_counts():
    rank = "health/actor/feature_rank_pca"
    risen = [1.0] * 5 + [100.0] * 5
    assert column(risen + [10.0] * 9, rank)[1] == {}
    assert column(risen + [9.0] * 9, rank)[1] == {Sign.RANK_DECLINE: 14}
    assert column([1.0] * 9, rank)[1] == {}
    assert column([0.0] * 9, rank)[1] == {Sign.RANK_DECLINE: 4}


def test_a_policy_that_differs_between_states_by_rounding_alone_is_degenerate_however_little_it_varied():
    """Phoenix with PFO: 3e-9 at the start, which is no more than most fresh policies have, then 2e-16."""

    def told(variances, entropy=2.07):
        watch = Watch(context=Context(continuous=False, action_size=8))
        for batch, variance in enumerate(variances):
            watch.update({"env_steps": batch, "policy/variance": variance, "policy/entropy": entropy})
        return watch.active()

    assert told([3e-9] * 3 + [2e-16] * 9) == {Sign.DEGENERATE_POLICY}
    assert told([3e-9] * 12) == frozenset()
    assert told([2e-16] * 12) == frozenset()  # An observation that never changes.
    assert (
        told([3e-9] * 3 + [2e-16] * 9, entropy=0.1) == frozenset()
    )  # One action, always: it may be the right one.
