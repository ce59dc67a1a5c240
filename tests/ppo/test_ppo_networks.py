import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import new_agent, to_torch, torch_mlp

from escapevelocity.ppo.config import NetworkConfig
from escapevelocity.ppo.initialization import initial_agent
from escapevelocity.ppo.networks import ACTIVATIONS, Network

INPUTS, OUTPUTS, AGENTS = 12, 6, 40


@pytest.fixture(scope="module")
def many_agents():
    """Forty initialised agents of the paper's shape, as arrays with the agents as first axis."""
    keys = jax.random.split(jax.random.key(7), AGENTS)

    def make(config):
        return jax.jit(jax.vmap(lambda key: initial_agent(key, config, INPUTS, OUTPUTS)))(keys)

    return {name: make(NetworkConfig(initialization=name)) for name in ("torch", "orthogonal")}


def test_torch_initialisation_is_that_of_nn_linear(many_agents):
    torch = pytest.importorskip("torch")
    from scipy.stats import ks_2samp

    torch.manual_seed(0)
    for network, outputs in ((many_agents["torch"].actor.network, OUTPUTS), (many_agents["torch"].critic, 1)):
        sizes = (INPUTS, 64, 64, outputs)
        for layer in range(3):
            fan_in, fan_out = sizes[layer], sizes[layer + 1]
            theirs = [torch.nn.Linear(fan_in, fan_out) for _ in range(AGENTS)]
            for array, name in ((network.weights[layer], "weight"), (network.biases[layer], "bias")):
                ours = np.asarray(array).ravel()
                samples = np.concatenate(
                    [getattr(linear, name).detach().numpy().ravel() for linear in theirs]
                )
                assert ours.shape == samples.shape
                # PyTorch documents U(−1/√fan_in, 1/√fan_in) for both. Float32 rounds the bound itself.
                bound = fan_in**-0.5 * (1 + 1e-6)
                assert np.abs(ours).max() <= bound
                # Two equal distributions differ by more than c·√(2/n) with probability 2·exp(−2c²) (Smirnov);
                # c = 2.6 makes that 3e-6 for each of these 12 comparisons.
                assert ks_2samp(ours, samples).statistic < 2.6 * np.sqrt(2 / ours.size)
                assert abs(ours.mean()) < 5 * bound / np.sqrt(3 * ours.size)  # five standard errors


def test_orthogonal_initialisation_has_orthonormal_rows_or_columns_times_the_gain(many_agents):
    agent = many_agents["orthogonal"]
    for network, head_gain in ((agent.actor.network, 0.01), (agent.critic, 1.0)):
        for weights, gain in zip(network.weights, (2**0.5, 2**0.5, head_gain), strict=True):
            rows, columns = weights.shape[1:]
            for weight in np.asarray(weights, np.float64)[:3] / gain:
                gram = weight @ weight.T if rows <= columns else weight.T @ weight
                # QR in float32: 64 products of rounding error 6e-8 each.
                np.testing.assert_allclose(gram, np.eye(min(rows, columns)), atol=64 * 6e-8)
        assert all(not np.any(bias) for bias in network.biases)


def test_no_batch_of_matrices_is_factored_at_once():
    # Such batches hang for ever now and then; a test that waits for it would not fail each time, so read the program.
    config = NetworkConfig(initialization="orthogonal")
    program = jax.jit(jax.vmap(lambda key: initial_agent(key, config, INPUTS, OUTPUTS)))
    program = program.lower(jax.random.split(jax.random.key(0), 3))
    calls = [line for line in program.as_text().splitlines() if "qr" in line and "custom_call" in line]
    shapes = re.findall(r"tensor<([0-9x]+)xf32>", " ".join(calls))
    assert shapes
    assert max(shape.count("x") for shape in shapes) == 1, shapes


def test_orthogonal_initialisation_is_not_always_the_same_rotation(many_agents):
    first_entries = np.asarray(many_agents["orthogonal"].critic.weights[1])[:, 0, 0]
    assert len(np.unique(first_entries)) == AGENTS
    assert (first_entries > 0).any()
    assert (first_entries < 0).any()


