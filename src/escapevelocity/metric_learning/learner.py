"""One training step of the embedding as one program: embed, measure distances, draw triplets, loss, gradient, Adam."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from escapevelocity.metric_learning.config import LearnerConfig, SamplerConfig
from escapevelocity.metric_learning.distances import paired_distances, pairwise_distances
from escapevelocity.metric_learning.embedding import (
    EmbeddingNetwork,
    make_network,
    trainable,
)
from escapevelocity.metric_learning.losses import Loss, margin_loss, triplet_loss
from escapevelocity.metric_learning.samplers import Triplets, bins_of, sample_triplets
from escapevelocity.runs.compiler import convolution_options


class Learner(NamedTuple):
    """An embedding in training."""

    network: EmbeddingNetwork
    beta: Float[Array, " classes"]
    """β of the margin loss, a boundary for every class."""
    moments: Any
    """Adam's moments of the network and of β, in this order."""
    steps: Int32[Array, ""]
    """Training steps that were applied."""


class StepReport(NamedTuple):
    """What one training step was like, before its update."""

    loss: Float[Array, ""]
    active_fraction: Float[Array, ""]
    """Share of the loss's terms that are above 0."""
    grad_norm: Float[Array, ""]
    """Euclidean norm of the loss's gradient by the network's weights, without weight decay; nothing clips it."""
    finite: Bool[Array, ""]
    """Whether loss, gradients and embeddings are finite numbers; a step that is not finite was not applied."""
    bin_counts: Int32[Array, " bins"]
    """Drawn negatives by the bin of their distance."""
    positive_distance: Float[Array, ""]
    """Mean distance from an anchor to its positive."""
    negative_distance: Float[Array, ""]
    """Mean distance from an anchor to its negative; 0 of one that was drawn as its own."""


class _Aside(NamedTuple):
    """What the loss function hands out besides the loss."""

    loss: Loss
    embeddings: Float[Array, "batch dim"]
    positives: Float[Array, " anchors"]
    """Distances to them, as they were drawn by."""
    negatives: Float[Array, " anchors"]
    """Likewise."""


TrainStep = Callable[..., tuple[Learner, StepReport]]


def make_learner(
    config: LearnerConfig, shape: tuple[int, int, int], num_classes: int, key: Key[Array, ""]
) -> Learner:
    """Make an untrained embedding.

    Args:
        config: network, loss and optimiser.
        shape: height, width and channels of the images.
        num_classes: classes of the training set.
        key: random key of the initial weights.

    Raises:
        UserError: see `make_network`.
    """
    network = make_network(config, shape, key)
    # `jnp.full` would be weakly typed, and the second step would compile anew.
    beta = config.beta * jnp.ones(num_classes)
    weights, _ = eqx.partition(network, trainable(network))
    moments = (_adam(config.weight_decay).init(weights), _adam(0.0).init(beta))
    return Learner(network, beta, moments, jnp.zeros((), jnp.int32))


def make_train_step(config: LearnerConfig, sampler: SamplerConfig, num_classes: int) -> TrainStep:
    """Compile a training step of these settings.

    The step takes (learner, images (batch, height, width, channels) float32, labels (batch,), masses (bins,), key) and
    returns the new learner and a `StepReport`. It uses up the learner it is given: its buffers become those of the new
    one. Samplers without a sampling distribution do not read the masses. The same key gives the same bits.

    Both learning rates fall at the milestones, as PADS's scheduler does it, counted in steps that were applied; β has
    no weight decay (PADS).

    Args:
        config: loss and optimiser.
        sampler: how negatives are chosen.
        num_classes: classes of the training set; labels run from 0 to it.
    """
    del num_classes  # β's length says it to the program.
    step = partial(train_step, config, sampler)
    return jax.jit(step, donate_argnums=0, compiler_options=convolution_options())


def make_embed(config: LearnerConfig) -> Callable[[Any, Any], Array]:
    """Compile the embedding: (network, images (n, height, width, channels)) to unit vectors (n, dim).

    Args:
        config: the learner's; one program serves all of its networks.
    """
    del config
    return jax.jit(lambda network, images: network(images), compiler_options=convolution_options())


