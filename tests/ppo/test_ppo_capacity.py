"""Capacity loss: the fit against PyTorch's, what all snapshots share, and what it is measured on."""

import copy
import dataclasses
import itertools
from functools import cache

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import BOX, DISCRETE, INPUTS, assert_same_bits, numpy_mlp, small_spec, to_torch
from walk_runs import WALK

from escapevelocity.envs import FrameStack, environment_seeds
from escapevelocity.errors import UserError
from escapevelocity.ppo.capacity import COLUMNS, CapacityConfig, CapacityMeter, Probe, build_fit
from escapevelocity.ppo.capacity_data import Observations, ProbeSize, probe_size, stacked
from escapevelocity.ppo.job import task_of
from escapevelocity.ppo.networks import Actor, Agent, Network

SAMPLES, EVERYONE = 40, slice(0, 2)
SIZE = ProbeSize(steps=200, epochs=2, num_envs=2)
FITS = (("tanh_normal", 4, "separate"), ("softmax", 3, "shared"), ("escort", 3, "separate"))
"""Head, its outputs, trunk."""


def task_for(head):
    return BOX if head == "tanh_normal" else DISCRETE


def torch_kl(head, target, params):
    """KL(target ‖ network) per state from the heads' raw outputs, by PyTorch's distributions."""
    import torch

    def distribution(outputs):
        if head == "softmax":
            return torch.distributions.Categorical(logits=outputs)
        if head == "escort":
            weights = outputs.abs() ** 2
            return torch.distributions.Categorical(probs=weights / weights.sum(-1, keepdim=True))
        return torch.distributions.Independent(torch.distributions.Normal(*torch_mean_and_std(outputs)), 1)

    return torch.distributions.kl_divergence(distribution(target), distribution(params))


def torch_mean_and_std(outputs):
    import torch

    mean, x = outputs.chunk(2, dim=-1)
    # ppo_collapse.md: std = softplus(x + ln(e^0.99 − 1)) + 0.01
    return mean, torch.nn.functional.softplus(x + np.log(np.expm1(0.99))) + 0.01


def torch_outputs(weights, inputs, head):
    """Actor's outputs and values of hidden layers with tanh; a critic of one layer sits on the actor's features."""
    actor, critic = weights

    def run(layers, hidden):
        features = hidden
        for weight, bias in layers[:-1]:
            features = (features @ weight.T + bias).tanh()
        return features @ layers[-1][0].T + layers[-1][1], features

    outputs, features = run(actor, inputs)
    values, _ = run(critic, features if len(critic) == 1 else inputs)
    return (1 + outputs if head == "escort" else outputs), values[:, 0]


def torch_layers(agent):
    """Weights and biases of actor and critic in float64, for autograd."""
    return [
        [
            tuple(to_torch(x).double().requires_grad_() for x in pair)
            for pair in zip(network.weights, network.biases, strict=True)
        ]
        for network in (agent.actor.network, agent.critic)
    ]


def torch_fit(spec, agent, wanted, inputs, order):
    """The same fit by PyTorch's autograd and Adam in float64."""
    import torch

    weights = torch_layers(agent)
    groups = [[x for pair in network for x in pair] for network in weights]
    everything = [x for group in groups for x in group]
    config, head = spec.optimizer, spec.network.head
    optimizer = torch.optim.Adam(everything, config.learning_rate, eps=config.adam_eps)
    inputs = to_torch(inputs).double()

    def losses(samples):
        outputs, values = torch_outputs(weights, inputs[samples], head)
        kl = torch_kl(head, wanted[0][samples], outputs)
        return kl.mean(), ((values - wanted[1][samples]) ** 2).mean()

    steps = []
    for samples in order:
        optimizer.zero_grad()
        actor, critic = losses(samples)
        (actor + critic).backward()
        for group in [everything] if spec.network.trunk == "shared" else groups:
            torch.nn.utils.clip_grad_norm_(group, config.max_grad_norm)
        optimizer.step()
        steps.append((actor.item(), critic.item()))
    with torch.no_grad():
        whole = [x.item() for x in losses(slice(None))]
    return np.array(steps), whole


