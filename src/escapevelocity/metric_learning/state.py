"""What the controller sees: validation metrics now and before, their running means, the distribution, the progress."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from escapevelocity.metric_learning.distribution import normalised

METRIC_NAMES = (
    "recall_at_1",
    "recall_at_2",
    "recall_at_4",
    "recall_at_8",
    "nmi",
    "intra_distance",
    "inter_distance",
)
"""Validation metrics that the state holds, in this order; the distances are cosine distances."""

SHOWN = 20
"""Values of each metric that the state holds [A; PADS's published runs]."""
RUNNING_MEANS = (2, 8, 16, 32)
"""Numbers of newest values that means are taken over [PADS]."""
KEPT = max(SHOWN, *RUNNING_MEANS)


class History(NamedTuple):
    """The newest values of the validation metrics.

    Attributes:
        values: (32, 7), the newest last. Before there are as many, the first stands in for those that are missing.
        measured: how many have been measured.
    """

    values: Float32[Array, "kept metrics"]
    measured: Int32[Array, ""]


def empty_history() -> History:
    """A history in which nothing has been measured."""
    return History(jnp.zeros((KEPT, len(METRIC_NAMES)), jnp.float32), jnp.int32(0))


def metric_vector(metrics: Mapping[str, float]) -> Float32[np.ndarray, " metrics"]:
    """Put named metrics, as `evaluate_retrieval` gives them, in the state's order; others are left out."""
    return np.asarray([metrics[name] for name in METRIC_NAMES], np.float32)


def observe(history: History, metrics: Float[Array, " metrics"]) -> History:
    """Take in the metrics of one decision.

    The first ones fill the whole history, as PADS fills its own with copies. A metric that is not finite counts as
    what it was before (0 at first): the policy must be able to act on a state, and the reward will tell.
    """
    newest = jnp.where(jnp.isfinite(metrics), metrics.astype(jnp.float32), history.values[-1])
    shifted = jnp.concatenate([history.values[1:], newest[None]])
    values = jnp.where(history.measured == 0, jnp.broadcast_to(newest[None], shifted.shape), shifted)
    return History(values, history.measured + jnp.int32(1))


def state_size(bins: int) -> int:
    """Entries of the state: 24 values of each of the 7 metrics, the distribution, the progress.

    Example:
        >>> state_size(29)
        198
    """
    return (SHOWN + len(RUNNING_MEANS)) * len(METRIC_NAMES) + bins + 1


def controller_state(
    history: History, masses: Float[Array, " bins"], progress: Float[Array, ""]
) -> Float32[Array, " state"]:
    """Put the state together, in PADS's order (`StateMaker.make_state`).

    The newest 20 values of each metric, oldest first; their means over the newest 2, 8, 16, 32 values (over those
    that have been measured, where they are fewer: unlike the 20, they are not padded); the normalised masses; the
    share of the training that is done. Its size never changes.

    Args:
        history: after `observe`.
        masses: of the bins, un-normalised.
        progress: in [0, 1].
    """
    age = jnp.arange(KEPT, 0, -1)  # The newest value is 1 old.
    means = []
    for number in RUNNING_MEANS:
        counted = jnp.minimum(history.measured, number)
        inside = jnp.where((age <= counted)[:, None], history.values, 0)
        means.append(jnp.sum(inside, axis=0) / jnp.maximum(counted, 1).astype(jnp.float32))
    parts = [history.values[-SHOWN:].ravel(), *means, normalised(masses), progress[None]]
    return jnp.concatenate([part.astype(jnp.float32) for part in parts])