def train_step(
    config: LearnerConfig,
    sampler: SamplerConfig,
    learner: Learner,
    images: Float[Array, "batch height width channels"],
    labels: Int[Array, " batch"],
    masses: Float[Array, " bins"],
    key: Key[Array, ""],
) -> tuple[Learner, StepReport]:
    """Take one training step; `make_train_step` compiles it and says what it does."""
    weights, fixed = eqx.partition(learner.network, trainable(learner.network))

    def loss_of(weights: Any, beta: Array) -> tuple[Array, _Aside]:
        embeddings = eqx.combine(weights, fixed)(images)
        distances = pairwise_distances(embeddings)
        triplets = sample_triplets(
            sampler,
            key,
            distances,
            labels,
            masses,
            config.margin,
            config.embedding_dim,
            config.loss == "triplet",
        )
        loss = _loss(config, embeddings, triplets, beta[labels])
        drawn = [jnp.take_along_axis(distances, t[:, None], axis=1)[:, 0] for t in triplets]
        return loss.value, _Aside(loss, embeddings, *drawn)

    (value, aside), gradients = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)(
        weights, learner.beta
    )
    norms = [optax.tree.norm(gradient) for gradient in gradients]
    finite = jnp.isfinite(value + norms[0] + norms[1] + jnp.sum(aside.embeddings))
    rate = _decay(config, learner.steps).astype(learner.beta.dtype)
    weights, moments = _descend(
        weights, gradients[0], learner.moments[0], config.learning_rate * rate, config.weight_decay
    )
    beta, beta_moments = _descend(
        learner.beta, gradients[1], learner.moments[1], config.beta_learning_rate * rate, 0.0
    )
    moved = Learner(eqx.combine(weights, fixed), beta, (moments, beta_moments), learner.steps + 1)
    learner = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, learner)
    return learner, _report(sampler, aside, norms[0], finite)


def _loss(config: LearnerConfig, embeddings: Array, triplets: Triplets, beta: Array) -> Loss:
    positives, negatives = (paired_distances(embeddings, embeddings[t]) for t in triplets)
    if config.loss == "margin":
        return margin_loss(positives, negatives, beta, config.margin)
    return triplet_loss(positives, negatives, config.margin)


def _report(
    sampler: SamplerConfig, aside: _Aside, grad_norm: Float[Array, ""], finite: Bool[Array, ""]
) -> StepReport:
    drawn = bins_of(aside.negatives, sampler.bins, sampler.low, sampler.high)
    return StepReport(
        loss=aside.loss.value,
        active_fraction=aside.loss.active_fraction,
        grad_norm=grad_norm,
        finite=finite,
        bin_counts=jnp.zeros(sampler.bins, jnp.int32).at[drawn].add(1),
        positive_distance=jnp.mean(aside.positives),
        negative_distance=jnp.mean(aside.negatives),
    )


def _decay(config: LearnerConfig, steps: Int32[Array, ""]) -> Float[Array, ""]:
    """What both learning rates are multiplied by after so many steps."""
    passed = jnp.sum(steps >= jnp.asarray(config.milestones, jnp.int32))
    return jnp.power(jnp.float32(config.milestone_factor), passed.astype(jnp.float32))


def _adam(weight_decay: float) -> optax.GradientTransformation:
    """`torch.optim.Adam`'s direction: decay joins the gradient, before the moments (Kingma & Ba 2015, alg. 1)."""
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.scale_by_adam())


def _descend(
    weights: Any, gradient: Any, moments: Any, rate: Float[Array, ""], weight_decay: float
) -> tuple[Any, Any]:
    with jax.numpy_dtype_promotion("standard"):  # Optax does not trace under "strict".
        direction, moments = _adam(weight_decay).update(gradient, moments, weights)
    return jax.tree.map(lambda w, d: w - rate * d, weights, direction), moments
