"""The guard: what is not finite is caught in its minibatch, named, and not applied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import (
    assert_same_bits,
    fresh_learner,
    poisoned,
    random_batch,
    random_order,
    run_update,
    small_spec,
    task_for,
)

from escapevelocity.ppo.programs import action_distribution
from escapevelocity.ppo.update import Quantity, update

SKIP = {"monitoring": {"on_nonfinite": "skip"}}
MEANS = ("objective_last", "value", "entropy", "actor_gradient", "critic_gradient")
TANH, RELU = small_spec("tanh_normal"), small_spec("normal", network={"activation": "relu"})


@pytest.mark.parametrize(
    ("spec", "field", "value", "quantity"),
    [
        (TANH, "advantages", jnp.nan, Quantity.LOSS),
        (TANH, "returns", jnp.inf, Quantity.LOSS),
        (TANH, "log_probs", jnp.nan, Quantity.LOSS),
        (RELU, "observations", jnp.inf, Quantity.LOSS),
        # tanh(inf) = 1 hides the infinity from the loss; the chain rule multiplies it by tanh'(inf) = 0.
        (TANH, "observations", jnp.inf, Quantity.GRADIENT),
    ],
)
def test_a_number_that_is_not_finite_is_caught_in_its_minibatch_and_named(spec, field, value, quantity):
    learner, batch, order = fresh_learner(spec), random_batch(spec), random_order(spec)
    for minibatch in (0, 2):
        sample = order[0, 16 * minibatch + 3]
        bad = poisoned(batch, field, (sample, 1) if field == "observations" else sample, value)
        stopped, statistics = run_update(spec, learner, bad, order)
        assert int(statistics.fault) == quantity
        assert int(statistics.fault_minibatch) == minibatch
        assert int(statistics.skipped) == 12 - minibatch
        assert int(stopped.moments.count) == minibatch
        if minibatch == 0:
            assert_same_bits(stopped, learner)
            assert all(np.isnan(getattr(statistics, name)) for name in MEANS)


def test_what_comes_back_from_a_stopped_update_is_the_state_after_the_steps_before():
    spec = TANH
    learner, batch, order = fresh_learner(spec), random_batch(spec), random_order(spec)
    stopped, statistics = run_update(
        spec, learner, poisoned(batch, "advantages", order[0, 35], jnp.nan), order
    )
    before, expected = run_update(spec, learner, batch, order[:1, :32])
    assert_same_bits(stopped, before)
    for name in MEANS:
        assert float(getattr(statistics, name)) == pytest.approx(float(getattr(expected, name)), rel=1e-5), (
            name
        )


def test_with_skip_only_the_faulty_minibatches_are_left_out_and_counted():
    spec = small_spec(**SKIP)
    learner = fresh_learner(spec)
    batch, order = random_batch(spec), random_order(spec)
    sample = order[0, 20]  # in minibatch 1 of the first epoch
    bad = poisoned(batch, "advantages", sample, jnp.nan)
    skipped, statistics = run_update(spec, learner, bad, order)
    minibatches = order.reshape(3, 4, 16)
    kept = np.stack([epoch[~(epoch == sample).any(axis=1)].ravel() for epoch in minibatches])
    expected, clean = run_update(spec, learner, batch, kept)
    assert_same_bits(skipped, expected)
    assert int(skipped.moments.count) == 9
    assert (int(statistics.skipped), int(statistics.fault), int(statistics.fault_minibatch)) == (
        3,
        Quantity.LOSS,
        1,
    )
    for name in MEANS:
        assert float(getattr(statistics, name)) == pytest.approx(float(getattr(clean, name)), rel=1e-5), name


def test_a_learning_rate_that_overflows_the_parameters_is_caught_at_the_first_step():
    spec = small_spec()
    learner = fresh_learner(spec)
    batch, order = random_batch(spec), random_order(spec)
    same, statistics = run_update(spec, learner, batch, order, rate=np.inf)
    assert_same_bits(same, learner)
    assert (int(statistics.fault), int(statistics.fault_minibatch)) == (Quantity.PARAMETER, 0)


def test_parameters_that_are_enormous_but_finite_are_no_fault():
    spec = small_spec()
    learner = fresh_learner(spec)
    batch, order = random_batch(spec), random_order(spec)
    # A step of 1e25 in every entry: the squares of the parameters overflow, the parameters do not.
    one_step = poisoned(batch, "advantages", order[0, 16], jnp.nan)
    moved, statistics = run_update(spec, learner, one_step, order, rate=1e25)
    assert int(statistics.fault_minibatch) == 1  # the NaN's: the step before it was applied
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(moved.agent)) > 9e24


@pytest.mark.parametrize("log_ratio", [80.0, 20.0, -80.0])
def test_an_enormous_ratio_is_no_fault(log_ratio):
    spec = small_spec()
    learner, batch, order = fresh_learner(spec), random_batch(spec), random_order(spec)
    far = batch._replace(log_probs=batch.log_probs.at[:7].add(-log_ratio))
    moved, statistics = run_update(spec, learner, far, order)
    assert (int(statistics.skipped), int(statistics.fault)) == (0, Quantity.NONE)
    assert int(moved.moments.count) == 12
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))


def test_a_frozen_member_stays_as_it_is_and_the_others_go_on_exactly_as_without_it():
    spec = small_spec()
    distribution = action_distribution(spec, task_for(spec))
    members = [fresh_learner(spec, seed) for seed in range(3)]
    batches = [random_batch(spec, seed) for seed in range(3)]
    orders = jnp.stack([jnp.asarray(random_order(spec, seed=seed)) for seed in range(3)])
    learners, batch = (jax.tree.map(lambda *x: jnp.stack(x), *trees) for trees in (members, batches))
    population = jax.jit(
        jax.vmap(lambda *x: update(*x[:3], jnp.float32(1e-2), x[3], distribution, spec), in_axes=(0, 0, 0, 0))
    )
    everyone, _ = population(learners, batch, orders, jnp.ones(3, bool))
    # Frozen, and its data may hold anything.
    bad = jax.tree.map(lambda x: x.at[1].set(jnp.nan) if x.dtype == jnp.float32 else x, batch)
    without, statistics = population(learners, bad, orders, jnp.asarray([True, False, True]))
    for member, reference in ((0, everyone), (1, learners), (2, everyone)):
        assert_same_bits(*(jax.tree.map(lambda x, i=member: x[i], tree) for tree in (without, reference)))
    np.testing.assert_array_equal(statistics.fault, [0, 0, 0])
    # A fault of one member in this batch does not touch the others either.
    failed, statistics = population(learners, bad, orders, jnp.ones(3, bool))
    assert_same_bits(failed, without)
    np.testing.assert_array_equal(statistics.fault, [0, Quantity.LOSS, 0])
