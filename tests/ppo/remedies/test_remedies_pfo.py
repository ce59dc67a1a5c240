"""PFO's distances, gradient and limit, against matrix algebra in NumPy and PyTorch's cosine."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from remedy_views import batch_end, minibatch_view, network, reference_of, trace_of

from escapevelocity.errors import UserError
from escapevelocity.ppo.remedies import PFO

SAMPLES, INPUTS, UNITS = 6, 3, 4


def two_layers(rng, activation="relu"):
    return network(rng, (INPUTS, UNITS, 5, 2), activation)


def observations_from(rng):
    return jnp.asarray(rng.normal(size=(SAMPLES, INPUTS)), jnp.float32)


def penalty_of(pfo, observations, old):
    """The penalty as a function of the network."""
    reference = reference_of(pfo, trace_of(old, observations))
    return lambda new: pfo.penalty(minibatch_view(actor=trace_of(new, observations), reference=reference))[0]


def exact(array):
    return np.asarray(array, np.float64)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", UNITS), ("sum", 1)])
def test_the_gradient_on_a_single_layer_is_that_of_least_squares(rng, reduction, divisor):
    # z = W x + b is linear in the weights, so that with D = z − z_old the penalty c · ΣD² / (samples · divisor) has
    # the gradients 2 c DᵀX / (samples · divisor) and 2 c ΣD / (samples · divisor), and none for the head.
    old, new = network(rng, (INPUTS, UNITS, 2), "relu"), network(rng, (INPUTS, UNITS, 2), "relu")
    x = observations_from(rng)
    pfo = PFO(coef=3.0, reduction=reduction)
    value, gradient = jax.value_and_grad(penalty_of(pfo, x, old))(new)
    change = (exact(new.weights[0]) - exact(old.weights[0])) @ exact(x).T
    change = change.T + exact(new.biases[0]) - exact(old.biases[0])
    scale = 3.0 / (SAMPLES * divisor)
    np.testing.assert_allclose(value, scale * np.sum(change**2), rtol=1e-5)
    np.testing.assert_allclose(gradient.weights[0], 2 * scale * change.T @ exact(x), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient.biases[0], 2 * scale * change.sum(axis=0), rtol=1e-4, atol=1e-6)
    assert not np.any(gradient.weights[1])
    assert not np.any(gradient.biases[1])


def numpy_preactivations(net, x):
    first = exact(x) @ exact(net.weights[0]).T + exact(net.biases[0])
    second = np.maximum(first, 0) @ exact(net.weights[1]).T + exact(net.biases[1])
    return first, second


def test_all_layers_count_as_one_vector_with_one_mean_over_its_units(rng):
    old, new, x = two_layers(rng), two_layers(rng), observations_from(rng)
    pairs = list(zip(numpy_preactivations(new, x), numpy_preactivations(old, x), strict=True))
    squares = np.concatenate([(a - b) ** 2 for a, b in pairs], axis=1)
    assert squares.shape == (SAMPLES, UNITS + 5)
    value = penalty_of(PFO(coef=1.0, layers="all"), x, old)(new)
    np.testing.assert_allclose(value, squares.mean(), rtol=1e-5)
    last = penalty_of(PFO(coef=1.0), x, old)(new)
    np.testing.assert_allclose(last, squares[:, UNITS:].mean(), rtol=1e-5)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_the_cosine_distance_is_one_minus_pytorchs_cosine_and_so_is_its_gradient(rng, layers):
    torch = pytest.importorskip("torch")
    old, new, x = two_layers(rng), two_layers(rng), observations_from(rng)
    pfo = PFO(coef=2.0, distance="cosine", layers=layers)
    first = {"last": 1, "all": 0}[layers]
    a, b = (np.concatenate(numpy_preactivations(net, x)[first:], axis=1) for net in (new, old))
    leaf = torch.tensor(a, requires_grad=True)
    loss = 2.0 * (1 - torch.nn.functional.cosine_similarity(leaf, torch.tensor(b), dim=-1)).mean()
    loss.backward()

    def ours(flat):
        parts = jnp.split(flat, [UNITS], axis=1) if layers == "all" else [flat]
        trace = trace_of(new, x)._replace(preactivations=tuple(parts))
        reference = reference_of(pfo, trace_of(old, x))
        return pfo.penalty(minibatch_view(actor=trace, reference=reference))[0]

    value, gradient = jax.value_and_grad(ours)(jnp.asarray(a, jnp.float32))
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-3, atol=1e-6)


def test_the_cosine_distance_of_dead_preactivations_is_one_with_finite_gradient(rng):
    pfo = PFO(distance="cosine")
    trace = trace_of(network(rng, (INPUTS, UNITS, 2), "relu"), observations_from(rng))

    def ours(z):
        view = minibatch_view(actor=trace._replace(preactivations=(z,)), reference=(jnp.ones_like(z),))
        return pfo.penalty(view)[0]

    value, gradient = jax.value_and_grad(ours)(jnp.zeros((SAMPLES, UNITS)))
    assert value == 1.0
    assert np.isfinite(gradient).all()


def test_a_limit_takes_the_weight_from_samples_beyond_it_and_penalises_nothing(rng):
    # Distances (means over four units of the squared change) are 0.09, 0.11, 0 and 4.
    shift = jnp.asarray([0.3, 0.11**0.5, 0.0, -2.0])[:, None]
    old = jnp.asarray(rng.normal(size=(4, UNITS)), jnp.float32)
    trace = trace_of(network(rng, (INPUTS, UNITS, 2), "relu"), observations_from(rng))
    view = minibatch_view(actor=trace._replace(preactivations=(old + shift,)), reference=(old,))
    pfo = PFO(limit=0.1)
    np.testing.assert_array_equal(pfo.weight(view), [1.0, 0.0, 1.0, 0.0])
    term, numbers = pfo.penalty(view)
    assert term is None
    np.testing.assert_allclose(numbers["blocked"], 0.5)
    np.testing.assert_allclose(numbers["distance"], (0.09 + 0.11 + 4) / 4, rtol=1e-5)
    assert PFO().weight(view) is None


def test_a_cosine_limit_counts_the_angle(rng):
    # Rotations by 20 and 30 degrees: 1 − cos is 0.0603 and 0.134.
    angles = np.radians([20.0, 30.0])
    old = jnp.asarray([[1.0, 0.0], [1.0, 0.0]])
    new = jnp.asarray(np.stack([5 * np.cos(angles), 5 * np.sin(angles)], axis=1), jnp.float32)
    trace = trace_of(network(rng, (INPUTS, 2, 2), "relu"), observations_from(rng))
    view = minibatch_view(actor=trace._replace(preactivations=(new,)), reference=(old,))
    np.testing.assert_array_equal(PFO(distance="cosine", limit=0.1).weight(view), [1.0, 0.0])


def test_the_mean_distance_over_the_applied_steps_is_recorded():
    trail = {"distance": jnp.asarray([[1.0, 3.0], [8.0, jnp.nan]])}
    changed, numbers = PFO().after_batch(batch_end(trail=trail, state=(), agent="a", moments="m"))
    assert numbers["distance"] == 4.0
    assert tuple(changed) == ("a", "m", ())


def test_settings_that_change_nothing_are_idle():
    assert PFO(coef=0.0).is_idle()
    assert PFO(limit=float("inf")).is_idle()
    assert not PFO().is_idle()
    assert not PFO(coef=0.0, limit=0.1).is_idle()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"coef": -1.0}, "pfo.coef = -1.0: must be a finite number of at least 0"),
        ({"limit": 0.0}, "pfo.limit = 0.0: must be a number above 0"),
        ({"distance": "cosine", "reduction": "sum"}, "pfo.reduction = 'sum': an angle has no sum"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=re.escape(message)):
        PFO(**fields)
