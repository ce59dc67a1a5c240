"""Class-balanced batches: a few images of each of a few classes, so that every anchor has positives and negatives."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from escapevelocity.errors import UserError, require
from escapevelocity.metric_learning.images import LabelledImages


def balanced_batch(
    labels_by_class: Sequence[Int[np.ndarray, " _"]],
    batch_classes: int,
    per_class: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " batch"]:
    """Draw `batch_classes` different classes, each as likely as any other, and `per_class` images of each.

    A class that has enough images gives different ones; a smaller one is drawn from with replacement, so that an image
    may stand in the batch more than once (Wu et al. 2017: m images of each of B/m classes).

    Args:
        labels_by_class: for every class the indices of its images, from `indices_by_class`.
        batch_classes: classes in a batch.
        per_class: images of each.
        rng: the source of randomness; it decides the batch.

    Returns:
        batch_classes × per_class indices; those of a class stand together.

    Raises:
        UserError: fewer classes than that.

    Example:
        >>> by_class = [np.array([0, 1, 2]), np.array([3, 4, 5]), np.array([6, 7, 8])]
        >>> batch = balanced_batch(by_class, 2, 3, np.random.default_rng(0))
        >>> sorted(batch.tolist())
        [3, 4, 5, 6, 7, 8]
    """
    _require_classes(len(labels_by_class), batch_classes, per_class)
    classes = rng.choice(len(labels_by_class), batch_classes, replace=False)
    drawn = [
        rng.choice(labels_by_class[index], per_class, replace=len(labels_by_class[index]) < per_class)
        for index in classes
    ]
    return np.concatenate(drawn)


def indices_by_class(labels: Int[np.ndarray, " images"]) -> tuple[Int[np.ndarray, " _"], ...]:
    """Return the indices of each class's images, in rising order.

    Args:
        labels: 0..K − 1, each of them at least once.

    Returns:
        K arrays.

    Example:
        >>> indices_by_class(np.array([1, 0, 1]))
        (array([1]), array([0, 2]))
    """
    return tuple(np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1]))


def require_batch(train: LabelledImages, batch_classes: int, per_class: int) -> None:
    """Check that batches can be drawn.

    Args:
        train: the images to draw from.
        batch_classes: classes in a batch.
        per_class: images of each.

    Raises:
        UserError: fewer classes than a batch needs, or a class without a pair of images.
    """
    _require_classes(len(train.classes), batch_classes, per_class)
    require_pairs(train)


def require_pairs(data: LabelledImages) -> None:
    """Check that every class has two images: an anchor and a positive.

    Raises:
        UserError: a class with one image; it is named.
    """
    counts = np.bincount(data.labels)
    smallest = int(np.argmin(counts))
    count = int(counts[smallest])
    require(
        count >= 2,
        f"images of class {data.classes[smallest]!r}",
        count,
        "at least 2, an anchor and a positive; add images or take the class away",
    )


def _require_classes(there: int, batch_classes: int, per_class: int) -> None:
    """Say which settings make a batch of as many classes as are there, if there are fewer than it needs."""
    if batch_classes <= there:
        return
    size = batch_classes * per_class
    fitting = next(m for m in range(per_class, size + 1) if size % m == 0 and size // m <= there)
    remedies = [f"lower --batch-size to at most {there * per_class}"] if there >= 2 else []
    if size // fitting >= 2:
        remedies.append(f"raise --per-class to {fitting}")
    raise UserError(
        f"batch-size = {size}: {size} / per-class {per_class} = {batch_classes} classes in a batch, but there are"
        f" {there} to train on; {' or '.join(remedies) or 'at least 2 are needed'}"
    )
