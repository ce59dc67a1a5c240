"""Images by the batch: values, the preprocessing of photographs against closed forms, its randomness, damaged files."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.images import ArrayImages, Images, labelled, subset
from escapevelocity.metric_learning.photographs import Photographs, random_part

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # ImageNet's
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


def save(path, pixels, mode=None):
    Image.fromarray(pixels).convert(mode).save(path) if mode else Image.fromarray(pixels).save(path)
    return str(path)


def raw(batch):
    """The bytes that were normalised."""
    return (batch.astype(np.float64) * STD + MEAN) * 255


def test_images_in_memory_are_scaled_to_one_and_not_augmented(rng):
    pixels = rng.integers(0, 17, (6, 3, 4, 1)).astype(np.uint8)
    images = ArrayImages(pixels, one=16.0)
    assert (len(images), images.shape, isinstance(images, Images)) == (6, (3, 4, 1), True)
    chosen = np.array([4, 0, 4])
    for key_seed in (None, 7):
        batch = images.batch(chosen, key_seed)
        assert batch.dtype == np.float32
        np.testing.assert_array_equal(batch * 16, pixels[chosen])  # sixteenths are exact
    np.testing.assert_array_equal(images.take(np.array([5, 2])).batch(np.array([1]), None) * 16, pixels[[2]])


def test_labels_are_dense_and_keep_their_names_in_a_set_and_in_a_part_of_it():
    images = ArrayImages(np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1), one=1.0)
    whole = labelled(images, np.array([9, 2, 9, 5, 2]), {2: "two", 9: "nine"})
    assert (whole.labels.tolist(), whole.classes) == ([2, 0, 2, 1, 0], ("two", "5", "nine"))
    part = subset(whole, np.array([4, 2, 0]))
    assert (part.labels.tolist(), part.classes, part.labels.dtype) == ([0, 1, 1], ("two", "nine"), np.int32)
    assert part.images.batch(np.arange(3), None).ravel().tolist() == [4, 2, 0]
    with pytest.raises(UserError, match="images of a subset = 0: must be one or more"):
        subset(whole, np.array([], np.int64))


def test_a_photograph_is_normalised_as_for_imagenet_and_a_grey_one_becomes_colour(tmp_path):
    red = np.zeros((300, 400, 3), np.uint8)
    red[..., 0] = 255
    paths = (save(tmp_path / "red.png", red), save(tmp_path / "grey.png", np.full((256, 256), 51, np.uint8)))
    batch = Photographs(paths).batch(np.array([0, 1]), None)
    assert (batch.shape, batch.dtype) == ((2, 224, 224, 3), np.float32)
    # Float32 of numbers up to 2.7: half a unit in the last place is 1.2e-7, and there are three operations.
    np.testing.assert_allclose(batch[0], np.broadcast_to(([1, 0, 0] - MEAN) / STD, (224, 224, 3)), rtol=1e-6)
    np.testing.assert_allclose(batch[1], np.broadcast_to((0.2 - MEAN) / STD, (224, 224, 3)), rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(256, 300), (301, 256), (256, 256)])
def test_evaluation_cuts_out_the_centre(height, width, tmp_path):
    # Red tells the row and green the column; the shorter side has 256 pixels already, so nothing is resized.
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(height)[:, None] % 256, np.arange(width)[None, :] % 256
    batch = Photographs((save(tmp_path / "a.png", pixels),)).batch(np.array([0]), None)
    # Half a pixel goes to the even side: (301 − 224)/2 = 38.5 is 38.
    top, left = round((height - 224) / 2), round((width - 224) / 2)
    expected = pixels[top : top + 224, left : left + 224]
    np.testing.assert_allclose(raw(batch[0]), expected, atol=1e-3)


@pytest.mark.parametrize("flat", [False, True])
def test_evaluation_resizes_the_shorter_side_and_keeps_the_ratio(flat, tmp_path):
    """A ramp stays a ramp under bilinear resampling: of 128 rows and 200 columns, each column i is worth i.

    The shorter side doubles, so column j of the 400 lies at (j + 1/2)/2 − 1/2 of the old ones; the centre begins at 88.
    """
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :], (128, 200))
    pixels = np.ascontiguousarray(ramp.T if flat else ramp)
    batch = Photographs((save(tmp_path / "a.png", pixels),)).batch(np.array([0]), None)[0]
    columns = (np.arange(224) + 88 + 0.5) / 2 - 0.5
    expected = columns[None, :, None] if not flat else columns[:, None, None]
    # Pillow rounds to bytes: quarters and three quarters become the nearest integer.
    np.testing.assert_allclose(raw(batch), np.broadcast_to(expected, batch.shape), atol=0.5 + 1e-3)


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**31))
def test_the_part_that_training_sees_lies_in_the_image_and_has_an_allowed_shape(width, height, seed):
    left, top, across, down = random_part(width, height, np.random.default_rng(seed))
    assert min(left, top) >= 0
    assert 1 <= across <= width - left
    assert 1 <= down <= height - top
    # Both sides are rounded to whole pixels, by up to a half.
    assert (across - 0.5) / (down + 0.5) <= RATIO[1]
    assert (across + 0.5) / (down - 0.5) >= RATIO[0]
    if RATIO[0] <= width / height <= RATIO[1]:
        assert (across + 0.5) * (down + 0.5) >= AREA[0] * width * height


def test_area_and_ratio_of_the_part_are_uniform_where_every_shape_fits(rng):
    """In a square of side S a part of area A ≤ 0.74 S² fits whatever its ratio, so there neither is drawn again:
    the area is uniform and the logarithm of the ratio too.
    """
    side = 3000  # pixels, so that rounding is far below what 2,000 draws resolve
    parts = np.array([random_part(side, side, rng) for _ in range(2_000)])
    area, log_ratio = parts[:, 2] * parts[:, 3] / side**2, np.log(parts[:, 2] / parts[:, 3])
    small = area < 0.74
    assert scipy.stats.kstest(area[small], scipy.stats.uniform(0.08, 0.66).cdf).pvalue > 1e-3
    span = math.log(RATIO[1])
    assert scipy.stats.kstest(log_ratio[small], scipy.stats.uniform(-span, 2 * span).cdf).pvalue > 1e-3
    free = side - parts[:, 2]
    where = parts[free > 0, 0] / free[free > 0]
    assert scipy.stats.kstest(where, scipy.stats.uniform(0, 1).cdf).pvalue > 1e-3


def test_a_part_of_a_strip_that_no_shape_fits_is_the_largest_centred_one():
    # Areas of 8 % and more of a strip 10 × 1000 are 800 pixels: 24 wide at the narrowest, which does not fit.
    assert random_part(10, 1000, np.random.default_rng(0)) == (0, 493, 10, 13)
    assert random_part(1000, 12, np.random.default_rng(0)) == (492, 0, 16, 12)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(1)
    paths = [
        save(folder / f"{number}.png", generator.integers(0, 256, (40, 60, 3)).astype(np.uint8))
        for number in range(3)
    ]
    return Photographs(tuple(paths), side=24, shorter=28)


def test_augmentation_depends_on_key_and_image_but_not_on_the_rest_of_the_batch(photographs):
    together = photographs.batch(np.array([2, 0, 1]), 5)
    for place, index in enumerate([2, 0, 1]):
        np.testing.assert_array_equal(photographs.batch(np.array([index]), 5)[0], together[place])
    for one, other in zip(photographs.batch(np.array([2, 0, 1]), 6), together, strict=True):
        assert np.abs(one - other).max() > 0.1


def test_images_of_the_same_pixels_are_augmented_apart(photographs):
    twice = Photographs(photographs.paths[:1] * 2, side=24, shorter=28)
    one, other = twice.batch(np.array([0, 1]), 5)
    assert np.abs(one - other).max() > 0.1
    # What is cut out of one follows from its number, also without the other.
    np.testing.assert_array_equal(twice.batch(np.array([1]), 5)[0], other)


def test_copies_of_an_image_in_one_batch_differ_and_repeat_themselves(photographs):
    first = photographs.batch(np.array([1, 0, 1, 1]), 5)
    assert np.abs(first[0] - first[2]).max() > 0.1
    assert np.abs(first[2] - first[3]).max() > 0.1
    np.testing.assert_array_equal(photographs.batch(np.array([1, 1, 1]), 5), first[[0, 2, 3]])


def test_evaluation_repeats_itself_and_a_part_of_the_set_has_its_own_numbers(photographs):
    whole = photographs.batch(np.array([2, 1]), None)
    np.testing.assert_array_equal(photographs.take(np.array([1, 2])).batch(np.array([1, 0]), None), whole)
    assert (len(photographs), photographs.shape) == (3, (24, 24, 3))


def test_about_half_of_the_parts_are_mirrored(tmp_path):
    """A ramp that rises from left to right falls in a mirrored part."""
    ramp = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[None, :], (64, 64))
    images = Photographs((save(tmp_path / "a.png", np.ascontiguousarray(ramp)),), side=8, shorter=8)
    batch = images.batch(np.zeros(400, np.int64), 3)
    mirrored = int((batch[:, :, 0, 0].mean(axis=1) > batch[:, :, -1, 0].mean(axis=1)).sum())
    assert scipy.stats.binomtest(mirrored, 400, 0.5).pvalue > 1e-3


def test_training_looks_at_a_part_of_the_image(tmp_path):
    """Row and column of every corner, read from the image's own ramps, span a part of an allowed ratio and area."""
    size = 256
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(size)[:, None], np.arange(size)[None, :]
    images = Photographs((save(tmp_path / "a.png", pixels),), side=64, shorter=64)
    for picture in raw(images.batch(np.zeros(50, np.int64), 9)):
        # Of w pixels on 64, the outermost are the averages of w/64 or more each: the span is w − w/64 or a little less.
        down = (picture[-1, 0, 0] - picture[0, 0, 0]) * 64 / 63
        across = abs(picture[0, -1, 1] - picture[0, 0, 1]) * 64 / 63
        assert 0.08 * 0.85 <= down * across / size**2 <= 1.02
        assert RATIO[0] * 0.9 <= across / down <= RATIO[1] * 1.1


def test_a_damaged_or_missing_photograph_is_named(tmp_path, rng):
    path = tmp_path / "bird.jpg"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"bird\.jpg: must be a readable image \(.*truncated"):
        Photographs((str(path),)).batch(np.array([0]), None)
    path.write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"bird\.jpg: must be a readable image"):
        Photographs((str(path),)).batch(np.array([0]), 1)
    path.unlink()
    with pytest.raises(UserError, match=r"bird\.jpg: must be a readable image"):
        Photographs((str(path),)).batch(np.array([0]), None)
