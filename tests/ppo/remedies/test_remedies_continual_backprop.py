"""Continual backpropagation against alg. 1 of Dohare et al. 2024, one unit at a time in NumPy."""

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
    exact,
    expected_renewal,
    member,
    moments_of,
    networks_of,
    observations_of,
    stacked,
    zeros_like,
)
from remedy_views import batch_end

from escapevelocity.errors import UserError
from escapevelocity.ppo.remedies.continual_backprop import ContinualBackprop
from escapevelocity.ppo.remedies.units import Layers
from escapevelocity.ppo.remedy import Step


class Reference:
    """Alg. 1 with lists: utilities, ages and what is owed, for one network."""

    def __init__(self, network, rate, maturity, decay):
        sizes = [weight.shape[0] for weight in network.weights[:-1]]
        self.utility = [np.zeros(n) for n in sizes]
        self.age = [np.zeros(n, int) for n in sizes]
        self.owed = [0.0] * len(sizes)
        self.rate, self.maturity, self.decay = rate, maturity, decay

    def step(self, before, after, observations, beside=()):
        """`beside`: further weights that the last hidden layer feeds. Returns the units to replace per layer."""
        replaced = []
        for layer, hidden in enumerate(activations(before, observations)):
            units, outputs = self.age[layer].size, hidden.shape[-1]
            last = layer == len(self.age) - 1
            leaving = [exact(after.weights[layer + 1]), *(map(exact, beside) if last else ())]
            mean = np.abs(hidden).reshape(-1, outputs).mean(0)
            contribution = np.zeros(units)
            for weight in leaving:
                for column in range(weight.shape[1]):
                    output = column % outputs
                    contribution[output % units] += mean[output] * np.abs(weight[:, column]).sum()
            self.age[layer] += 1
            self.utility[layer] = self.decay * self.utility[layer] + (1 - self.decay) * contribution
            mature = [i for i in range(units) if self.age[layer][i] > self.maturity]
            self.owed[layer] += self.rate * len(mature)
            chosen = []
            while self.owed[layer] >= 1:
                worst = min((i for i in mature if i not in chosen), key=lambda i: self.utility[layer][i])
                chosen.append(worst)
                self.owed[layer] -= 1
            for i in chosen:
                self.utility[layer][i], self.age[layer][i] = 0.0, 0
            replaced.append(sorted(chosen))
        return replaced


def step_of(before, after, observations, fresh, moments, state):
    actor, critic = before.trace(observations)
    return Step(before, after, moments, actor, critic, fresh, jnp.float32(0.1), state)


class Member:
    """One member of the population, with what alg. 1 makes of it."""

    def __init__(self, kind, rng):
        self.kind, self.rng, self.agent = kind, rng, agent_of(kind, rng)
        self.references = {name: Reference(net, RATE, 1, 0.75) for name, net in networks_of(self.agent)}
        self.totals = {"actor": 0, "critic": 0}

    def step(self):
        """Make a gradient step of some kind, and choose units; returns what `after_step` is to be given."""
        self.before, self.after = self.agent, jax.tree.map(lambda x: 1.5 * np.asarray(x) + 0.01, self.agent)
        self.fresh, self.moments = agent_of(self.kind, self.rng), moments_of(self.agent, self.rng)
        observations, self.chosen = observations_of(self.kind, self.rng), {}
        for name, network in networks_of(self.before):
            shares = self.kind.startswith("shared") and name == "actor"
            beside = (self.after.critic.weights[0],) if shares else ()
            after = dict(networks_of(self.after))[name]
            units = self.references[name].step(network, after, observations, beside)
            self.chosen |= {(name, layer): found for layer, found in enumerate(units)}
            self.totals[name] += sum(map(len, units))
        return self.before, self.after, observations, self.fresh, self.moments

    def check(self, changed):
        zeros = zeros_like(self.agent)
        assert_agent_is(changed.agent, expected_renewal(self.after, self.chosen, self.fresh))
        assert_agent_is(changed.moments.mu, expected_renewal(self.moments.mu, self.chosen, zeros))
        assert_agent_is(changed.moments.nu, expected_renewal(self.moments.nu, self.chosen, zeros))
        assert int(changed.moments.count) == int(self.moments.count)
        for name, reference in self.references.items():
            kept = getattr(changed.state.layers, name)
            lists = (reference.utility, reference.age, reference.owed)
            for ours, utility, age, owed in zip(kept, *lists, strict=True):
                np.testing.assert_allclose(ours.utility, utility, rtol=1e-4)
                np.testing.assert_array_equal(ours.age, age)
                assert float(ours.owed) == owed
        self.agent = changed.agent