def random_network(rng, sizes):
    """A network of these sizes with weights of a fresh one's scale, put together without a compiler."""
    shapes = list(itertools.pairwise(sizes))
    weights = [rng.normal(size=(n, m)) / np.sqrt(m) for m, n in shapes]
    biases = [0.1 * rng.normal(size=n) for _, n in shapes]
    return Network(*(tuple(jnp.asarray(x, jnp.float32) for x in arrays) for arrays in (weights, biases)))


def random_agent(rng, outputs, shared=False):
    critic = random_network(rng, [8, 1] if shared else [INPUTS, 8, 8, 1])
    return Agent(Actor(random_network(rng, [INPUTS, 8, 8, outputs]), None), critic)


def members(*trees):
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def small_probe(rng, params, values, inputs):
    """One member's probe of eight minibatches."""
    order = rng.integers(SAMPLES, size=(8, 16)).astype(np.int32)
    arrays = (jnp.asarray(np.asarray(x, np.float32)) for x in (params, values))
    return members(Probe(Observations(jnp.asarray(inputs), None), *arrays, jnp.asarray(order)))


@pytest.mark.parametrize(("head", "outputs", "trunk"), FITS)
def test_the_fit_is_that_of_pytorch(head, outputs, trunk, rng):
    torch = pytest.importorskip("torch")
    spec = small_spec(head, network={"trunk": trunk})
    agent, target = (random_agent(rng, outputs, trunk == "shared") for _ in range(2))
    inputs = rng.normal(size=(SAMPLES, INPUTS)).astype(np.float32)
    with torch.no_grad():
        wanted = torch_outputs(torch_layers(target), to_torch(inputs).double(), head)
    params = wanted[0]
    if head == "tanh_normal":
        params = torch.cat(torch_mean_and_std(params), -1)
    probe = small_probe(rng, params, wanted[1], inputs)
    fit = build_fit(spec, task_for(head), SIZE).fit(members(agent), probe)
    steps, whole = torch_fit(spec, agent, wanted, inputs, np.array(probe.order[0]))
    # Eight steps of Adam in float32 against float64: a KL is a difference of numbers of order 1, each good to 1e-7.
    close = {"rtol": 2e-4, "atol": 1e-6}
    np.testing.assert_allclose(fit.actor[0], steps[:, 0], **close)
    np.testing.assert_allclose(fit.critic[0], steps[:, 1], **close)
    # What is stored: the last minibatch's losses, then the whole data's.
    stored = [fit.columns()[name][0] for name in COLUMNS]
    np.testing.assert_allclose(stored, [*steps[-1], *whole], **close)


def test_a_network_that_is_its_own_target_has_nothing_to_fit(rng):
    target = random_agent(rng, 4)
    inputs = rng.normal(size=(SAMPLES, INPUTS)).astype(np.float32)
    mean, x = np.split(numpy_mlp(target.actor.network, inputs)[0], 2, axis=-1)
    std = np.logaddexp(0, x + np.log(np.expm1(0.99))) + 0.01
    values = numpy_mlp(target.critic, inputs)[0][:, 0]
    probe = small_probe(rng, np.concatenate([mean, std], -1), values, inputs)
    fit = build_fit(small_spec("tanh_normal"), BOX, SIZE).fit(members(target), probe)
    # Outputs of order 1 that were rounded once, by 6e-8, and squared.
    assert abs(fit.actor[0, 0]) < 1e-12
    assert 0 <= fit.critic[0, 0] < 1e-12


@cache
def meter(seeds=(1, 2), data="initial", probe_seed=0):
    spec = dataclasses.replace(WALK, seeds=seeds)
    statistics = jnp.zeros((len(seeds), 3)), jnp.ones((len(seeds), 3))
    return CapacityMeter(spec, *statistics, CapacityConfig(data, probe_seed), SIZE)