def test_actor_and_critic_and_their_layers_start_from_different_numbers(many_agents):
    agent = many_agents["torch"]
    arrays = [*jax.tree.leaves(agent.actor), *jax.tree.leaves(agent.critic)]
    # Relative to the bound, so that layers of another fan-in would show the same draw too.
    draws = [
        np.asarray(x, np.float64)[0].ravel()[0] * bound**0.5
        for x, bound in zip(arrays, (12, 64, 64) * 4, strict=True)
    ]
    assert np.diff(np.sort(draws)).min() > 1e-5


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "leaky_relu"])
def test_the_forward_pass_equals_pytorch_with_the_same_weights(activation, rng):
    torch = pytest.importorskip("torch")
    agent = new_agent(jax.random.key(1), NetworkConfig(hidden=(16, 8), activation=activation), 5, 4)
    inputs = jnp.asarray(3 * rng.normal(size=(32, 5)), jnp.float32)
    for network in (agent.actor.network, agent.critic):
        reference = torch_mlp(network, activation)
        trace = jax.jit(Network.trace)(network, inputs)
        with torch.no_grad():
            hidden, inside = to_torch(inputs), []
            for layer in reference:
                hidden = layer(hidden)
                inside.append(hidden.numpy())
        # Layers alternate: linear, activation, linear, activation, head.
        for ours, theirs in zip(trace.preactivations, (inside[0], inside[2]), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(trace.features, inside[3], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(trace.outputs, inside[4], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(jax.jit(Network.__call__)(network, inputs), trace.outputs)


def test_every_activation_of_the_settings_is_there():
    from typing import get_args

    from escapevelocity import health
    from escapevelocity.ppo.config import Activation

    assert set(ACTIVATIONS) == set(get_args(Activation)) == set(health.ACTIVATIONS)


def test_an_independent_std_is_one_parameter_per_action_and_the_same_in_every_state(rng):
    actor = new_agent(jax.random.key(0), NetworkConfig(hidden=(8,), head="normal_independent"), 5, 4).actor
    assert actor.network.weights[-1].shape == (2, 8)  # the network gives the means alone
    np.testing.assert_array_equal(actor.log_std, np.zeros(2))  # std 1, as CleanRL
    inputs = jnp.asarray(rng.normal(size=(7, 5)), jnp.float32)
    trace, outputs = jax.jit(lambda a, x: (a.network.trace(x), a.outputs(a.network.trace(x))))(actor, inputs)
    np.testing.assert_array_equal(outputs[:, :2], trace.outputs)
    np.testing.assert_array_equal(outputs[:, 2:], np.zeros((7, 2)))
    # The loss of the outputs' last columns reaches log_std and nothing else.
    gradient = jax.jit(jax.grad(lambda a: a.outputs(a.network.trace(inputs))[:, 2:].sum()))(actor)
    np.testing.assert_array_equal(gradient.log_std, [7.0, 7.0])
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient.network))


@pytest.mark.parametrize(("head", "outputs"), [("tanh_normal", 4), ("normal", 4), ("softmax", 4)])
def test_other_heads_have_no_parameters_beside_the_network(head, outputs):
    actor = new_agent(jax.random.key(0), NetworkConfig(hidden=(8,), head=head), 5, outputs).actor
    assert actor.log_std is None
    assert actor.network.weights[-1].shape == (outputs, 8)


def test_the_heads_std_does_not_change_how_the_hidden_layers_start():
    heads = [
        new_agent(jax.random.key(3), NetworkConfig(head=head), 5, 4)
        for head in ("normal", "normal_independent")
    ]
    for one, other in zip(
        heads[0].actor.network.weights[:-1], heads[1].actor.network.weights[:-1], strict=True
    ):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(jax.tree.leaves(heads[0].critic), jax.tree.leaves(heads[1].critic), strict=True):
        np.testing.assert_array_equal(one, other)
