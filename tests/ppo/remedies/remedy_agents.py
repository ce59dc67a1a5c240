"""Small agents of every shape, and their hidden units worked out by loops in NumPy, for the tests of remedies.

Trees are put together in NumPy: an operation of JAX outside of jit is compiled for every shape.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from escapevelocity.ppo.convolution import Convolution
from escapevelocity.ppo.networks import Actor, Agent, Network

KINDS = ("layer_norm", "shared_crelu", "convolutional", "convolutional_crelu")
SAMPLES = 6
CONVOLUTIONS = (Convolution(3, 2, 1), Convolution(2, 2, 2))
IMAGE = (5, 5, 2)  # becomes 4 × 4 × 3, then 2 × 2 × 2


def observations_of(kind, rng):
    shape = IMAGE if kind.startswith("convolutional") else (3,)
    return jnp.asarray(rng.normal(size=(SAMPLES, *shape)), jnp.float32)


def agent_of(kind, rng, activation="relu"):
    """An agent with normal weights and biases; its log-std is there to be left alone."""
    if kind.endswith("crelu"):
        activation = "crelu"
    actor = _network(kind, rng, activation, 2)
    critic = _network(kind, rng, activation, 1)
    if kind.startswith("shared"):
        critic = Network(critic.weights[-1:], critic.biases[-1:], activation=activation)
    return Agent(Actor(actor, jnp.asarray(rng.normal(size=1), jnp.float32)), critic)


def moments_of(agent, rng):
    """Adam's state with nothing in it that is 0."""
    filled = jax.tree.map(lambda x: rng.uniform(0.1, 1.0, x.shape).astype(np.float32), agent)
    return optax.ScaleByAdamState(np.int32(7), filled, jax.tree.map(lambda x: 2 * x, filled))


def _network(kind, rng, activation, outputs):
    widening = 2 if activation == "crelu" else 1
    if kind.startswith("convolutional"):
        sizes = [
            (2 * 2 * 2, 3),
            (2 * 2 * 3 * widening, 2),
            (2 * 2 * 2 * widening, 4),
            (4 * widening, outputs),
        ]
    else:
        sizes = [(3, 4), (4 * widening, 5), (5 * widening, outputs)]

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    units = [n for _, n in sizes[:-1]] if kind == "layer_norm" else []
    return Network(
        weights=tuple(normal(fan_out, fan_in) for fan_in, fan_out in sizes),
        biases=tuple(normal(fan_out) for _, fan_out in sizes),
        scales=tuple(normal(n) for n in units),
        offsets=tuple(normal(n) for n in units),
        activation=activation,
        convolutions=CONVOLUTIONS if kind.startswith("convolutional") else (),
    )


def exact(x):
    return np.asarray(x, np.float64)


def activations(network, observations):
    """Outputs of each hidden layer, (samples, [rows, columns,] outputs), in float64."""
    hidden, found = exact(observations), []
    for layer, (weight, bias) in enumerate(zip(network.weights[:-1], network.biases[:-1], strict=True)):
        before = _before(network, layer, hidden, exact(weight), exact(bias))
        if network.scales:
            before = (before - before.mean(-1, keepdims=True)) / np.sqrt(before.var(-1, keepdims=True) + 1e-5)
            before = before * exact(network.scales[layer]) + exact(network.offsets[layer])
        if network.activation == "crelu":
            hidden = np.concatenate([np.maximum(before, 0), np.maximum(-before, 0)], axis=-1)
        else:
            hidden = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}[network.activation](before)
        found.append(hidden)
    return found


def _before(network, layer, hidden, weight, bias):
    if layer >= len(network.convolutions):
        return hidden.reshape(len(hidden), -1) @ weight.T + bias
    channels, kernel, stride = network.convolutions[layer]
    windows = weight.reshape(channels, kernel, kernel, hidden.shape[-1])
    size = (hidden.shape[1] - kernel) // stride + 1
    before = np.zeros((len(hidden), size, size, channels))
    for row in range(size):
        for column in range(size):
            top, left = row * stride, column * stride
            patch = hidden[:, top : top + kernel, left : left + kernel]
            before[:, row, column] = np.einsum("nrck,orck->no", patch, windows) + bias
    return before


def fed_columns(network, layer, unit):
    """Which columns of the next layer's weights a unit feeds, by counting through its inputs one by one."""
    units, columns = network.weights[layer].shape[0], network.weights[layer + 1].shape[1]
    outputs = 2 * units if network.activation == "crelu" else units
    # The next layer's inputs run through positions (of its window, or of the whole image) and then channels.
    channel = [c for _ in range(columns // outputs) for c in range(outputs)]
    return np.asarray([c == unit or c == unit + units for c in channel])


def expected_renewal(agent, chosen, incoming):
    """The leaves of `agent` after renewing units, one entry at a time; `chosen`: {(network, layer): [units]}."""
    shared = len(agent.critic.weights) == 1
    result = {}
    for name, network, new in (
        ("actor", agent.actor.network, incoming.actor.network),
        ("critic", agent.critic, incoming.critic),
    ):
        result[name] = {
            field: [np.array(x) for x in getattr(network, field)]
            for field in ("weights", "biases", "scales", "offsets")
        }
        for field, arrays in result[name].items():
            for (where, layer), units in chosen.items():
                if where == name and arrays:
                    for unit in units:
                        arrays[layer][unit] = np.array(getattr(new, field)[layer])[unit]
    for (where, layer), units in chosen.items():
        network = agent.actor.network if where == "actor" else agent.critic
        for unit in units:
            columns = fed_columns(network, layer, unit)
            result[where]["weights"][layer + 1][:, columns] = 0
            if shared and layer == len(network.weights) - 2:
                result["critic"]["weights"][0][:, columns] = 0
    return result


def assert_agent_is(agent, expected):
    for name, network in (("actor", agent.actor.network), ("critic", agent.critic)):
        for field, arrays in expected[name].items():
            assert len(getattr(network, field)) == len(arrays)
            for ours, theirs in zip(getattr(network, field), arrays, strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} {field}")


def masks_of(agent, chosen):
    """The same choice as Bool arrays per layer."""
    from escapevelocity.ppo.remedies.units import Layers, hidden_layers

    sizes = hidden_layers(agent)
    return Layers(
        *(
            tuple(
                jnp.asarray([unit in chosen.get((name, layer), []) for unit in range(units)])
                for layer, units in enumerate(layers)
            )
            for name, layers in zip(("actor", "critic"), sizes, strict=True)
        )
    )


def stacked(trees):
    """Members of a population as one tree with a first axis more."""
    return jax.tree.map(lambda *xs: np.stack(xs), *trees)


def member(tree, i):
    return jax.tree.map(lambda x: np.asarray(x)[i], tree)


def zeros_like(tree):
    return jax.tree.map(np.zeros_like, tree)


def networks_of(agent):
    """(name, network) of every network with hidden layers."""
    actor = [("actor", agent.actor.network)]
    return actor if len(agent.critic.weights) == 1 else [*actor, ("critic", agent.critic)]
