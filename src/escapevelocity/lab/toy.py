"""The two-state clipping example: features alone decide whether PPO's clipping protects the policy.

Two states x and y have frozen one-dimensional features φ(x) and φ(y) = α·φ(x). Two actions; softmax without
a bias, so the logits in state s are θ·φ(s) with θ in R². The batch is {(x, a₁), (y, a₁)}, both with
advantage 1, and minibatches hold one sample: x, y, x, y, … A sample whose ratio has passed 1 + ε gives no
gradient any more, but the other one still moves the θ that both share. So the features' alignment takes the
ratio of the first past the limit (α > 0: overshoot) or pulls the two apart (α < 0: interference).

Source: Moalla et al. 2024, section 4 and figure 5; the published run's numbers are the defaults.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from escapevelocity.errors import UserError, require
from escapevelocity.health.gravity import Integer
from escapevelocity.lab._float64 import float64_array, in_float64
from escapevelocity.lab.methods import require_positive
from escapevelocity.lab.simulate import require_count
from escapevelocity.policy import Softmax, clipped_objective

PUBLISHED_THETA = (0.51526, -0.44138)
PUBLISHED_FEATURE = 0.116314

_POLICY = Softmax(2)


class ToyRun(NamedTuple):
    """One run of the example, or a batch of them; T steps.

    Attributes:
        ratios: π(a₁|s) over its value at the start, for s = x and y, shape (*batch, T + 1, 2); the first are 1.
        probs: π(a₁|s), of the same shape.
        theta: the two actions' weights, of the same shape.
    """

    ratios: np.ndarray
    probs: np.ndarray
    theta: np.ndarray


@in_float64
def clipping_toy(
    alpha: Any,
    feature: Any = PUBLISHED_FEATURE,
    theta: Any = PUBLISHED_THETA,
    clip_epsilon: float = 0.1,
    learning_rate: float | int = 1.5,
    num_steps: Integer = 20,
) -> ToyRun:
    """Run the example; `alpha`, `feature` and `theta` may be batches, which broadcast (a sweep is one call).

    Args:
        alpha: φ(y)/φ(x), shape (*batch). The paper draws 3 (overshoot) and −1 (its table) or −2 (its drawing).
        feature: φ(x), shape (*batch).
        theta: initial weights of the two actions, shape (*batch, 2).
        clip_epsilon: ε in (0, 1).
        learning_rate: of plain gradient ascent on the clipped objective, above 0.
        num_steps: T, how many minibatch steps, x and y counted apart; at least 1.

    Returns:
        Ratios, probabilities and weights before every step and after the last.

    Raises:
        UserError: if an argument is out of range or the batches do not broadcast.

    Example:
        >>> print(np.round(clipping_toy(alpha=3.0).ratios[-1], 3))
        [1.103 1.253]
    """
    any_batch = tuple(range(8))
    alpha = float64_array(alpha, "alpha", any_batch)
    feature = float64_array(feature, "feature", any_batch)
    theta = float64_array(theta, "theta", any_batch[1:])
    require(theta.shape[-1] == 2, "theta.shape", theta.shape, "(*batch, 2), one weight per action")
    require(0 < clip_epsilon < 1, "clip_epsilon", clip_epsilon, "a number strictly between 0 and 1")
    learning_rate = require_positive(learning_rate, "learning_rate")
    num_steps = require_count(num_steps, "num_steps")
    shapes = (alpha.shape, feature.shape, theta.shape[:-1])
    try:
        batch = np.broadcast_shapes(*shapes)
    except ValueError:
        raise UserError(f"batch shapes of alpha, feature, theta = {shapes}: must broadcast") from None
    features = np.stack(np.broadcast_arrays(feature, alpha * feature), axis=-1)  # φ(x), φ(y)
    features, theta = (np.broadcast_to(rows, (*batch, 2)).reshape(-1, 2) for rows in (features, theta))
    run = _ascend(clip_epsilon, num_steps, features, theta, learning_rate)
    return ToyRun(*(np.asarray(rows).reshape(*batch, num_steps + 1, 2) for rows in run))


def random_toys(
    alpha: float | int, num_draws: int, generator: np.random.Generator, **settings: Any
) -> ToyRun:
    """Run the example from random starts: φ(x) ~ N(0, 1) and θ ~ U(−1, 1), as the published code draws them.

    Args:
        alpha: φ(y)/φ(x).
        num_draws: how many starts, at least 1.
        generator: where the randomness comes from.
        **settings: `clip_epsilon`, `learning_rate` and `num_steps` of `clipping_toy`.

    Returns:
        A batch of shape (num_draws,).

    Example:
        >>> run = random_toys(3.0, 1000, np.random.default_rng(0))
        >>> both_overshoot = np.all(run.ratios[:, -1] > 1.1, axis=-1)
        >>> print(f"{np.mean(both_overshoot):.1f}")
        0.8
    """
    require(num_draws >= 1, "num_draws", num_draws, "an integer of at least 1")
    theta = generator.uniform(-1, 1, (num_draws, 2))
    return clipping_toy(alpha, generator.normal(size=num_draws), theta, **settings)


@partial(jax.jit, static_argnums=(0, 1))
@partial(jax.vmap, in_axes=(None, None, 0, 0, None))
def _ascend(
    clip_epsilon: float, num_steps: int, features: Any, theta: Any, learning_rate: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(ratios, probs, theta) of one run, from features φ(x), φ(y) and weights, both of shape (2,)."""

    def log_prob(theta: jax.Array, feature: jax.Array) -> jax.Array:
        return _POLICY.log_prob(theta * feature, jnp.int32(0))

    log_probs_old = jax.vmap(log_prob, (None, 0))(theta, features)

    def step(theta: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        def objective(theta: jax.Array) -> jax.Array:
            log_ratio = log_prob(theta, features[state]) - log_probs_old[state]
            return clipped_objective(log_ratio, jnp.ones_like(log_ratio), clip_epsilon)

        theta = theta + learning_rate * jax.grad(objective)(theta)
        return theta, theta

    _, later = jax.lax.scan(step, theta, jnp.arange(num_steps) % 2)
    thetas = jnp.concatenate([theta[None], later])
    log_probs = jax.vmap(jax.vmap(log_prob, (None, 0)), (0, None))(thetas, features)
    return jnp.exp(log_probs - log_probs_old[None]), jnp.exp(log_probs), thetas
