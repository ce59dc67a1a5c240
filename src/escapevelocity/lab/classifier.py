"""Trains many classifiers as one compiled program: every learning rate with every seed, in float64.

A classifier is a contextual bandit (reward 1 for the right label), trained on the exact expected reward of a
minibatch, or on cross-entropy; its output layer is a softmax or an escort transform. In float64, like the rest
of the lab: float32 was twice as fast, no more, and near a corner its gradients round to nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from escapevelocity.errors import UserError, require
from escapevelocity.lab._float64 import float64_array, in_float64
from escapevelocity.lab.classifier_objective import Objective, expected_reward
from escapevelocity.lab.images import ImageData
from escapevelocity.lab.problems import require_simplex
from escapevelocity.lab.simulate import require_count

OPTIMISERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "SGD": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "Adam": optax.adam,
}
"""Learning rate -> optimiser. Momentum is 0.9, not Nesterov's; Adam has Optax's defaults."""


class Training(NamedTuple):
    """How L × S classifiers came along, from before the first epoch to after the last, E + 1 records each.

    A classifier whose outputs overflowed counts as the worst there is: reward 0, loss ∞, accuracy 0.

    Attributes:
        reward: mean over the training images of π(label), the expected accuracy, (L, S, E + 1).
        loss: mean over the training images of −log π(label), in nats, (L, S, E + 1).
        test_accuracy: share of test images whose likeliest class is the right one, (L, S, E + 1).
    """

    reward: Float[np.ndarray, "rates seeds records"]
    loss: Float[np.ndarray, "rates seeds records"]
    test_accuracy: Float[np.ndarray, "rates seeds records"]

    @property
    def diverged(self) -> np.ndarray:
        """Whose outputs had overflowed by the end, (L, S)."""
        return np.isinf(self.loss[..., -1])


class Tuned(NamedTuple):
    """A method at its own best learning rate.

    Attributes:
        learning_rate: the best of the grid for the selection seeds.
        at_edge: whether it is the grid's first or last, so that a better one may lie outside.
        scores: mean final objective over the selection seeds, per rate of the grid; −∞ when one diverged.
        training: at that rate, for the other seeds, (1, S, E + 1).
    """

    learning_rate: float
    at_edge: bool
    scores: Float[np.ndarray, " rates"]
    training: Training


@dataclass(frozen=True)
class Recipe:
    """How classifiers are trained, apart from objective, optimiser, learning rate and seed.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per update; the last, incomplete minibatch of an epoch is left out.
        hidden: ReLU units of the one hidden layer; 0 for a linear classifier.
        start: policy (K,) before training, the same for every image; None for uniform.
    """

    epochs: int
    batch_size: int = 128
    hidden: int = 64
    start: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        require_count(self.epochs, "epochs")
        require_count(self.batch_size, "batch_size")
        require(
            self.hidden == 0 or self.hidden >= 1, "hidden", self.hidden, "a number of units, or 0 for none"
        )


def tune(
    data: ImageData,
    objective: Objective,
    optimiser: str,
    recipe: Recipe,
    learning_rates: Sequence[float],
    selection_seeds: Sequence[int],
    report_seeds: Sequence[int],
) -> Tuned:
    """Choose a method's learning rate by the mean final training objective, and train other seeds with it.

    The seeds that choose are not those that are reported, so that choosing does not flatter the method.

    Args:
        data: images.
        objective: what to train on; its own final value, of all training images, is the score.
        optimiser: one of `OPTIMISERS`.
        recipe: see `Recipe`.
        learning_rates: the grid, increasing.
        selection_seeds: seeds that choose.
        report_seeds: other seeds.

    Raises:
        UserError: when a seed is in both lists, the grid does not increase, or as in `train_classifiers`.
    """
    shared = sorted(set(selection_seeds) & set(report_seeds))
    require(
        not shared, "report_seeds", list(report_seeds), f"apart from the selection seeds; shared: {shared}"
    )
    rates = float64_array(learning_rates, "learning_rates", 1)
    require(bool((np.diff(rates) > 0).all()), "learning_rates", learning_rates, "increasing")
    search = train_classifiers(data, objective, optimiser, recipe, learning_rates, selection_seeds)
    final = search.reward if objective.maximises == "reward" else -search.loss
    # Diverged classifiers have reward 0, which the other seeds' mean would hide.
    scores = np.where(search.diverged, -np.inf, final[..., -1]).mean(axis=1)
    best = int(np.argmax(scores))
    training = train_classifiers(data, objective, optimiser, recipe, [float(rates[best])], report_seeds)
    return Tuned(float(rates[best]), best in (0, len(rates) - 1), scores, training)


@in_float64
def train_classifiers(
    data: ImageData,
    objective: Objective,
    optimiser: str,
    recipe: Recipe,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
) -> Training:
    """Train a classifier for every learning rate and seed.

    Hidden weights are He-normal, from the seed; output weights and all biases are 0 but for the output bias
    that makes the first policy `recipe.start` on every image. The seed also orders the minibatches.

    Args:
        data: images.
        objective: what to train on.
        optimiser: one of `OPTIMISERS`.
        recipe: see `Recipe`.
        learning_rates: L positive rates.
        seeds: S integers ≥ 0.

    Raises:
        UserError: on an unknown optimiser, rates that are not positive, more images per batch than there are, or
            a start that is not a policy over the classes with every probability above 0.
    """
    require(optimiser in OPTIMISERS, "optimiser", optimiser, f"one of {', '.join(OPTIMISERS)}")
    rates = float64_array(learning_rates, "learning_rates", 1)
    require(bool((rates > 0).all()), "learning_rates", learning_rates, "positive")
    require(len(seeds) >= 1, "seeds", seeds, "at least one integer ≥ 0")
    images = len(data.train_x)
    require(recipe.batch_size <= images, "batch_size", recipe.batch_size, f"at most the {images} images")
    start = _checked_start(recipe.start, data.num_classes)
    train, test = (
        (jnp.asarray(x), jnp.asarray(np.eye(data.num_classes)[y]))
        for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y))
    )
    draws = [_draw(seed, recipe, images, data.train_x.shape[1]) for seed in seeds]
    first, order = (jnp.asarray(np.stack(each)) for each in zip(*draws, strict=True))
    program = partial(_train, objective, optimiser, recipe)
    curves = program(train, test, start, jnp.asarray(rates), first, order)
    reward, loss, accuracy = (np.asarray(curve) for curve in curves)
    # The worst values: a run that overflowed must not come out better than one that did not.
    sound = np.isfinite(reward) & np.isfinite(loss)
    return Training(
        np.where(sound, reward, 0.0), np.where(sound, loss, np.inf), np.where(sound, accuracy, 0.0)
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _train(
    objective: Objective,
    optimiser: str,
    recipe: Recipe,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    start: Array,
    rates: Array,
    first: Array,
    order: Array,
) -> tuple[Array, Array, Array]:
    """(reward, loss, accuracy), each (L, S, E + 1)."""
    x, targets = train
    family = objective.family(len(start))

    def mean_loss(weights: Any, chosen: Array) -> Array:
        return jnp.mean(objective.loss(family.params(outputs(weights, x[chosen])), targets[chosen]))

    def measure(weights: Any) -> tuple[Array, Array, Array]:
        params = family.params(outputs(weights, x))
        likeliest = family.mode(family.params(outputs(weights, test[0])))
        right = likeliest == jax.lax.argmax(test[1], 1, jnp.int32)
        reward = jnp.mean(expected_reward(family, params, targets))
        return reward, jnp.mean(objective.cross_entropy(params, targets)), jnp.mean(right, dtype=x.dtype)

    def one(first: Array, order: Array, rate: Array) -> tuple[Array, Array, Array]:
        weights = _weights(first, objective.outputs_at(start))
        rule = OPTIMISERS[optimiser](rate)

        def step(carry: tuple, chosen: Array) -> tuple[tuple, None]:
            weights, state = carry
            gradient = jax.grad(mean_loss)(weights, chosen)
            # Optax's own arithmetic mixes dtypes, where the caller may have strict promotion on.
            with jax.numpy_dtype_promotion("standard"):
                updates, state = rule.update(gradient, state, weights)
            return (optax.apply_updates(weights, updates), state), None

        def epoch(carry: tuple, batches: Array) -> tuple[tuple, tuple]:
            carry, _ = jax.lax.scan(step, carry, batches)
            return carry, measure(carry[0])

        _, later = jax.lax.scan(epoch, (weights, rule.init(weights)), order)
        return jax.tree.map(lambda first, rest: jnp.append(first[None], rest), measure(weights), later)

    # Rates inside seeds: classifiers of one seed see the same minibatches, whose images are then read once.
    per_seed = jax.vmap(jax.vmap(one, (None, None, 0)), (0, 0, None), out_axes=1)
    return per_seed(first, order, rates)


def outputs(weights: Any, x: Float[Array, "batch pixels"]) -> Float[Array, "batch classes"]:
    """The network's outputs for images: linear layers (matrix, bias) with ReLU between them."""
    *hidden, (matrix, bias) = weights
    for layer, layer_bias in hidden:
        x = jax.nn.relu(x @ layer + layer_bias[None])
    return x @ matrix + bias[None]


