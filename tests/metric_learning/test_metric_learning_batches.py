"""Class-balanced batches: their make-up, their distribution, and what is said when they cannot be drawn."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.batches import (
    balanced_batch,
    indices_by_class,
    require_batch,
    require_pairs,
)
from escapevelocity.metric_learning.images import ArrayImages, LabelledImages


def labelled_images(counts):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    images = ArrayImages(np.zeros((len(labels), 2, 2, 1), np.uint8), one=255.0)
    return LabelledImages(images, labels, tuple(f"bird {index}" for index in range(len(counts))))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 2**31))
def test_indices_by_class_list_every_image_once_under_its_label(labels, seed):
    _, dense = np.unique(labels, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(dense))
    by_class = indices_by_class(dense[order])
    assert len(by_class) == dense.max() + 1
    for label, members in enumerate(by_class):
        assert members.tolist() == [i for i in range(len(order)) if dense[order][i] == label]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(1, 9), min_size=4, max_size=9),
    st.integers(1, 4),
    st.integers(2, 6),
    st.integers(0, 2**31),
)
def test_a_batch_has_so_many_classes_with_so_many_images_and_repeats_only_those_of_small_classes(
    counts, batch_classes, per_class, seed
):
    labels = np.repeat(np.arange(len(counts)), counts)
    batch = balanced_batch(indices_by_class(labels), batch_classes, per_class, np.random.default_rng(seed))
    groups = batch.reshape(batch_classes, per_class)
    classes = labels[groups]
    assert (classes == classes[:, :1]).all()
    assert len(set(classes[:, 0].tolist())) == batch_classes
    for group, label in zip(groups.tolist(), classes[:, 0], strict=True):
        if counts[label] >= per_class:
            assert len(set(group)) == per_class


def test_the_generator_decides_the_batch():
    by_class = indices_by_class(np.repeat(np.arange(20), 10))
    first, again, other = (balanced_batch(by_class, 7, 4, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()


def test_every_class_is_as_likely_as_any_other_whatever_its_size(rng):
    """The count of each of K classes in n batches of B is binomial with q = B/K, and two of them have the covariance
    −n q (1 − q)/(K − 1), so (K − 1)/K · Σ (O − nq)² / (n q (1 − q)) is chi-square with K − 1 degrees of freedom.
    """
    counts, n, chosen = np.array([2, 3, 4, 5, 8, 13, 40]), 2_000, 3
    labels = np.repeat(np.arange(len(counts)), counts)
    by_class = indices_by_class(labels)
    drawn = [labels[balanced_batch(by_class, chosen, 2, rng)[::2]] for _ in range(n)]
    observed, q = np.bincount(np.concatenate(drawn)), chosen / len(counts)
    degrees = len(counts) - 1
    statistic = degrees / len(counts) * np.sum((observed - n * q) ** 2) / (n * q * (1 - q))
    assert scipy.stats.chi2(degrees).sf(statistic) > 1e-3


@pytest.mark.parametrize("size", [3, 7])
def test_every_image_of_a_class_is_as_likely_as_any_other(size, rng):
    """With replacement where the class is smaller than the 5 drawn (multinomial), without where it is larger."""
    n, per_class = 2_000, 5
    by_class = indices_by_class(np.repeat([0, 1], size))
    members = np.concatenate([balanced_batch(by_class, 2, per_class, rng) for _ in range(n)])
    observed, expected = np.bincount(members % size), 2 * n * per_class / size
    variance = expected * (1 - per_class / size if size > per_class else 1 - 1 / size)
    # As for classes above; for the multinomial it is Pearson's own statistic.
    statistic = (size - 1) / size * np.sum((observed - expected) ** 2) / variance
    assert scipy.stats.chi2(size - 1).sf(statistic) > 1e-3


def test_more_classes_than_there_are_is_told_with_the_settings_that_would_fit():
    # 112 images of 5 classes: 28 of each of 4 is the smallest divisor of 112 that is enough.
    said = (
        r"batch-size = 112: 112 / per-class 4 = 28 classes in a batch, but there are 5 to train on;"
        r" lower --batch-size to at most 20 or raise --per-class to 28"
    )
    with pytest.raises(UserError, match=said):
        require_batch(labelled_images([30] * 5), 28, 4)
    with pytest.raises(UserError, match=said):
        balanced_batch(indices_by_class(np.repeat(np.arange(5), 30)), 28, 4, np.random.default_rng(0))


def test_a_single_class_can_make_no_batch():
    with pytest.raises(UserError, match="there are 1 to train on; at least 2 are needed"):
        require_batch(labelled_images([30]), 2, 4)


def test_a_class_with_one_image_is_named():
    with pytest.raises(
        UserError, match="images of class 'bird 1' = 1: must be at least 2, an anchor and a positive"
    ):
        require_batch(labelled_images([3, 1, 4]), 2, 2)
    require_pairs(labelled_images([3, 2, 4]))
    require_batch(labelled_images([3, 2, 4]), 3, 2)
