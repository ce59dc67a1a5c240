"""ReDo against scores worked out by hand and in NumPy."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remedy_agents import (
    activations,
    agent_of,
    assert_agent_is,
    expected_renewal,
    member,
    moments_of,
    networks_of,
    observations_of,
    stacked,
    zeros_like,
)
from remedy_views import TASK, batch_end

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import NetworkConfig, PPOSpec
from escapevelocity.ppo.objective import Batch
from escapevelocity.ppo.remedies.redo import ReDo
from escapevelocity.ppo.remedies.units import Layers


def end_of(agent, rng, observations, number=0, kind="dense"):
    batch = Batch(**{**dict.fromkeys(Batch._fields), "observations": observations})
    return batch_end(
        agent=agent,
        moments=moments_of(agent, rng),
        state=(),
        batch=batch,
        fresh=agent_of(kind, rng),
        number=jnp.int32(number),
    )


def quieten(agent):
    """Turn one unit of each hidden layer nearly off, by its weights."""
    network = agent.actor.network
    rows = [weight.at[1].set(1e-4 * weight[1]) for weight in network.weights[:-1]]
    biases = [bias.at[1].set(1e-4 * bias[1]) for bias in network.biases[:-1]]
    network = dataclasses.replace(
        network, weights=(*rows, network.weights[-1]), biases=(*biases, network.biases[-1])
    )
    return dataclasses.replace(agent, actor=dataclasses.replace(agent.actor, network=network))


def dormant_by_numpy(agent, observations, threshold):
    """Sokar et al. 2023, eq. 1, unit by unit."""
    chosen = {}
    for name, network in networks_of(agent):
        for layer, hidden in enumerate(activations(network, observations)):
            units = network.weights[layer].shape[0]
            mean = np.abs(hidden).reshape(-1, hidden.shape[-1]).mean(0).reshape(-1, units).sum(0)
            scores = mean / mean.mean()
            # The test would be about rounding if a score were next to the threshold.
            assert np.abs(scores - threshold).min() > 1e-4
            chosen[name, layer] = np.flatnonzero(scores <= threshold).tolist()
    return chosen


@pytest.mark.parametrize("kind", ["shared_crelu", "convolutional"])
def test_dormant_units_of_every_member_are_recycled_with_their_moments_and_no_others(kind, rng):
    observations = observations_of(kind, rng)
    agents = [quieten(agent_of(kind, rng)), agent_of(kind, rng)]
    ends = [end_of(agent, rng, observations, kind=kind) for agent in agents]
    population, numbers = jax.jit(jax.vmap(ReDo(threshold=0.4, every=1).after_batch))(stacked(ends))
    for i, (agent, end) in enumerate(zip(agents, ends, strict=True)):
        chosen = dormant_by_numpy(agent, observations, 0.4)
        if i == 0:
            assert all(1 in chosen["actor", layer] for layer in range(len(agent.actor.network.weights) - 1))
        changed = member(population, i)
        assert_agent_is(changed.agent, expected_renewal(agent, chosen, end.fresh))
        zeros = zeros_like(agent)
        assert_agent_is(changed.moments.mu, expected_renewal(end.moments.mu, chosen, zeros))
        assert_agent_is(changed.moments.nu, expected_renewal(end.moments.nu, chosen, zeros))
        assert int(changed.moments.count) == int(end.moments.count)
        for name in ("actor", "critic"):
            count = sum(len(units) for (where, _), units in chosen.items() if where == name)
            assert float(numbers[f"recycled_{name}"][i]) == count


def test_a_score_is_the_activity_relative_to_the_layers_mean_and_the_threshold_is_dormant(rng):
    # The first layer's mean is 1, so that its scores are its activities; in the second no unit ever fires.
    agent = agent_of("shared", rng)
    active = Layers((jnp.asarray([0.125, 1.0, 1.875, 1.0]), jnp.zeros(5)), ())
    dormant = ReDo(threshold=0.125).dormant(agent, active)
    np.testing.assert_array_equal(dormant.actor[0], [True, False, False, False])
    np.testing.assert_array_equal(dormant.actor[1], [True] * 5)
    np.testing.assert_array_equal(ReDo(threshold=0.124).dormant(agent, active).actor[0], [False] * 4)


def test_a_crelu_unit_is_dormant_only_with_both_halves(rng):
    # Units 0 to 3 fire 0, 1, 0, 2 on the positive side and 0, 0, 1, 2 on the negative one: 0, 1, 1, 4 together.
    agent = agent_of("shared_crelu", rng)
    halves = jnp.asarray([0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 1.0, 2.0])
    dormant = ReDo(threshold=0.1).dormant(agent, Layers((halves, jnp.ones(10)), ()))
    np.testing.assert_array_equal(dormant.actor[0], [True, False, False, False])
    assert not np.any(dormant.actor[1])


def test_units_are_recycled_after_every_nth_batch_only(rng):
    observations = observations_of("dense", rng)
    agent = quieten(agent_of("dense", rng))
    end, redo = end_of(agent, rng, observations), ReDo(threshold=0.4, every=3)
    program = jax.jit(jax.vmap(lambda end, number: redo.after_batch(end._replace(number=number)), (None, 0)))
    changed, numbers = program(end, jnp.arange(6))
    recycled = np.asarray(numbers["recycled_actor"])
    assert (recycled > 0).tolist() == [False, False, True, False, False, True]
    weights = np.asarray(changed.agent.actor.network.weights[0])
    for number in (0, 1, 3, 4):
        np.testing.assert_array_equal(weights[number], agent.actor.network.weights[0])
        assert float(numbers["recycled_critic"][number]) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threshold": -0.1}, "redo.threshold = -0.1: must be a finite number of at least 0"),
        ({"every": 0}, "redo.every = 0: must be at least 1"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        ReDo(**fields)


def test_tanh_is_refused_since_its_dead_units_saturate():
    with pytest.raises(UserError, match="activation = 'tanh': must be relu, gelu, leaky_relu or crelu"):
        ReDo().check(PPOSpec(), TASK)
    ReDo().check(PPOSpec(network=NetworkConfig(activation="relu")), TASK)