def _draw(seed: int, recipe: Recipe, images: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """He-normal hidden weights (D, H), and which images each minibatch has, (E, minibatches, batch size)."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(scale=math.sqrt(2 / pixels), size=(pixels, recipe.hidden))
    batches = images // recipe.batch_size
    epochs = [generator.permutation(images)[: batches * recipe.batch_size] for _ in range(recipe.epochs)]
    return hidden, np.stack(epochs).reshape(recipe.epochs, batches, recipe.batch_size)


def _weights(hidden: Array, bias: Array) -> list[tuple[Array, Array]]:
    pixels, units = hidden.shape
    if units == 0:
        return [(jnp.zeros((pixels, len(bias))), bias)]
    return [(hidden, jnp.zeros(units)), (jnp.zeros((units, len(bias))), bias)]


def _checked_start(start: tuple[float, ...] | None, num_classes: int) -> Array:
    if start is None:
        return jnp.full(num_classes, 1 / num_classes)
    policy = float64_array(start, "start", 1)
    if policy.shape != (num_classes,):
        raise UserError(f"start has shape {policy.shape}: must be ({num_classes},), one per class")
    require_simplex(policy[:, None], "start")
    require(bool((policy > 0).all()), "start", start, "above 0 for every class")
    return jnp.asarray(policy)