@pytest.fixture
def agents(rng):
    return members(*(random_agent(rng, 3) for _ in range(2)))


def fresh_meter():
    return meter.__wrapped__()


def test_all_snapshots_of_a_run_meet_one_target_and_one_set_of_data(agents):
    (block,) = meter().blocks
    assert block == EVERYONE
    assert meter().probe(block) is meter().probe(block)
    assert_same_bits(meter().probe(block), fresh_meter().probe(block))
    once, again = meter().measure(agents, block), fresh_meter().measure(agents, block)
    assert list(once) == list(COLUMNS)
    for name in COLUMNS:
        assert once[name].shape == (2,)
        np.testing.assert_array_equal(once[name], again[name])
    other = meter().measure(jax.tree.map(lambda x: 2 * x, agents), block)
    assert all((once[name] != other[name]).all() for name in COLUMNS)


def test_a_members_probe_follows_from_its_own_seed_and_the_probe_seed_alone():
    whole, elsewhere = meter().probe(EVERYONE), meter((2, 9)).probe(EVERYONE)
    assert_same_bits(jax.tree.map(lambda x: x[1], whole), jax.tree.map(lambda x: x[0], elsewhere))
    other = meter(probe_seed=1).probe(EVERYONE)
    for own, others in zip(jax.tree.leaves(whole), jax.tree.leaves(other), strict=True):
        assert (own != others).any()
        assert (own[0] != own[1]).any()  # Nor do two members share anything.


def test_every_epoch_is_a_permutation_without_the_incomplete_minibatch():
    order = np.asarray(meter().probe(EVERYONE).order)
    # 200 samples are 12 minibatches of 16; 8 samples are left out, other ones in each epoch.
    assert order.shape == (2, 2 * 12, 16)
    for member in order:
        epochs = member.reshape(2, 12 * 16)
        assert all(len(set(epoch)) == 12 * 16 for epoch in epochs.tolist())
        assert set(epochs[0]) != set(epochs[1])
        assert (epochs >= 0).all()
        assert (epochs < 200).all()


def test_the_data_are_a_walk_of_environments_of_the_probes_own():
    frames = np.asarray(meter().probe(EVERYONE).observations.frames).reshape(2, 100, 2, 3)
    # Two environments of each seed, as in a segment that no run reaches.
    seeds = np.array(environment_seeds((1, 2), 2, segment=2**31)).reshape(2, 2)
    for member, env in np.ndindex(2, 2):
        walk = gymnasium.make("EvWalk-v0").unwrapped
        observation, _ = walk.reset(seed=int(seeds[member, env]))
        np.testing.assert_array_equal(frames[member, 0, env], observation)
        elapsed = 0
        for seen in frames[member, 1:, env]:
            walk, elapsed = followed(walk, elapsed, seen)


def followed(walk, elapsed, seen):
    """The walk after one of its three actions, whichever leads to what was `seen`; an ended one begins anew."""
    for action in range(3):
        other = copy.deepcopy(walk)
        observation, _, terminated, _, _ = other.step(action)
        ended = terminated or elapsed == 5  # Six steps long.
        if ended:
            observation, _ = other.reset()
        if np.array_equal(observation, seen):
            return other, 0 if ended else elapsed + 1
    raise AssertionError(f"no action leads to {seen}")


def test_the_target_can_be_the_one_that_acts():
    target, own = (meter(data=data).probe(EVERYONE) for data in ("target", "initial"))
    frames, others = target.observations.frames, own.observations.frames
    # The first observations of the two environments come before any action.
    np.testing.assert_array_equal(frames[:, :2], others[:, :2])
    assert (frames != others).any(axis=(1, 2)).all()
    # What is fitted to is the same network.
    np.testing.assert_array_equal(target.params[:, :2], own.params[:, :2])


