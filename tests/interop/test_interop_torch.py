"""The monitor finds features and pre-activations, whose truth is computed from the weights in NumPy."""

import functools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from escapevelocity import health  # noqa: E402
from escapevelocity.interop import TorchMonitor  # noqa: E402

STATES, INPUTS, UNITS = 50, 4, 12


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mlp(activation=nn.ReLU, seed=0, outputs=2):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(INPUTS, UNITS),
        activation(),
        nn.Linear(UNITS, UNITS),
        activation(),
        nn.Linear(UNITS, outputs),
    )


def observations(states=STATES, seed=1):
    return torch.randn(states, INPUTS, generator=generator(seed))


def layer(linear, inputs):
    """A linear layer in NumPy float64."""
    weight, bias = (x.detach().double().numpy() for x in (linear.weight, linear.bias))
    return np.asarray(inputs, np.float64) @ weight.T + bias


class Functional(nn.Module):
    """Two hidden layers whose activations are functions, and a head."""

    def __init__(self, function, like=None):
        super().__init__()
        source = like or mlp()
        self.first, self.second, self.head = source[0], source[2], source[4]
        self.function = function

    def forward(self, x):
        return self.head(self.function(self.second(self.function(self.first(x)))))


def test_all_columns_of_a_multilayer_perceptron_are_those_of_its_weights():
    net, x = mlp(nn.Tanh), observations()
    row = TorchMonitor(net, mlp(seed=5)).measure(x)
    first = layer(net[0], x)
    second = layer(net[2], np.tanh(first))
    sigma = np.linalg.svd(np.tanh(second), compute_uv=False)
    energy = np.cumsum(sigma**2) / np.sum(sigma**2)
    share = sigma / sigma.sum()
    assert row["health/actor/feature_rank_pca"] == 1 + np.sum(energy < 0.99)
    assert row["health/actor/srank"] == 1 + np.sum(np.cumsum(share) < 0.99)
    assert row["health/actor/effective_rank"] == pytest.approx(
        np.exp(-np.sum(share * np.log(share))), rel=1e-5
    )
    assert row["health/actor/stable_rank"] == pytest.approx(np.sum(sigma**2) / sigma[0] ** 2, rel=1e-5)
    assert row["health/actor/preactivation_norm"] == pytest.approx(
        np.linalg.norm(second, axis=1).mean(), rel=1e-5
    )
    both = np.concatenate([first, second], axis=1)
    assert row["health/actor/preactivation_norm_all"] == pytest.approx(
        np.linalg.norm(both, axis=1).mean(), rel=1e-5
    )
    assert row["health/actor/dead_neurons"] == 0
    assert row["health/undefined"] == ""
    assert set(row) == {"health/undefined"} | {
        f"health/{network}/{name}"
        for network in ("actor", "critic")
        for name in (
            "feature_rank_pca", "effective_rank", "srank", "stable_rank", "feature_rank_lyle",
            "numerical_rank", "dead_neurons", "preactivation_norm", "preactivation_norm_all",
        )
    }  # fmt: skip


def test_every_column_is_in_the_table_of_metrics():
    monitor, x = TorchMonitor(mlp(), mlp(seed=5)), observations()
    for name in monitor.compare(monitor.snapshot(x), x):
        assert health.metric(name)


# Two dead units each: all pre-activations are within ±1 of the biases, which are 1 for the units that live.
DEAD = [
    (nn.ReLU(), -100.0),
    (nn.ReLU(inplace=True), -100.0),
    (nn.GELU(), -100.0),
    (nn.Tanh(), 100.0),
    (nn.LeakyReLU(), -100.0),
    (F.relu, -100.0),
    (torch.relu_, -100.0),
    (lambda x: x.relu(), -100.0),
    (lambda x: F.relu(x, inplace=True), -100.0),
    (F.gelu, -100.0),
    (torch.tanh, 100.0),
    (lambda x: F.leaky_relu(x, 0.2), -100.0),
]


