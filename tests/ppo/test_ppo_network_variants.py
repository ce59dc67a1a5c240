"""Networks beyond the plain one: convolutions, CReLU, layer and spectral normalisation, shared trunks, escort heads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_ppo import to_torch

from escapevelocity.policy import Escort
from escapevelocity.ppo.config import NetworkConfig
from escapevelocity.ppo.convolution import MINATAR, Convolution
from escapevelocity.ppo.initialization import initial_agent
from escapevelocity.ppo.networks import Network
from escapevelocity.ppo.spectral import largest_singular_value

IMAGE = (6, 5, 2)
LAYERS = (Convolution(3, 2, 1), Convolution(4, 3, 2))  # 6×5 becomes 5×4, then 2×1


def random_weights(rng, sizes):
    return (
        tuple(
            jnp.asarray(rng.normal(size=(out, fan_in)) / np.sqrt(fan_in), jnp.float32)
            for fan_in, out in sizes
        ),
        tuple(jnp.asarray(rng.normal(size=out), jnp.float32) for _, out in sizes),
    )


def as_torch_kernel(matrix, kernel):
    """(out, row · column · channel) to torch's (out, channel, row, column)."""
    return to_torch(matrix).reshape(len(matrix), kernel, kernel, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "layer norm"])
@pytest.mark.parametrize("activation", ["relu", "crelu"])
def test_convolutions_activations_and_layer_norm_equal_pytorch(rng, activation, scaled):
    torch = pytest.importorskip("torch")
    widening = 2 if activation == "crelu" else 1
    sizes = [(2 * 2 * 2, 3), (3 * 3 * 3 * widening, 4), (2 * 1 * 4 * widening, 7), (7 * widening, 2)]
    weights, biases = random_weights(rng, sizes)
    norms = [tuple(jnp.asarray(rng.normal(size=n), jnp.float32) for n in (3, 4, 7)) for _ in range(2)]
    scales, offsets = norms if scaled else ((), ())
    network = Network(weights, biases, scales, offsets, activation=activation, convolutions=LAYERS)
    images = rng.integers(0, 256, size=(5, *IMAGE), dtype=np.uint8)

    def activate(x, axis):
        return torch.cat([x.relu(), (-x).relu()], axis) if activation == "crelu" else x.relu()

    def normalise(x, layer, axes):
        if not scaled:
            return x
        centred = x - x.mean(axes, keepdim=True)
        y = centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()
        shape = (1, -1, *[1] * (x.ndim - 2))
        return y * to_torch(scales[layer]).reshape(shape) + to_torch(offsets[layer]).reshape(shape)

    hidden, shown = to_torch(images).float().permute(0, 3, 1, 2) / 255, []
    for layer, (_, kernel, stride) in enumerate(LAYERS):
        x = torch.nn.functional.conv2d(
            hidden, as_torch_kernel(weights[layer], kernel), to_torch(biases[layer]), stride
        )
        x = normalise(x, layer, (1, 2, 3))
        shown.append(x.permute(0, 2, 3, 1).flatten(1))
        hidden = activate(x, 1)
    x = hidden.permute(0, 2, 3, 1).flatten(1) @ to_torch(weights[2]).T + to_torch(biases[2])
    x = normalise(x, 2, (1,))
    shown.append(x)
    features = activate(x, 1)
    outputs = features @ to_torch(weights[3]).T + to_torch(biases[3])

    trace = jax.jit(Network.trace)(network, jnp.asarray(images))
    # Sums of at most 54 products of order 1 in float32: 54 · 6e-8, and three layers feed into each other.
    tolerance = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(trace.outputs, outputs, **tolerance)
    np.testing.assert_allclose(trace.features, features, **tolerance)
    for ours, theirs in zip(trace.preactivations, shown, strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (64, 64), (1, 4), (3, 1)])
def test_the_largest_singular_value_is_numpys(rng, shape):
    weight = rng.normal(size=shape).astype(np.float32)
    exact = np.linalg.svd(weight.astype(np.float64), compute_uv=False)[0]
    # σ̂² is a mean of σᵢ² with weights (σᵢ/σ₁)^256 after 64 steps of iteration on W·Wᵀ and a Rayleigh quotient: a second
    # value within a share ε of the first takes off at most max_ε ε·(1−ε)^256/(1+(1−ε)^256) < 0.002 of it.
    assert float(jax.jit(largest_singular_value)(jnp.asarray(weight))) == pytest.approx(exact, rel=2e-3)


def test_the_gradient_of_the_largest_singular_value_is_its_outer_product():
    # diag(3, 1, ½): σ₁ = 3 with u = v = e₁, and dσ₁/dW = u vᵀ.
    weight = jnp.diag(jnp.asarray([3.0, 1.0, 0.5]))
    gradient = jax.jit(jax.grad(largest_singular_value))(weight)
    np.testing.assert_allclose(gradient, np.outer([1, 0, 0], [1, 0, 0]), atol=1e-6)