@pytest.mark.parametrize("depth", [1, 4])
def test_screens_stored_once_give_the_stacks_that_the_network_saw(rng, depth):
    length, envs = 60, 3
    ended = rng.random((length, 1, envs)) < 0.2
    screens = rng.integers(256, size=(length, envs, 84, 84), dtype=np.uint8)
    stacks = np.zeros((length, envs, 84, 84, 4), np.uint8)
    elapsed, current = np.zeros(envs, np.int64), np.zeros((envs, 84, 84, 4), np.uint8)
    for step in range(length):
        FrameStack().write(screens[step], elapsed, current)
        stacks[step] = current
        elapsed = np.where(ended[step, 0], 0, elapsed + 1)
    observations = Observations(
        jnp.asarray(screens.reshape(-1, 84, 84)), jnp.asarray(stacked(ended, depth)[0])
    )
    samples = np.asarray(rng.permutation(length * envs)[:50], np.int32)
    taken = observations.take(jnp.asarray(samples))
    np.testing.assert_array_equal(taken, stacks.reshape(-1, 84, 84, 4)[samples][..., 4 - depth :])


def test_sizes_are_those_of_the_paper():
    atari = dataclasses.replace(BOX, backend="ale")
    # 108,000 frames of one game, three at a time; 1,000 steps of four environments.
    assert probe_size(atari) == (108_000 // 3, 1, 1)
    assert probe_size(BOX) == (4 * 1000, 4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probe_seed": -1}, "^probe-seed = -1: must be from 0 to 2147483647$"),
        ({"probe_seed": 2**31}, "^probe-seed = 2147483648: must be from 0 to 2147483647$"),
    ],
)
def test_mistakes_in_the_probe_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        CapacityConfig(**changes)


def test_less_data_than_a_minibatch_are_refused():
    statistics = jnp.zeros((3, 3)), jnp.ones((3, 3))
    message = "^minibatch-size = 16: must be at most 12, the samples that capacity is measured on$"
    with pytest.raises(UserError, match=message):
        CapacityMeter(WALK, *statistics, size=ProbeSize(12, 1, 2))


@pytest.mark.slow
def test_a_game_is_measured_member_by_member_on_the_stacks_of_its_screens():
    pytest.importorskip("ale_py")
    from escapevelocity.ppo.presets import preset_spec
    from escapevelocity.ppo.programs import build_programs

    spec = preset_spec("atari", "ALE/Phoenix-v5", discrete=True, seeds=(1, 2))
    network = dataclasses.replace(spec.network, hidden=(8,))
    optimizer = dataclasses.replace(spec.optimizer, minibatch_size=16)
    spec = dataclasses.replace(spec, network=network, optimizer=optimizer)
    nothing = jnp.zeros((2, 0))  # Images are not normalised.
    game = CapacityMeter(spec, nothing, nothing, size=ProbeSize(40, 2, 1))
    agents = build_programs(spec, task_of(spec)).initialize(jnp.arange(1, 3, dtype=jnp.uint32)).agent
    assert game.blocks == [slice(0, 1), slice(1, 2)]
    second = game.fit(agents, slice(1, 2))
    probe = game.probe(slice(1, 2))
    assert probe.observations.frames.shape == (1, 40, 84, 84)
    assert probe.order.shape == (1, 2 * 2, 16)
    # Before its first step the fit compares what both networks say of the first minibatch's stacks.
    frames, stacks = np.asarray(probe.observations.frames[0]), np.asarray(probe.observations.stacks[0])
    seen = jnp.asarray(np.moveaxis(frames[stacks[probe.order[0, 0]]], 1, -1))
    values = jax.tree.map(lambda x: x[1], agents).values(seen)
    error = np.mean((np.asarray(values) - np.asarray(probe.values[0])[probe.order[0, 0]]) ** 2)
    np.testing.assert_allclose(second.critic[0, 0], error, rtol=1e-4)
    game.keep_only(slice(0, 1))
    assert_same_bits(game.fit(agents, slice(1, 2)), second)