@pytest.mark.parametrize(("activation", "bias"), DEAD)
def test_dead_units_and_preactivations_are_found_behind_modules_functions_and_in_place(activation, bias):
    net, x = Functional(activation), observations()
    with torch.no_grad():
        net.second.weight *= 0.5
        net.second.bias[:] = 1.0
        net.second.bias[:2] = bias
        # NumPy knows no GELU: the first layer's output is torch's, the second layer is computed here.
        inside = layer(net.second, activation(net.first(x)))
    row = TorchMonitor(net).measure(x)
    assert (np.abs(inside - net.second.bias.detach().numpy()) < 1).all()
    assert row["health/actor/dead_neurons"] == 2
    assert row["health/actor/preactivation_norm"] == pytest.approx(
        np.linalg.norm(inside, axis=1).mean(), rel=1e-5
    )
    assert row["health/undefined"] == ""


def test_an_activation_without_a_rule_for_dead_units_says_so_and_measures_the_rest():
    net, x = mlp(nn.SiLU), observations()
    row = TorchMonitor(net).measure(x)
    assert math.isnan(row["health/actor/dead_neurons"])
    assert row["health/undefined"] == "health/actor/dead_neurons: a dead unit has no definition for silu"
    assert row["health/actor/preactivation_norm"] > 0


def test_an_activation_that_nobody_knows_is_said_and_helped_by_its_name():
    def hand_made(x):
        return torch.where(x > 0, x, 0)

    net, x = Functional(hand_made), observations()
    with torch.no_grad():
        net.second.bias[:] = 1.0
        net.second.bias[:3] = -100.0
    blind = TorchMonitor(net).measure(x)
    truth = TorchMonitor(Functional(F.relu, [net.first, None, net.second, None, net.head])).measure(x)
    assert "no known activation between the last hidden layer and the features" in blind["health/undefined"]
    for name in ("dead_neurons", "preactivation_norm", "preactivation_norm_all"):
        assert math.isnan(blind["health/actor/" + name])
        assert "health/actor/" + name in blind["health/undefined"]
    assert blind["health/actor/feature_rank_pca"] == truth["health/actor/feature_rank_pca"]
    told = TorchMonitor(net, activation="relu").measure(x)
    assert told["health/actor/dead_neurons"] == truth["health/actor/dead_neurons"] == 3
    assert told["health/actor/preactivation_norm"] == truth["health/actor/preactivation_norm"]


def test_layer_norm_before_the_activation_belongs_to_the_preactivations():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.LayerNorm(UNITS), nn.ReLU(), nn.Linear(UNITS, 1))
    row = TorchMonitor(net).measure(observations())
    # Layer norm leaves vectors of length √D (but for its ε of 1e-5).
    assert row["health/actor/preactivation_norm"] == pytest.approx(math.sqrt(UNITS), rel=1e-3)


def test_norm_after_the_activation_changes_the_features_but_not_which_units_are_dead():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.ReLU(), nn.LayerNorm(UNITS), nn.Linear(UNITS, 1))
    with torch.no_grad():
        net[0].bias[:] = 10.0
        net[0].bias[:4] = -100.0
    seen = TorchMonitor(net).snapshot(observations())
    assert TorchMonitor(net).measure(observations())["health/actor/dead_neurons"] == 4
    np.testing.assert_allclose(np.linalg.norm(seen.networks["actor"].features, axis=1), UNITS**0.5, rtol=1e-3)