def test_an_emptied_layer_has_finite_gradients_under_spectral_normalisation():
    # ReDo zeroes the columns of all units of a dead layer: the next layer's weights are then 0 throughout.
    divided = jax.jit(jax.grad(lambda w: jnp.sum(w / largest_singular_value(w))))(jnp.zeros((2, 3)))
    assert np.isfinite(divided).all()


@pytest.mark.parametrize(("which", "norms"), [("last", [None, 1.0]), ("all", [1.0, 1.0])])
def test_spectral_normalisation_makes_chosen_layers_have_norm_one_and_folding_changes_nothing(
    rng, which, norms
):
    weights, biases = random_weights(rng, [(3, 6), (6, 4), (4, 2)])
    network = Network(weights, biases, activation="relu", spectral_norm=which)
    folded = network.folded()
    for given, divided, norm in zip(weights[:-1], folded.weights[:-1], norms, strict=True):
        if norm is None:
            np.testing.assert_array_equal(divided, given)
        else:
            assert np.linalg.norm(np.asarray(divided, np.float64), 2) == pytest.approx(norm, rel=2e-3)
    np.testing.assert_array_equal(folded.weights[-1], weights[-1])
    inputs = jnp.asarray(rng.normal(size=(9, 3)), jnp.float32)
    np.testing.assert_allclose(
        jax.jit(Network.__call__)(folded, inputs),
        jax.jit(Network.__call__)(network, inputs),
        rtol=1e-6,
        atol=1e-6,
    )


def test_a_shared_trunk_is_one_trunk_with_two_heads_and_both_losses_reach_it():
    config = NetworkConfig(hidden=(5, 4), trunk="shared")
    agent = initial_agent(jax.random.key(0), config, 3, 6)
    assert agent.shares_trunk
    assert [w.shape for w in agent.critic.weights] == [(1, 4)]
    inputs = jnp.linspace(-1, 1, 21).reshape(7, 3)
    actor, critic = agent.trace(inputs)
    np.testing.assert_array_equal(actor.features, critic.features)
    by_hand = np.asarray(actor.features) @ np.asarray(agent.critic.weights[0]).T + np.asarray(
        agent.critic.biases[0]
    )
    np.testing.assert_allclose(critic.outputs, by_hand, rtol=1e-6)
    np.testing.assert_array_equal(agent.values(inputs), critic.outputs[:, 0])
    gradient = jax.grad(lambda a: a.trace(inputs)[1].outputs.sum())(agent)
    assert np.any(gradient.actor.network.weights[0])
    assert not np.any(gradient.actor.network.weights[-1])  # the actor's head is not part of the value


def test_the_nature_and_minatar_trunks_have_the_papers_shapes():
    nature = NetworkConfig(convolutions="nature", hidden=(512,), activation="relu", head="softmax")
    shapes = jax.eval_shape(lambda key: initial_agent(key, nature, (84, 84, 4), 8), jax.random.key(0))
    assert [w.shape for w in shapes.actor.network.weights] == [
        (32, 8 * 8 * 4),
        (64, 4 * 4 * 32),
        (64, 3 * 3 * 64),
        (512, 7 * 7 * 64),
        (8, 512),
    ]
    # 21,632 pre-activations (ppo_collapse.md): 20·20·32 + 9·9·64 + 7·7·64 + 512.
    trace = jax.eval_shape(lambda a, x: a.critic.trace(x), shapes, jnp.zeros((1, 84, 84, 4), jnp.uint8))
    assert sum(layer.shape[1] for layer in trace.preactivations) == 21_632
    minatar = NetworkConfig(convolutions="minatar", hidden=(128,), activation="crelu", head="softmax")
    agent = jax.eval_shape(lambda key: initial_agent(key, minatar, (10, 10, 4), 3), jax.random.key(0))
    assert [w.shape for w in agent.critic.weights] == [(16, 3 * 3 * 4), (128, 8 * 8 * 32), (1, 256)]
    assert agent.critic.convolutions == MINATAR


@pytest.mark.parametrize("initialization", ["torch", "orthogonal"])
def test_an_escort_head_starts_near_the_uniform_policy(rng, initialization):
    config = NetworkConfig(hidden=(16,), head="escort", initialization=initialization)
    agent = initial_agent(jax.random.key(1), config, 3, 4)
    family = Escort(4, 2.0)
    trace = agent.actor.network.trace(jnp.asarray(rng.normal(size=(50, 3)), jnp.float32))
    probs = family.probs(family.params(agent.actor.outputs(trace)))
    # |W| ≤ 0.01 in both, and 16 tanh features of at most 1: outputs within 0.16, but of random sign; π ∝ (1 + x)².
    np.testing.assert_allclose(probs, 0.25, atol=0.25 * 2 * 0.16)
    assert np.ptp(np.asarray(probs)) > 0
