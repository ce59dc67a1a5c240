"""Margin and triplet loss by hand, against pytorch-metric-learning on the same triplets, and by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.metric_learning.distances import paired_distances, unit_vectors
from escapevelocity.metric_learning.losses import margin_loss, triplet_loss

ANCHORS = np.arange(12)
LABELS = np.repeat(np.arange(4), 3)


def triplets(rng):
    """A positive and a negative for every one of 12 anchors, 4 classes of 3."""
    positives = [rng.choice(np.flatnonzero((LABELS[a] == LABELS) & (a != ANCHORS))) for a in ANCHORS]
    negatives = [rng.choice(np.flatnonzero(LABELS[a] != LABELS)) for a in ANCHORS]
    return np.array(positives), np.array(negatives)


def test_margin_loss_by_hand():
    # Terms: pull 1.0−1.2+0.2=0 (not above 0), 1.3−1.1+0.2=0.4; push 1.2−1.3+0.2=0.1, 1.1−1.5+0.2<0.
    loss = margin_loss(jnp.array([1.0, 1.3]), jnp.array([1.3, 1.5]), jnp.array([1.2, 1.1]), 0.2)
    assert float(loss.value) == pytest.approx((0.4 + 0.1) / 2, abs=1e-6)
    assert float(loss.active_fraction) == 0.5


def test_triplet_loss_by_hand():
    # 1² − 0.5² + 0.2 = 0.95, 0.5² − 1² + 0.2 < 0, 0.6² − 0.6² + 0.2 = 0.2
    loss = triplet_loss(jnp.array([1.0, 0.5, 0.6]), jnp.array([0.5, 1.0, 0.6]), 0.2)
    assert float(loss.value) == pytest.approx(1.15 / 2, abs=1e-6)
    assert float(loss.active_fraction) == pytest.approx(2 / 3, abs=1e-6)


def test_without_an_active_term_loss_and_gradient_are_zero():
    near, far, beta = jnp.full(3, 0.1), jnp.full(3, 1.9), jnp.full(3, 1.0)
    for value, gradient in (
        jax.value_and_grad(lambda d: margin_loss(d, far, beta, 0.2).value)(near),
        jax.value_and_grad(lambda d: triplet_loss(d, far, 0.2).value)(near),
    ):
        assert float(value) == 0
        np.testing.assert_array_equal(gradient, np.zeros(3))
    assert float(margin_loss(near, far, beta, 0.2).active_fraction) == 0


def test_beta_is_pushed_up_by_far_positives_and_down_by_near_negatives():
    """∂/∂β = (−pulling + pushing pairs) / pairs above 0."""

    def value(beta):
        return margin_loss(jnp.array([1.5, 0.2]), jnp.array([1.9, 0.3]), beta, 0.2).value

    np.testing.assert_allclose(jax.grad(value)(jnp.array([1.0, 1.0])), [-0.5, 0.5])


def test_an_anchor_drawn_as_its_own_negative_lowers_beta_and_leaves_the_embedding_alone():
    def value(x, beta):
        itself = paired_distances(x, x)
        return margin_loss(jnp.full(1, 0.5), itself, beta, 0.2).value

    x, beta = unit_vectors(jnp.array([[1.0, 2.0, 3.0]])), jnp.array([1.2])
    loss, (to_x, to_beta) = jax.value_and_grad(value, argnums=(0, 1))(x, beta)
    assert float(loss) == pytest.approx(1.2 + 0.2 - 1e-4, abs=1e-6)
    np.testing.assert_array_equal(to_x, np.zeros((1, 3)))
    np.testing.assert_array_equal(to_beta, [1.0])


def of_margin(x, beta, positives, negatives):
    e = unit_vectors(x)
    d_ap, d_an = (paired_distances(e, e[jnp.asarray(t)]) for t in (positives, negatives))
    return margin_loss(d_ap, d_an, beta[jnp.asarray(LABELS)], 0.2).value


def of_triplet(x, beta, positives, negatives):
    e = unit_vectors(x)
    d_ap, d_an = (paired_distances(e, e[jnp.asarray(t)]) for t in (positives, negatives))
    return triplet_loss(d_ap, d_an, 0.2).value


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("loss", ["margin", "triplet"])
def test_value_and_gradient_equal_pytorch_metric_learning_s_on_the_same_triplets(loss, seed):
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    rng = np.random.default_rng(seed)
    x, beta = rng.normal(size=(12, 5)), rng.uniform(0.8, 1.4, 4)
    positives, negatives = triplets(rng)
    if loss == "margin":
        criterion = losses.MarginLoss(margin=0.2, beta=1.2, learn_beta=True, num_classes=4)
        criterion.beta.data = torch.from_numpy(beta.copy())
    else:
        criterion = losses.TripletMarginLoss(margin=0.2, distance=distances.LpDistance(power=2))
    given = torch.from_numpy(x.copy()).requires_grad_()
    indices = tuple(torch.from_numpy(t) for t in (ANCHORS, positives, negatives))
    theirs = criterion(given, torch.from_numpy(LABELS), indices)
    theirs.backward()
    with jax.enable_x64(True):
        ours = of_margin if loss == "margin" else of_triplet
        value, gradients = jax.value_and_grad(ours, argnums=(0, 1))(
            jnp.asarray(x), jnp.asarray(beta), positives, negatives
        )
    assert float(theirs.detach()) > 0.05  # something is compared
    # Our 1e-8 under the root moves distances above 0.2 by less than 3e-8.
    assert float(value) == pytest.approx(float(theirs.detach()), abs=1e-7)
    np.testing.assert_allclose(gradients[0], given.grad, atol=1e-6)
    if loss == "margin":
        np.testing.assert_allclose(gradients[1], criterion.beta.grad, atol=1e-12)


@pytest.mark.parametrize("loss", [of_margin, of_triplet])
def test_gradients_equal_central_differences(loss):
    rng = np.random.default_rng(7)
    x, beta, h = rng.normal(size=(12, 5)), rng.uniform(0.8, 1.4, 4), 1e-6
    positives, negatives = triplets(rng)
    with jax.enable_x64(True):
        program = jax.jit(lambda x, beta: loss(x, beta, positives, negatives))
        found = jax.jit(jax.grad(lambda x, beta: loss(x, beta, positives, negatives), argnums=(0, 1)))(
            jnp.asarray(x), jnp.asarray(beta)
        )
        for direction in range(6):
            u, v = rng.normal(size=x.shape), rng.normal(size=beta.shape)
            up, down = (program(jnp.asarray(x + s * u), jnp.asarray(beta + s * v)) for s in (h, -h))
            slope = np.sum(found[0] * u) + np.sum(found[1] * v)
            # Truncation h² = 1e-12 times third derivatives of order 10; rounding 1e-16 / h.
            assert float(up - down) / (2 * h) == pytest.approx(float(slope), abs=1e-8), direction


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.floats(0.1, 1.9)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_losses_are_the_mean_of_what_numpy_finds_above_zero(rows, margin):
    positive, negative, beta = (np.array(column, np.float32) for column in zip(*rows, strict=True))
    terms = np.concatenate([positive - beta + np.float32(margin), beta - negative + np.float32(margin)])
    above = terms[terms > 1e-6]
    # A term that rounding lifts above 0 would change the mean.
    if np.any((terms > -1e-6) & (terms <= 1e-6)):
        return
    loss = margin_loss(jnp.asarray(positive), jnp.asarray(negative), jnp.asarray(beta), margin)
    assert float(loss.value) == pytest.approx(above.mean() if len(above) else 0, abs=1e-5)
    assert float(loss.active_fraction) == pytest.approx(len(above) / len(terms), abs=1e-6)


def test_a_distance_that_is_not_a_number_makes_the_loss_so():
    bad, fine = jnp.array([jnp.nan, 0.5]), jnp.array([0.5, 0.5])
    assert np.isnan(margin_loss(bad, fine, fine, 0.2).value)
    assert np.isnan(triplet_loss(fine, bad, 0.2).value)
