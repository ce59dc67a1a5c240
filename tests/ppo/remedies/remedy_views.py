"""Views, ends of batches and small networks that the tests of remedies share; what a test does not name is None."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np

from escapevelocity.envs import BoxActions, Task
from escapevelocity.ppo.networks import Actor, Agent, Network
from escapevelocity.ppo.remedy import BatchEnd, MinibatchView

TASK = Task("Toy-v0", "gymnasium", (3,), BoxActions((-1.0,), (1.0,)), 10)


def minibatch_view(**fields):
    return MinibatchView(**{**dict.fromkeys(MinibatchView._fields), **fields})


def batch_end(**fields):
    return BatchEnd(**{**dict.fromkeys(BatchEnd._fields), **fields})


def network(rng, sizes, activation):
    """A network with random weights: `sizes` are inputs, hidden layers, outputs."""

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    weights = tuple(normal(outputs, inputs) for inputs, outputs in pairwise(sizes))
    return Network(weights, tuple(normal(size) for size in sizes[1:]), activation=activation)


def small_agent(rng):
    """Three inputs, one hidden layer of four units, two outputs of the actor."""
    return Agent(Actor(network(rng, (3, 4, 2), "tanh"), None), network(rng, (3, 4, 1), "tanh"))


def trace_of(net, observations):
    return net.trace(jnp.asarray(np.asarray(observations), jnp.float32))


def reference_of(remedy, trace):
    """What a remedy keeps of the old actor; its outputs stand for the distribution's parameters."""
    return remedy.reference(trace.outputs, trace, trace)
