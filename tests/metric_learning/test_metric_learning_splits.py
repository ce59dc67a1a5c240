"""Zero-shot splits: who is in which set, that it is the same every time, and what is said when it cannot be done."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.config import DataConfig
from escapevelocity.metric_learning.images import ArrayImages, LabelledImages
from escapevelocity.metric_learning.splits import load_split, split_validation


def labelled_images(counts):
    """Image i is worth i."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    images = ArrayImages(np.arange(len(labels)).reshape(-1, 1, 1, 1), one=1.0)
    return LabelledImages(images, labels, tuple(f"class {index}" for index in range(len(counts))))


def members(part):
    """(number of the image, name of its class), for every image."""
    numbers = part.images.batch(np.arange(len(part.images)), None).ravel().astype(int)
    return [
        (number, part.classes[label]) for number, label in zip(numbers.tolist(), part.labels, strict=True)
    ]


def within(share):
    return DataConfig(validation_share=share, validation_split="within")


def by_class(share):
    return DataConfig(validation_share=share, validation_split="class")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(2, 9), min_size=4, max_size=30), st.floats(0.01, 0.99))
def test_whole_classes_are_taken_and_every_image_is_in_one_set(counts, share):
    images = labelled_images(counts)
    wanted = round(share * len(counts))
    if not 2 <= wanted <= len(counts) - 2:
        with pytest.raises(UserError, match="validation-share"):
            split_validation(images, by_class(share))
        return
    train, validation = split_validation(images, by_class(share))
    assert sorted(members(train) + members(validation)) == members(images)
    assert set(train.classes) & set(validation.classes) == set()
    assert len(validation.classes) == wanted
    for part in (train, validation):
        assert np.unique(part.labels).tolist() == list(range(len(part.classes)))
        assert part.labels.dtype == np.int32


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(4, 30), min_size=1, max_size=12), st.floats(0.01, 0.99))
def test_a_share_of_each_class_is_taken_at_least_one_image_and_two_are_left(counts, share):
    images = labelled_images(counts)
    taken = [min(max(round(share * count), 1), count - 2) for count in counts]
    if max(taken) < 2:
        with pytest.raises(UserError, match="validation-share"):
            split_validation(images, within(share))
        return
    train, validation = split_validation(images, within(share))
    assert sorted(members(train) + members(validation)) == members(images)
    assert train.classes == validation.classes == images.classes
    assert np.bincount(validation.labels).tolist() == taken
    assert np.bincount(train.labels).min() >= 2


@pytest.mark.parametrize("data", [within(0.3), by_class(0.3)])
def test_the_split_is_the_same_every_time_and_not_the_first_of_everything(data):
    images = labelled_images([10] * 10)
    first, again = split_validation(images, data), split_validation(images, data)
    for one, other in zip(first, again, strict=True):
        assert members(one) == members(other)
    numbers = sorted(number for number, _ in members(first[1]))
    blocks = [list(range(30)), list(range(70, 100)), [n for n in range(100) if n % 10 < 3]]
    assert numbers not in blocks


def test_digits_train_on_low_ones_and_test_on_high_ones():
    split = load_split(within(0.15))
    assert split.train.classes == split.validation.classes == ("0", "1", "2", "3", "4")
    assert split.test.classes == ("5", "6", "7", "8", "9")
    assert sum(len(part.images) for part in split) == 1797
    for one, other in zip(split, load_split(within(0.15)), strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        every = np.arange(len(one.images))
        np.testing.assert_array_equal(one.images.batch(every, None), other.images.batch(every, 3))


def test_too_few_classes_to_take_some_away_are_told_with_what_helps():
    said = (
        r"validation-share = 0\.15: must be a share that takes and leaves at least 2 of the 5 classes for training"
        r" \(it takes 1\); or set --validation-split within"
    )
    with pytest.raises(UserError, match=said):
        load_split(by_class(0.15))
    with pytest.raises(UserError, match=r"validation-share = 0\.9: .*\(it takes 4\)"):
        load_split(by_class(0.9))
    assert len(load_split(by_class(0.4)).validation.classes) == 2


def test_a_validation_set_that_would_be_empty_is_refused():
    with pytest.raises(UserError, match=r"at least 2 of the 5 classes for training \(it takes 0\)"):
        split_validation(labelled_images([10] * 5), by_class(0.01))


def test_a_class_that_cannot_give_an_image_and_keep_two_is_named():
    said = (
        "images of class 'class 1' = 2: must be at least 3, 1 for validation and 2 for training; or .* class"
    )
    with pytest.raises(UserError, match=said):
        split_validation(labelled_images([9, 2, 9]), within(0.2))


def test_a_validation_set_without_a_pair_of_one_class_is_refused():
    said = (
        r"validation-share = 0\.15: .*at least 2 images of some class \(it takes 1\): without a match nothing"
    )
    with pytest.raises(UserError, match=said):
        split_validation(labelled_images([5, 6, 7]), within(0.15))


def write_birds(folder, counts):
    for index, count in enumerate(counts):
        (folder / "images" / f"{index:03d}.Bird").mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (10, 10)).save(folder / "images" / f"{index:03d}.Bird" / f"{number}.jpg")


def test_a_training_class_with_one_image_is_named(tmp_path):
    write_birds(tmp_path, [3, 1, 3, 3])
    with pytest.raises(
        UserError, match=r"images of class '001\.Bird' = 1: must be at least 2, an anchor and a positive"
    ):
        load_split(DataConfig(data="cub200"), tmp_path)


def test_test_classes_with_one_image_are_allowed_but_not_all_of_them(tmp_path):
    data = DataConfig(data="cub200", validation_split="within", validation_share=0.5)
    write_birds(tmp_path / "some", [4, 4, 1, 2])
    assert len(load_split(data, tmp_path / "some").test.images) == 3
    write_birds(tmp_path / "none", [4, 4, 1, 1])
    with pytest.raises(
        UserError, match="images of the largest test class = 1: must be at least 2, a query and a match"
    ):
        load_split(data, tmp_path / "none")


def test_photographs_are_split_by_class_and_decoded_by_the_batch(tmp_path):
    write_birds(tmp_path, [2] * 10)
    split = load_split(DataConfig(data="cub200", validation_share=0.4), tmp_path)
    assert [len(part.classes) for part in split] == [3, 2, 5]
    assert split.train.images.shape == (224, 224, 3)
    assert split.train.images.batch(np.array([0, 1, 1]), 4).shape == (3, 224, 224, 3)
