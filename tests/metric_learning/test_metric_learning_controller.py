"""The controller against PADS's update written in torch, hand arithmetic, and a task that it must learn."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.metric_learning.config import ControllerConfig, SamplerConfig
from escapevelocity.metric_learning.controller import decide, learn, make_controller, take_turn
from escapevelocity.metric_learning.policy_network import forward, initial_network
from escapevelocity.metric_learning.state import state_size
from escapevelocity.runs._arrays import from_arrays, to_arrays

BINS = 4
SAMPLER = SamplerConfig(bins=BINS, init="flat")
SMALL = ControllerConfig(hidden=(8, 8))
STATE = state_size(BINS)

every_head = pytest.mark.parametrize("head", ["softmax", "escort"])
every_method = pytest.mark.parametrize("method", ["ppo", "reinforce"])


def config_of(method="ppo", head="softmax", **options):
    return ControllerConfig(**{"hidden": (8, 8), "method": method, "head": head, **options})


def all_equal(one, two):
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), one, two)))


def in_double(controller):
    """The same controller in float64, so that a comparison is not about rounding."""
    return jax.tree.map(
        lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, controller
    )


class PadsInTorch:
    """`PADS.update` as its code has it, for one network of ours: the update of the policy alone."""

    def __init__(self, torch, controller, config):
        self.torch, self.config = torch, config
        self.parameters = [
            torch.tensor(np.asarray(leaf), requires_grad=True) for leaf in jax.tree.leaves(controller.network)
        ]
        self.old = [leaf.detach().clone() for leaf in self.parameters]
        self.adam = torch.optim.Adam(self.parameters, lr=config.controller_learning_rate)
        self.rewards, self.calls = [], 1

    def forward(self, parameters, state):
        torch = self.torch
        layers = len(self.config.hidden)
        hidden = torch.tensor(state)
        for weight, bias in zip(parameters[:layers], parameters[layers : 2 * layers], strict=True):
            hidden = torch.relu(torch.nn.functional.linear(hidden, weight, bias))
        head, bias, *value = parameters[2 * layers :]
        outputs = torch.nn.functional.linear(hidden, head, bias).view(-1, 3)
        if self.config.head == "escort":
            powers = (1 + outputs).abs() ** self.config.escort_p
            log_probs = torch.log(powers / powers.sum(-1, keepdim=True))
        else:
            log_probs = torch.log_softmax(outputs, -1)
        return log_probs, torch.nn.functional.linear(hidden, *value)[0] if value else None

    def used(self, parameters, state, actions):
        log_probs, value = self.forward(parameters, state)
        return log_probs[range(BINS), torch_list(actions)], value

    def update(self, state, actions, reward, next_state, metric):
        torch = self.torch
        log_probs, value = self.used(self.parameters, state, actions)
        if self.config.method == "ppo":
            next_value = self.forward(self.parameters, next_state)[1].detach()
            advantage = reward + self.config.gamma * next_value - value.detach()
            ratio = torch.exp(log_probs - self.used(self.old, state, actions)[0].detach())
            clipped = torch.clamp(ratio, 1 - self.config.clip_epsilon, 1 + self.config.clip_epsilon)
            loss = -torch.mean(torch.min(ratio * advantage, clipped * advantage))
            loss = loss + 0.5 * torch.nn.functional.mse_loss(value, torch.tensor(metric, dtype=torch.float64))
        else:
            baseline = self.rewards[0] if self.rewards else 0.0
            for earlier in self.rewards[1:]:
                baseline = 0.95 * baseline + 0.05 * earlier
            self.rewards.append(reward)
            loss = -torch.mean((reward - baseline) * log_probs)
        self.adam.zero_grad()
        loss.backward()
        norm = torch.sqrt(sum((p.grad**2).sum() for p in self.parameters))
        self.adam.step()
        if self.calls % self.config.refresh_every == 0 and self.calls > 1:
            self.old = [leaf.detach().clone() for leaf in self.parameters]
        self.calls += 1
        return float(loss.detach()), float(norm)


def torch_list(actions):
    return [int(action) for action in actions]


@every_head
@every_method
def test_twelve_updates_are_those_of_pads_in_torch(rng, method, head):
    torch = pytest.importorskip("torch")
    config = config_of(method, head)
    with jax.enable_x64(True):
        controller = in_double(make_controller(config, SAMPLER, jax.random.key(3)))
        theirs = PadsInTorch(torch, controller, config)
        state = rng.uniform(0, 1, STATE)
        for step in range(12):
            controller, decision = decide(config, controller, jnp.asarray(state), jax.random.key(step))
            reward, metric, next_state = rng.choice([-1.0, 1.0]), rng.uniform(), rng.uniform(0, 1, STATE)
            told = theirs.update(state, decision.actions, reward, next_state, metric)
            controller, report = learn(
                config, controller, jnp.asarray(reward), jnp.asarray(next_state), jnp.asarray(metric)
            )
            np.testing.assert_allclose([report.loss, report.gradient_norm], told, rtol=1e-9)
            state = next_state
        assert int(controller.updates) == 12
        # Two libraries' rounding, twelve steps of 0.01 long; Adam divides by gradients that may be small.
        for leaf, other in zip(jax.tree.leaves(controller.network), theirs.parameters, strict=True):
            np.testing.assert_allclose(leaf, other.detach().numpy(), atol=1e-7)
        if method == "ppo":
            for leaf, other in zip(jax.tree.leaves(controller.old_network), theirs.old, strict=True):
                np.testing.assert_allclose(leaf, other.numpy(), atol=1e-7)


def test_reinforce_subtracts_the_running_mean_of_earlier_rewards():
    config = config_of("reinforce")
    controller = make_controller(config, SAMPLER, jax.random.key(0))
    state = jnp.zeros(STATE, jnp.float32)
    advantages = []
    for step, reward in enumerate([1.0, -1.0, 1.0, 1.0]):
        controller, _ = decide(config, controller, state, jax.random.key(step))
        controller, report = learn(config, controller, jnp.float32(reward), state, jnp.float32(0.5))
        advantages.append(float(report.advantage))
    # Baselines: 0; 1; 0.95·1 + 0.05·(−1) = 0.9; 0.95·0.9 + 0.05 = 0.905.
    np.testing.assert_allclose(advantages, [1.0, -2.0, 0.1, 0.095], rtol=1e-5)
    assert float(controller.baseline) == pytest.approx(0.95 * 0.905 + 0.05, rel=1e-6)
    assert np.isnan([float(report.ratio), float(report.value), float(report.clip_fraction)]).all()
    assert controller.old_network is None
    assert controller.network.value_weight is None


def test_the_old_policy_becomes_the_present_one_at_every_fifth_update():
    controller = make_controller(SMALL, SAMPLER, jax.random.key(0))
    first = controller.old_network
    state = jnp.full(STATE, 0.5, jnp.float32)
    for update in range(1, 11):
        controller, _ = decide(SMALL, controller, state, jax.random.key(update))
        controller, report = learn(SMALL, controller, jnp.float32(1), state, jnp.float32(0.5))
        is_new = all_equal(controller.old_network, controller.network)
        assert is_new == (update % 5 == 0)
        assert all_equal(controller.old_network, first) == (update < 5)
        if update in (1, 6):  # The first after a refreshment: π is π_old.
            assert float(report.ratio) == pytest.approx(1, abs=1e-6)
            assert float(report.clip_fraction) == 0


@every_head
def test_all_weights_zero_act_uniformly(head):
    config = config_of(head=head, weight_std=0.0)
    controller = make_controller(config, SAMPLER, jax.random.key(0))
    _, decision = decide(config, controller, jnp.ones(STATE, jnp.float32), jax.random.key(1))
    thirds = [decision.action_down, decision.action_stay, decision.action_up]
    np.testing.assert_allclose(thirds, 1 / 3, rtol=1e-6)
    assert float(decision.entropy) == pytest.approx(np.log(3), rel=1e-6)
    # Three weights of exp 0: F = −log 3, E = 0 for logits 0 and for θ = 1.
    assert float(decision.free_energy) == pytest.approx(-np.log(3), rel=1e-6)
    assert float(decision.energy) == pytest.approx(0, abs=1e-6)


def test_an_escort_head_with_small_weights_starts_near_the_uniform_policy():
    config = config_of(head="escort", weight_std=1e-2)
    controller = make_controller(config, SAMPLER, jax.random.key(0))
    _, decision = decide(config, controller, jnp.ones(STATE, jnp.float32), jax.random.key(1))
    # |output| ≪ 0.01: 1 + 173 entries through three layers of 0.01 is of order 0.01³·√(173·8·8) ≈ 1e-4; p = 2.
    assert np.log(3) - float(decision.entropy) < 1e-5


def test_the_energies_are_those_of_the_un_normalised_weights():
    for head in ("softmax", "escort"):
        config = config_of(head=head, escort_p=3.0)
        controller = make_controller(config, SAMPLER, jax.random.key(5))
        state = jnp.full(STATE, 3.0, jnp.float32)
        _, decision = decide(config, controller, state, jax.random.key(1))
        outputs = np.asarray(forward(controller.network, state)[0], np.float64)
        logits = outputs if head == "softmax" else 3 * np.log(np.abs(1 + outputs))
        weights = np.exp(logits)
        pi = weights / weights.sum(-1, keepdims=True)
        assert float(decision.energy) == pytest.approx(-(pi * logits).sum(-1).mean(), rel=1e-4, abs=1e-5)
        assert float(decision.free_energy) == pytest.approx(-np.log(weights.sum(-1)).mean(), rel=1e-4)
        assert float(decision.action_up) == pytest.approx(pi[:, 2].mean(), rel=1e-5)


def test_initial_weights_are_uniform_within_pytorchs_bound_or_normal_with_zero_biases():
    config = ControllerConfig()
    network = initial_network(config, 198, 29, jax.random.key(0))
    assert [w.shape for w in network.weights] == [(128, 198), (128, 128)]
    assert network.head_weight.shape == (87, 128)
    for leaf, fan_in in ((network.weights[0], 198), (network.biases[0], 198), (network.head_weight, 128)):
        bound = fan_in**-0.5
        assert float(jnp.max(jnp.abs(leaf))) <= bound
        # Variance bound²/3; the relative error of a variance of n uniform numbers is √(0.8/n), six of them.
        assert float(jnp.var(leaf)) == pytest.approx(bound**2 / 3, rel=6 * np.sqrt(0.8 / leaf.size))
    network = initial_network(ControllerConfig(weight_std=0.3), 198, 29, jax.random.key(0))
    for leaf in (*network.weights, network.head_weight, network.value_weight):
        assert float(jnp.std(leaf)) == pytest.approx(0.3, rel=6 / np.sqrt(2 * leaf.size))
    for leaf in (*network.biases, network.head_bias, network.value_bias):
        assert not leaf.any()


def test_actions_are_drawn_with_the_probabilities_that_are_told():
    config = config_of(weight_std=1.0)
    controller = make_controller(config, SAMPLER, jax.random.key(0))
    state = jnp.full(STATE, 0.05, jnp.float32)
    draws = 4000
    keys = jax.random.split(jax.random.key(1), draws)
    actions = jax.vmap(lambda key: decide(config, controller, state, key)[1].actions)(keys)
    outputs, _ = forward(controller.network, state)
    probs = np.asarray(jax.nn.softmax(outputs, -1))
    for action in range(3):
        share = np.asarray(actions == action).mean(axis=0)
        # Six standard deviations of a binomial share.
        assert (np.abs(share - probs[:, action]) < 6 * np.sqrt(0.25 / draws)).all()


def test_a_decision_moves_the_masses_by_its_actions_and_is_remembered():
    controller = make_controller(SMALL, SAMPLER, jax.random.key(0))
    state = jnp.full(STATE, 0.3, jnp.float32)
    moved, decision = decide(SMALL, controller, state, jax.random.key(4))
    factors = np.array([0.8, 1.0, 1.25])[np.asarray(decision.actions)]
    np.testing.assert_allclose(moved.masses, np.asarray(controller.masses) * factors, rtol=1e-6)
    np.testing.assert_array_equal(moved.actions, decision.actions)
    np.testing.assert_array_equal(moved.state, state)
    assert bool(moved.has_decided)


@every_method
@pytest.mark.parametrize("what", ["reward", "metric", "gradient"])
def test_what_is_not_finite_takes_no_step_and_is_reported(method, what):
    config = config_of(method)
    controller = make_controller(config, SAMPLER, jax.random.key(0))
    state = jnp.full(STATE, 0.3, jnp.float32)
    controller, _ = decide(config, controller, state, jax.random.key(4))
    controller, _ = learn(config, controller, jnp.float32(1), state, jnp.float32(0.5))
    controller, _ = decide(config, controller, state, jax.random.key(5))
    reward, metric = jnp.float32(1), jnp.float32(0.5)
    if what == "reward":
        reward = jnp.float32(jnp.nan)
    elif what == "metric":
        metric = jnp.float32(jnp.inf)
    else:
        controller = controller._replace(state=state.at[0].set(jnp.nan))
    after, report = learn(config, controller, reward, state, metric)
    if (method, what) == ("reinforce", "metric"):  # It has no value to fit.
        assert bool(report.finite)
        return
    assert not bool(report.finite)
    assert not bool(report.updated)
    assert all_equal(
        (after.network, after.moments, after.updates, after.baseline),
        (controller.network, controller.moments, controller.updates, controller.baseline),
    )
    # The last finite metric is what the next change is measured from.
    assert float(after.metric) == 0.5


def test_nothing_is_learned_before_the_first_decision():
    controller = make_controller(SMALL, SAMPLER, jax.random.key(0))
    state = jnp.zeros(STATE, jnp.float32)
    after, report = learn(SMALL, controller, jnp.float32(jnp.nan), state, jnp.float32(0.5))
    assert all_equal(after.network, controller.network)
    assert not bool(report.updated)
    assert bool(report.finite)
    assert np.isnan(float(report.gradient_norm))
    assert float(after.metric) == 0.5


@every_head
def test_outputs_that_are_not_finite_act_uniformly_and_say_so(head):
    config = config_of(head=head)
    controller = make_controller(config, SAMPLER, jax.random.key(0))
    broken = controller._replace(network=jax.tree.map(lambda x: x * jnp.nan, controller.network))
    moved, decision = decide(config, broken, jnp.ones(STATE, jnp.float32), jax.random.key(1))
    assert not bool(decision.finite)
    assert float(decision.entropy) == pytest.approx(np.log(3), rel=1e-6)
    assert bool(jnp.isfinite(moved.masses).all())


def test_a_turn_is_paid_for_the_change_since_the_last_one():
    controller = make_controller(SMALL, SAMPLER, jax.random.key(0))
    paid = []
    for step, level in enumerate([0.5, 0.6, np.nan, 0.55, 0.55]):
        metrics = jnp.full(7, level, jnp.float32)
        controller, turn = take_turn(SMALL, controller, metrics, jnp.float32(step / 5), jax.random.key(step))
        paid.append(float(turn.report.reward))
    # After the hole the change is measured from the last metric there was, 0.6.
    np.testing.assert_equal(paid, [np.nan, 1.0, np.nan, -1.0, 0.0])
    assert int(controller.updates) == 3
    assert int(controller.history.measured) == 5


def test_a_population_decides_and_learns_as_its_members_alone():
    config = SMALL
    keys = jax.random.split(jax.random.key(0), 3)
    make = partial(make_controller, config, SAMPLER)
    together, alone = jax.vmap(make)(keys), [make(key) for key in keys]
    metrics = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (4, 3, 7)), jnp.float32)
    for step, row in enumerate(metrics):
        progress, noise = jnp.float32(step / 4), jax.random.split(jax.random.key(step), 3)
        together, turns = jax.vmap(partial(take_turn, config), in_axes=(0, 0, None, 0))(
            together, row, progress, noise
        )
        for member in range(3):
            alone[member], turn = take_turn(config, alone[member], row[member], progress, noise[member])
            np.testing.assert_array_equal(turns.decision.actions[member], turn.decision.actions)
            # Batched sums round differently, and Adam's first steps have the gradient's sign alone.
            np.testing.assert_allclose(turns.report.loss[member], turn.report.loss, rtol=1e-3, atol=1e-5)


@every_method
def test_a_controller_is_saved_as_named_arrays_and_goes_on_where_it_was(method):
    config = config_of(method)
    controller = make_controller(config, SAMPLER, jax.random.key(0))
    row = jnp.full(7, 0.5, jnp.float32)
    controller, _ = take_turn(config, controller, row, jnp.float32(0), jax.random.key(1))
    arrays = to_arrays(controller)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    fresh = make_controller(config, SAMPLER, jax.random.key(9))
    restored = from_arrays(arrays, fresh, "checkpoint")
    one = take_turn(config, controller, row + 0.1, jnp.float32(0.5), jax.random.key(2))
    two = take_turn(config, restored, row + 0.1, jnp.float32(0.5), jax.random.key(2))
    assert json.dumps(jax.tree.map(lambda x: x.tolist(), one)) == json.dumps(
        jax.tree.map(lambda x: x.tolist(), two)
    )
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), controller, one[0])
    assert all(jax.tree.leaves(same))


@every_head
@every_method
def test_it_learns_to_raise_the_bins_that_it_is_paid_for(method, head):
    """The metric is the share of bins that did what pays: the first two raised, the others lowered."""
    config = config_of(method, head)
    controller = make_controller(config, SAMPLER, jax.random.key(1))
    pays = jnp.array([2, 2, 0, 0], jnp.int32)
    state = jnp.full(STATE, 0.5, jnp.float32)
    right = []
    for step in range(300):
        controller, decision = decide(config, controller, state, jax.random.key(step))
        share = jnp.mean((decision.actions == pays).astype(jnp.float32))
        right.append(float(share))
        # In [−1, 1]: PPO's advantage is r + γV − V ≈ r, which has no mean taken off.
        paid = 2 * share - 1
        controller, _ = learn(config, controller, paid, state, paid)
    # Chance is a third. A share of 100 decisions on 4 bins has a standard deviation of √(2/9/400) = 0.024 then: six
    # of them is 0.47.
    assert np.mean(right[-100:]) > 0.48
    assert np.mean(right[-100:]) > np.mean(right[:20])