class Convolutional(nn.Module):
    """A small Nature CNN with functional pooling and flattening, a shared trunk and two heads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(1, 3, 3)
        self.hidden = nn.Linear(3 * 3 * 3, UNITS)
        self.policy, self.value = nn.Linear(UNITS, 2), nn.Linear(UNITS, 1)
        self.runs = 0

    def forward(self, images):
        self.runs += 1
        x = F.max_pool2d(F.relu(self.conv(images)), 2)
        x = F.relu(self.hidden(x.flatten(1)))
        return self.policy(x), self.value(x)


def test_a_shared_convolutional_trunk_is_run_once_and_belongs_to_both():
    net, images = Convolutional(), torch.rand(300, 1, 8, 8, generator=generator())
    row = TorchMonitor(net.policy, net.value, forward=net).measure(images)
    assert net.runs == 2  # 256 images and 44
    for name in ("feature_rank_pca", "preactivation_norm", "preactivation_norm_all"):
        assert row[f"health/actor/{name}"] == row[f"health/critic/{name}"]
    with torch.no_grad():
        maps = net.conv(images)
        inside = net.hidden(F.max_pool2d(maps.relu(), 2).flatten(1))
    both = torch.cat([maps.flatten(1), inside], dim=1).double().numpy()
    assert both.shape == (300, 3 * 36 + UNITS)
    assert row["health/actor/preactivation_norm_all"] == pytest.approx(
        np.linalg.norm(both, axis=1).mean(), rel=1e-5
    )
    expected = health.feature_ranks(inside.relu().numpy()).values
    assert row["health/actor/effective_rank"] == pytest.approx(expected["effective_rank"], rel=1e-5)


def test_a_recording_of_someone_elses_passes_counts_them_as_one_batch():
    net, x = mlp(), observations()
    monitor = TorchMonitor(net)
    with monitor.recording() as seen:
        assert seen.networks == {}
        for part in x.split(20):
            net(part).sum().backward()
    whole = monitor.snapshot(x).networks["actor"]
    for name in ("features", "preactivations", "activations"):
        np.testing.assert_allclose(
            getattr(seen.networks["actor"], name), getattr(whole, name), rtol=1e-5, atol=1e-6
        )
    assert seen.networks["actor"].preactivation_norm_all == pytest.approx(
        whole.preactivation_norm_all, rel=1e-5
    )


class Dropped(nn.Module):
    """Batch norm and dropout between the layers, and a random draw in the forward pass."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(INPUTS, UNITS), nn.BatchNorm1d(UNITS), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(UNITS, 1)

    def act(self, x):
        return self.head(self.body(x)) + torch.randn(len(x), 1)


class Counting(nn.Module):
    """Counts its states in any mode, half of them into a new tensor."""

    def __init__(self):
        super().__init__()
        self.register_buffer("written", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))

    def forward(self, x):
        self.written += len(x)
        self.replaced = self.replaced + len(x)
        return x


def act(net, x):
    return net.act(x)


RUNS = {
    "method": lambda net: net.act,
    "lambda": lambda net: lambda x: net.act(x),
    "partial": lambda net: functools.partial(act, net),
    "hidden": lambda net: lambda x, box={"net": net}: box["net"].act(x),  # Names no module.
}