# Layers of 4 and 5 units owe 1.25 and 1.5625 per step, so that one or two go at once; one of 2 owes 0.625. Sixteenths
# add up without rounding.
RATE = 0.3125


@pytest.mark.parametrize("kind", ["shared_crelu", "convolutional"])
def test_a_run_of_steps_does_what_the_algorithm_does_unit_by_unit_for_every_member(kind, rng):
    remedy = ContinualBackprop(replacement_rate=RATE, maturity=1, decay=0.75)
    members = [Member(kind, rng) for _ in range(2)]
    program = jax.jit(jax.vmap(lambda *parts: remedy.after_step(step_of(*parts))))
    state = stacked([remedy.initial(one.agent) for one in members])
    for number in range(5):
        population = program(*stacked([one.step() for one in members]), state)
        for i, one in enumerate(members):
            one.check(member(population, i))
            assert any(one.chosen.values()) == (number > 0)  # At age 1 nothing is mature.
        state = population.state
    for i, one in enumerate(members):
        end = batch_end(
            agent=one.agent, moments=one.moments, state=jax.tree.map(jnp.asarray, member(state, i))
        )
        changed, numbers = remedy.after_batch(end)
        assert {name: float(numbers[f"replaced_{name}"]) for name in one.totals} == one.totals
        assert [float(x[0]) for x in changed.state.replaced] == [0.0, 0.0]


def test_what_is_owed_adds_up_over_steps_and_young_units_are_safe(rng):
    # 4 mature units at rate 0.0625 owe a quarter of a unit per step: steps 4, 8, … replace one.
    remedy = ContinualBackprop(replacement_rate=0.0625, maturity=0, decay=0.0)
    layer = remedy.initial(agent_of("dense", rng)).layers.actor[0]
    chosen_at = []
    for _ in range(8):
        layer, chosen = remedy._test(layer, jnp.asarray([3.0, 1.0, 2.0, 1.5]))
        chosen_at.append(np.flatnonzero(chosen).tolist())
    assert chosen_at == [[], [], [], [1], [], [], [], [1]]
    # With maturity 5 the unit that was just made is not mature when the next is due: the second worst goes.
    remedy = dataclasses.replace(remedy, maturity=5)
    layer = layer._replace(age=jnp.asarray([9, 0, 9, 9], jnp.int32), owed=jnp.float32(0.5))
    ages = []
    for _ in range(3):
        layer, chosen = remedy._test(layer, jnp.asarray([3.0, 1.0, 2.0, 1.5]))
        ages.append(layer.age.tolist())
    assert ages == [[10, 1, 10, 10], [11, 2, 11, 11], [12, 3, 12, 0]]  # 0.5 + 3 · 3 · 0.0625 = 1.0625
    np.testing.assert_allclose(layer.owed, 0.0625)


def test_a_shared_trunk_leaves_nothing_to_test_in_the_critic(rng):
    state = ContinualBackprop().initial(agent_of("shared", rng))
    assert isinstance(state.layers, Layers)
    assert (len(state.layers.actor), len(state.layers.critic)) == (2, 0)


def test_a_rate_of_zero_is_idle():
    assert ContinualBackprop(replacement_rate=0.0).is_idle()
    assert not ContinualBackprop().is_idle()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"replacement_rate": 1.5}, "continual-backprop.replacement-rate = 1.5: must be between 0 and 1"),
        ({"maturity": -1}, "continual-backprop.maturity = -1: must be at least 0"),
        ({"decay": 1.0}, "continual-backprop.decay = 1.0: must be at least 0 and below 1"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        ContinualBackprop(**fields)
