"""Hidden units: what is measured of them and what is reset, against loops over single weights."""

import jax
import numpy as np
import pytest
from remedy_agents import (
    KINDS,
    activations,
    agent_of,
    assert_agent_is,
    exact,
    expected_renewal,
    fed_columns,
    masks_of,
    moments_of,
    networks_of,
    observations_of,
    zeros_like,
)

from escapevelocity.ppo.remedies import units

CHOSEN = {
    ("actor", 0): [1],
    ("actor", 1): [0, 1],
    ("critic", 0): [0, 2],
}


@jax.jit
def measured(agent, observations):
    active = units.activity(agent, *agent.trace(observations))
    return active, units.contributions(agent, active)


renew = jax.jit(units.renew)


def chosen_in(agent):
    return {place: list_ for place, list_ in CHOSEN.items() if place[0] in dict(networks_of(agent))}


@pytest.mark.parametrize("kind", KINDS)
def test_activity_is_the_mean_magnitude_over_samples_and_positions(kind, rng):
    agent, observations = agent_of(kind, rng), observations_of(kind, rng)
    active, _ = measured(agent, observations)
    assert len(active.critic) == (0 if kind.startswith("shared") else len(active.actor))
    for name, network in networks_of(agent):
        for ours, hidden in zip(getattr(active, name), activations(network, observations), strict=True):
            np.testing.assert_allclose(ours, np.abs(hidden).reshape(-1, hidden.shape[-1]).mean(0), rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_units_contribution_is_its_activity_times_all_weights_that_leave_it(kind, rng):
    agent, observations = agent_of(kind, rng), observations_of(kind, rng)
    _, ours = measured(agent, observations)
    for name, network in networks_of(agent):
        hidden = activations(network, observations)
        for layer, outputs in enumerate(hidden):
            number = network.weights[layer].shape[0]
            leaving = [exact(network.weights[layer + 1])]
            if kind.startswith("shared") and layer == len(hidden) - 1:
                leaving.append(exact(agent.critic.weights[0]))
            means = np.abs(outputs).reshape(-1, outputs.shape[-1]).mean(0)
            expected = np.zeros(number)
            for weight in leaving:
                for column in range(weight.shape[1]):
                    output = column % outputs.shape[-1]  # positions first, then channels
                    expected[output % number] += means[output] * np.abs(weight[:, column]).sum()
            np.testing.assert_allclose(getattr(ours, name)[layer], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_renewed_units_get_fresh_rows_and_empty_columns_and_nothing_else_changes(kind, rng):
    agent, fresh = agent_of(kind, rng), agent_of(kind, rng)
    chosen = chosen_in(agent)
    renewed = renew(agent, masks_of(agent, chosen), fresh)
    assert_agent_is(renewed, expected_renewal(agent, chosen, fresh))
    np.testing.assert_array_equal(renewed.actor.log_std, agent.actor.log_std)


@pytest.mark.parametrize("kind", ["shared_crelu", "convolutional", "convolutional_crelu"])
def test_a_renewed_unit_has_no_say_in_the_outputs(kind, rng):
    # The network itself is the judge of which columns belong to a unit: whatever comes in, nothing comes out.
    trace = jax.jit(lambda agent, observations: agent.trace(observations))
    agent, observations = agent_of(kind, rng), observations_of(kind, rng)
    for place in [(name, layer) for name, net in networks_of(agent) for layer in range(len(net.weights) - 1)]:
        masks = masks_of(agent, {place: [1]})
        one, two = (trace(renew(agent, masks, agent_of(kind, rng)), observations) for _ in range(2))
        changed = one[0].preactivations if place[0] == "actor" else one[1].preactivations
        other = two[0].preactivations if place[0] == "actor" else two[1].preactivations
        assert not np.array_equal(changed[place[1]], other[place[1]])
        np.testing.assert_array_equal(one[0].outputs, two[0].outputs)
        np.testing.assert_array_equal(one[1].outputs, two[1].outputs)


@pytest.mark.parametrize("kind", ["shared_crelu", "convolutional"])
def test_moments_are_forgotten_in_exactly_the_entries_that_were_renewed(kind, rng):
    agent = agent_of(kind, rng)
    chosen, moments = chosen_in(agent), moments_of(agent, rng)
    zeros = zeros_like(agent)
    forgotten = jax.jit(units.forget)(moments, masks_of(agent, chosen))
    assert_agent_is(forgotten.mu, expected_renewal(moments.mu, chosen, zeros))
    assert_agent_is(forgotten.nu, expected_renewal(moments.nu, chosen, zeros))
    assert int(forgotten.count) == 7


def test_the_columns_of_a_channel_are_spread_over_all_positions(rng):
    # 2 × 2 windows of 3 channels, then an image of 2 × 2 positions with 2 channels.
    network = agent_of("convolutional", rng).actor.network
    assert np.flatnonzero(fed_columns(network, 0, 1)).tolist() == [1, 4, 7, 10]
    assert np.flatnonzero(fed_columns(network, 1, 0)).tolist() == [0, 2, 4, 6]
    # With CReLU every position has both halves: relu(x) of 2 channels, then relu(−x) of them.
    network = agent_of("convolutional_crelu", rng).actor.network
    assert np.flatnonzero(fed_columns(network, 1, 1)).tolist() == [1, 3, 5, 7, 9, 11, 13, 15]


def test_chosen_units_are_counted_over_all_layers(rng):
    agent = agent_of("dense", rng)
    masks = masks_of(agent, CHOSEN)
    assert float(units.count(masks.actor)) == 3
    assert float(units.count(masks.critic)) == 2
    assert float(units.count(())) == 0