@pytest.mark.parametrize("kind", RUNS)
def test_measuring_leaves_modes_statistics_gradients_random_numbers_and_hooks_as_they_were(kind):
    net, x = Dropped(), observations()
    net.body.append(Counting())
    net.body[3].eval()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    buffers = dict(net.named_buffers())
    modes = [module.training for module in net.modules()]
    drawn = torch.get_rng_state()
    monitor = TorchMonitor(net.head, forward=RUNS[kind](net))
    first, second = monitor.measure(x), monitor.measure(x)
    assert first == second  # no dropout, no batch statistics
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert all(buffers[name] is tensor for name, tensor in net.named_buffers())
    assert all(p.grad is None for p in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert not torch.nn.modules.module._global_forward_pre_hooks


@pytest.mark.parametrize("kind", RUNS)
def test_measuring_between_a_forward_and_a_backward_pass_does_not_break_it(kind):
    net, x = Dropped(), observations()
    loss = net.act(x).sum()
    TorchMonitor(net.head, forward=RUNS[kind](net)).measure(x)
    loss.backward()
    assert net.head.weight.grad is not None


def test_hooks_and_modes_are_put_back_when_the_forward_pass_raises():
    net = mlp()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        TorchMonitor(net).measure(torch.zeros(3, INPUTS + 1))
    assert not any(module._forward_hooks for module in net.modules())
    assert net.training


def test_a_snapshot_shares_no_memory_with_the_network():
    net, x = mlp(), observations()
    with torch.no_grad(), TorchMonitor(net[4], forward=net).recording() as seen:
        hidden = net[:4](x)
        net[4](hidden)
    kept = hidden.numpy().copy()
    hidden.fill_(7.0)
    np.testing.assert_array_equal(seen.networks["actor"].features, kept)


def test_change_is_that_between_the_features_before_and_after():
    net, x = mlp(nn.Tanh), observations()
    monitor = TorchMonitor(net)
    before = monitor.snapshot(x)
    old = layer(net[2], np.tanh(layer(net[0], x)))
    with torch.no_grad():
        net[2].weight.mul_(1.5)
    new = layer(net[2], np.tanh(layer(net[0], x)))
    row = monitor.compare(before, x, {"trust/": health.explain({"kl": 0.25})})
    assert row["change/actor/preactivations_l2"] == pytest.approx(np.mean((new - old) ** 2), rel=1e-4)
    assert row["change/actor/features_l2"] == pytest.approx(
        np.mean((np.tanh(new) - np.tanh(old)) ** 2), rel=1e-4
    )
    cosine = np.sum(new * old, axis=1) / np.linalg.norm(new, axis=1) / np.linalg.norm(old, axis=1)
    assert row["change/actor/preactivations_cosine"] == pytest.approx(np.mean(1 - cosine), rel=1e-3)
    for suffix, inside in (("", old), ("_after", new)):
        assert row["health/actor/preactivation_norm" + suffix] == pytest.approx(
            np.linalg.norm(inside, axis=1).mean(), rel=1e-5
        )
    assert row["trust/kl"] == 0.25


def test_snapshots_of_other_states_or_networks_are_not_compared():
    monitor, x = TorchMonitor(mlp()), observations()
    before = monitor.snapshot(x)
    with pytest.raises(ValueError, match=r"after: actor has features of shape \(7, 12\): must be \(50, 12\)"):
        monitor.compare(before, x[:7])
    with pytest.raises(ValueError, match="after: holds actor, critic: must hold actor, as before does"):
        TorchMonitor(mlp(), mlp()).compare(before, x)
    with monitor.recording() as unfinished:
        with pytest.raises(ValueError, match="before: holds no networks"):
            monitor.compare(unfinished, x)
        monitor._networks["actor"](x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_give_the_numbers_of_the_same_values(dtype):
    net, x = mlp().to(dtype), observations().to(dtype)
    row = TorchMonitor(net).measure(x)
    with torch.no_grad():
        inside = net[:3](x).double().numpy()
    assert row["health/actor/preactivation_norm"] == pytest.approx(
        np.linalg.norm(inside, axis=1).mean(), rel=1e-5
    )
    expected = health.feature_ranks(np.maximum(inside, 0)).values
    assert row["health/actor/effective_rank"] == pytest.approx(expected["effective_rank"], rel=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_of_a_gpu_give_the_numbers_of_the_host():
    net, x = mlp(), observations()
    host = TorchMonitor(net).measure(x)
    device = TorchMonitor(net.cuda()).measure(x.cuda())
    assert device.pop("health/undefined") == host.pop("health/undefined")
    assert device == pytest.approx(host, rel=1e-3)  # TF32 may be on


def test_a_batch_of_one_and_a_single_state_are_measured():
    x = observations(1)
    batch = TorchMonitor(mlp()).measure(x)
    assert batch == TorchMonitor(mlp()).measure(x[0])
    assert batch["health/actor/feature_rank_pca"] == 1
    row = TorchMonitor(mlp(nn.Tanh)).measure(x)
    assert math.isnan(row["health/actor/dead_neurons"])
    assert row["health/undefined"] == "health/actor/dead_neurons: one state has no spread"


def test_nan_weights_are_undefined_with_the_reason():
    net = mlp()
    with torch.no_grad():
        net[2].weight[0, 0] = torch.nan
    row = TorchMonitor(net).measure(observations())
    assert math.isnan(row["health/actor/feature_rank_pca"])
    assert "health/actor/feature_rank_pca" in row["health/undefined"]
    assert "features contain NaN" in row["health/undefined"]
    assert "pre-activations contain NaN" in row["health/undefined"]


def test_two_heads_on_the_same_features_are_one_head():
    class Normal(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.mean, self.log_std = mlp()[:4], nn.Linear(UNITS, 2), nn.Linear(UNITS, 2)

        def forward(self, x):
            x = self.body(x)
            return self.mean(x), self.log_std(x)

    row = TorchMonitor(Normal()).measure(observations())
    assert (
        row["health/actor/feature_rank_pca"]
        == TorchMonitor(mlp()).measure(observations())["health/actor/feature_rank_pca"]
    )


class Separate(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy, self.value = mlp(), mlp(seed=5, outputs=1)

    def forward(self, x):
        return self.policy(x), self.value(x)


def test_two_towers_in_one_module_are_not_taken_for_an_actor():
    net = Separate()
    with pytest.raises(
        ValueError, match=r"actor: has several heads on different features, policy\.4, value\.4"
    ):
        TorchMonitor(net).measure(observations())
    row = TorchMonitor(net.policy, net.value, forward=net).measure(observations())
    alone = TorchMonitor(net.policy, net.value).measure(observations())
    assert row == alone
    assert row["health/actor/effective_rank"] != row["health/critic/effective_rank"]


def test_another_layer_is_measured_by_giving_what_reads_it():
    net, x = mlp(), observations()
    seen = TorchMonitor(net[2], forward=net).snapshot(x).networks["actor"]
    np.testing.assert_allclose(seen.preactivations, layer(net[0], x), rtol=1e-4, atol=1e-5)


def test_a_recurrent_layer_is_a_hidden_layer_whose_activations_are_not_seen():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.memory, self.head = nn.LSTM(INPUTS, UNITS), nn.Linear(UNITS, 1)

        def forward(self, x):
            return self.head(self.memory(x)[0])

    seen = TorchMonitor(Recurrent()).snapshot(torch.randn(5, 6, INPUTS, generator=generator()))
    assert seen.networks["actor"].features.shape == (30, UNITS)
    assert "no known activation" in seen.networks["actor"].why


def test_features_that_join_branches_have_ranks_but_no_preactivations():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.one, self.two, self.head = nn.Linear(INPUTS, 8), nn.Linear(INPUTS, 8), nn.Linear(8, 1)

        def forward(self, x):
            return self.head(self.one(x).relu() + self.two(x).tanh())

    row = TorchMonitor(Residual()).measure(observations())
    assert row["health/actor/numerical_rank"] == 8
    assert "the features join 2 branches of the network" in row["health/undefined"]
    assert math.isnan(row["health/actor/preactivation_norm"])


def test_a_network_without_a_hidden_layer_is_refused_with_its_layers():
    net = nn.Sequential(nn.Flatten(), nn.Linear(INPUTS, 2))
    with pytest.raises(
        ValueError,
        match=r"actor: nothing to measure, it has no hidden layer; looked for a linear, convolutional or recurrent "
        r"layer before its head 1 \(Linear\); its layers: 0 \(Flatten\), 1 \(Linear\)",
    ):
        TorchMonitor(net).measure(observations())


def test_a_head_that_never_runs_is_refused_with_what_was_looked_for():
    net, unused = mlp(), mlp()
    with pytest.raises(
        ValueError,
        match=r"critic: nothing to measure, its head never ran in this recording; looked for a call of "
        r"0 \(Linear\), 2 \(Linear\), 4 \(Linear\)",
    ):
        TorchMonitor(net, unused, forward=net).measure(observations())


def test_layers_hidden_from_python_are_said():
    net = mlp()
    # torch.jit says that it is deprecated; runs with it exist.
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        body = torch.jit.trace(net[:4], observations())
    mixed = nn.Sequential(nn.Linear(INPUTS, INPUTS), body, net[4])
    row = TorchMonitor(mixed).measure(observations())
    assert "hides them" in row["health/undefined"]
    assert row["health/actor/feature_rank_pca"] >= 1


@pytest.mark.parametrize("kind", ["module", "forward", "in place"])
def test_compiled_networks_are_measured_as_they_were_written(kind):
    if not hasattr(torch.compiler, "set_stance"):
        pytest.skip("torch.compiler.set_stance came with PyTorch 2.6")
    net, x = mlp(), observations()
    expected = TorchMonitor(net).measure(x)
    # The compiler's front end alone: what it hands to a back end does not matter here.
    if kind == "in place":
        net.compile(backend="eager")
        monitor = TorchMonitor(net)
    else:
        compiled = torch.compile(net, backend="eager")
        compiled(x)
        monitor = TorchMonitor(compiled) if kind == "module" else TorchMonitor(net[4], forward=compiled)
    found = monitor.measure(x)
    assert {k: found[k] for k in found if not k.startswith("time/")} == pytest.approx(
        {k: expected[k] for k in found if not k.startswith("time/")}
    )


@pytest.mark.parametrize("clip", [lambda x: x.clamp_(min=0), nn.Threshold(0.0, 0.0, inplace=True)])
def test_a_named_activation_that_overwrites_its_input_has_the_same_preactivations(clip):
    x = observations()
    expected = TorchMonitor(Functional(lambda x: x.clamp(min=0)), activation="relu").measure(x)
    assert TorchMonitor(Functional(clip), activation="relu").measure(x) == pytest.approx(expected)


def test_an_unknown_activation_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="activation = 'swish': must be None or one of relu, gelu, tanh, leaky_relu"
    ):
        TorchMonitor(mlp(), activation="swish")
