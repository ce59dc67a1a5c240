"""Zero-shot splits: the classes of the test set are never trained on, and the validation set pays the controller.

The same settings give the same split for every seed of a run, so that members differ in what they learn alone.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from escapevelocity.errors import require
from escapevelocity.metric_learning.batches import indices_by_class, require_pairs
from escapevelocity.metric_learning.config import DataConfig
from escapevelocity.metric_learning.datasets import load_halves
from escapevelocity.metric_learning.images import LabelledImages, subset

_SPLIT_SEED = 0


class Split(NamedTuple):
    """What a run sees."""

    train: LabelledImages
    """The embedding learns from these."""
    validation: LabelledImages
    """The controller is paid by these; the embedding does not learn from them."""
    test: LabelledImages
    """Classes that are in neither of the others."""


def load_split(data: DataConfig, data_dir: Path | None = None, download: bool = False) -> Split:
    """Load images and split them; the same for every seed.

    Of the classes, in the order of their names or numbers, the first half is for training and validation and the rest
    for testing, as is usual for CUB200-2011, CARS196 and Stanford Online Products (Song et al. 2016, arXiv 1511.06452).
    Omniglot's are the 136 characters of the set small1, and for testing the 106 of small2's alphabets that small1 has
    not.

    Args:
        data: which images, and how the validation set is taken.
        data_dir: folder that holds the files; then EV_DATA_DIR's and the cache folder are looked at.
        download: fetch what is not there.

    Raises:
        UserError: files that are missing, damaged, or cannot be fetched; classes or images too few to be split.

    Example:
        >>> split = load_split(DataConfig(data="digits", validation_split="within"))
        >>> [len(part.images) for part in split], split.test.classes
        ([766, 135, 896], ('5', '6', '7', '8', '9'))
    """
    train, test = load_halves(data.data, data_dir, download)
    require_pairs(train)
    largest = int(np.bincount(test.labels).max())
    require(largest >= 2, "images of the largest test class", largest, "at least 2, a query and a match")
    train, validation = split_validation(train, data)
    return Split(train, validation, test)


def split_validation(images: LabelledImages, data: DataConfig) -> tuple[LabelledImages, LabelledImages]:
    """Take the validation set away from the training data.

    Args:
        images: the training data, at least two images in every class.
        data: the share, and whether whole classes are taken or images of every class. Of a class's images, the share
            is rounded, but at least one is taken and at least two are left.

    Returns:
        Training and validation set, the images in the order that they had.

    Raises:
        UserError: too few classes, or images in a class, for that share.
    """
    taken = (_of_classes if data.validation_split == "class" else _within_classes)(images, data)
    return subset(images, np.flatnonzero(~taken)), subset(images, np.flatnonzero(taken))


def _of_classes(images: LabelledImages, data: DataConfig) -> np.ndarray:
    classes, share = len(images.classes), data.validation_share
    count = round(share * classes)
    accepted = (
        f"a share that takes and leaves at least 2 of the {classes} classes for training (it takes {count});"
        " or set --validation-split within"
    )
    require(2 <= count <= classes - 2, "validation-share", share, accepted)
    chosen = np.random.default_rng(_SPLIT_SEED).permutation(classes)[:count]
    return np.isin(images.labels, chosen)


def _within_classes(images: LabelledImages, data: DataConfig) -> np.ndarray:
    generator = np.random.default_rng(_SPLIT_SEED)
    taken, largest = np.zeros(len(images.labels), bool), 0
    for name, members in zip(images.classes, indices_by_class(images.labels), strict=True):
        require(
            len(members) >= 3,
            f"images of class {name!r}",
            len(members),
            "at least 3, 1 for validation and 2 for training; or set --validation-split class",
        )
        count = min(max(round(data.validation_share * len(members)), 1), len(members) - 2)
        taken[generator.permutation(members)[:count]] = True
        largest = max(largest, count)
    accepted = (
        f"a share that takes at least 2 images of some class (it takes {largest}): without a match nothing is"
        " retrieved; or set --validation-split class"
    )
    require(largest >= 2, "validation-share", data.validation_share, accepted)
    return taken
