import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from escapevelocity.errors import UserError
from escapevelocity.lab.images import box_average, load_images


def write_idx(path, values):
    header = struct.pack(">4B", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def write_mnist(folder, part, labels, rng):
    images = rng.integers(0, 256, (len(labels), 28, 28))
    write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.asarray(labels))
    return images


def write_omniglot(path, characters, drawings=5):
    """Every drawing is white but for one black column, whose place tells the character."""
    with zipfile.ZipFile(path, "w") as archive:
        for index, character in enumerate(characters):
            for drawing in range(drawings):
                paper = np.full((105, 105), 255, np.uint8)
                paper[:, index] = 0
                buffer = io.BytesIO()
                Image.fromarray(paper).convert("1").save(buffer, "png")
                archive.writestr(
                    f"images_background_small/{character}/{index:04d}_{drawing:02d}.png", buffer.getvalue()
                )


def rows(x):
    return sorted(map(tuple, x))


def test_digits_are_scikit_learns_scaled_to_one_and_every_image_is_in_one_part():
    data = load_images("digits")
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    together = np.column_stack(
        [np.concatenate([data.train_x, data.test_x]), np.concatenate([data.train_y, data.test_y])]
    )
    assert rows(together) == rows(np.column_stack([pixels / 16, labels]))
    assert (data.train_x.dtype, data.num_classes) == (np.float64, 10)


def test_a_fifth_of_every_class_is_for_testing_and_the_split_is_the_same_every_time():
    data, again = load_images("digits"), load_images("digits")
    of_class = np.bincount(np.concatenate([data.train_y, data.test_y]))
    np.testing.assert_array_equal(np.bincount(data.test_y), np.round(of_class / 5))
    for first, second in zip(data, again, strict=True):
        np.testing.assert_array_equal(first, second)


def test_mnist_with_training_files_keeps_their_split(tmp_path, rng):
    (tmp_path / "mnist").mkdir()
    train = write_mnist(tmp_path / "mnist", "train", [3, 1, 2, 0], rng)
    test = write_mnist(tmp_path / "mnist", "t10k", [1, 0], rng)
    data = load_images("mnist", tmp_path)
    np.testing.assert_array_equal(data.train_x * 255, train.reshape(4, 784))
    np.testing.assert_array_equal(data.test_x * 255, test.reshape(2, 784))
    assert (data.train_y.tolist(), data.test_y.tolist(), data.num_classes) == ([3, 1, 2, 0], [1, 0], 4)


def test_mnist_with_test_files_only_is_split_by_class(tmp_path, rng, monkeypatch):
    labels = np.repeat([0, 1, 2], 10)
    images = write_mnist(tmp_path, "t10k", labels, rng)
    monkeypatch.setenv("EV_DATA_DIR", str(tmp_path))
    data = load_images("mnist")
    assert np.bincount(data.test_y).tolist() == [2, 2, 2]
    assert np.bincount(data.train_y).tolist() == [8, 8, 8]
    labelled = np.column_stack(
        [np.concatenate([data.train_x, data.test_x]) * 255, np.concatenate([data.train_y, data.test_y])]
    )
    assert rows(labelled) == rows(np.column_stack([images.reshape(30, 784), labels]))


def test_omniglots_ink_is_one_and_keeps_its_amount_and_its_place(tmp_path):
    write_omniglot(tmp_path / "images_background_small1.zip", ["Greek/character01", "Latin/character01"])
    data = load_images("omniglot", tmp_path)
    assert (data.train_x.shape, data.test_x.shape, data.num_classes) == ((8, 784), (2, 784), 2)
    for image, label in zip(data.train_x, data.train_y, strict=True):
        # The column of one black pixel in 3.75: box 0 has pixels 0, 1, 2 and three quarters of 3.
        square = image.reshape(28, 28)
        np.testing.assert_allclose(square[:, 0], 1 / 3.75, rtol=1e-12)
        np.testing.assert_array_equal(square[:, 1:], 0)
        assert label in (0, 1)


def test_an_alphabet_of_both_omniglot_sets_counts_once(tmp_path):
    write_omniglot(tmp_path / "images_background_small1.zip", ["Greek/character01", "Korean/character01"])
    write_omniglot(
        tmp_path / "images_background_small2.zip",
        ["Greek/character02", "Sanskrit/character01", "Sanskrit/character02"],
    )
    data = load_images("omniglot", tmp_path)
    assert data.num_classes == 4
    assert np.bincount(data.train_y).tolist() == [4] * 4
    assert np.bincount(data.test_y).tolist() == [1] * 4


def test_box_averages_agree_with_a_finer_grid_that_both_sides_divide(rng):
    image = rng.random((6, 9))
    # Every pixel as 4 × 4 equal ones, 24 × 36; then boxes of whole pixels.
    fine = np.kron(image, np.ones((4, 4)))
    expected = fine.reshape(4, 6, 4, 9).mean(axis=(1, 3))
    np.testing.assert_allclose(box_average(image, 4), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["mnist", "omniglot"])
def test_missing_files_are_named_with_the_place_they_were_looked_for(name, tmp_path, monkeypatch):
    monkeypatch.delenv("EV_DATA_DIR", raising=False)
    files = {"mnist": "t10k", "omniglot": "images_background_small1.zip"}[name]
    with pytest.raises(
        UserError, match=rf"data_dir = '{tmp_path}': must be a folder with .*{files}.*`{name}`.*EV_DATA_DIR"
    ):
        load_images(name, tmp_path)
    with pytest.raises(UserError, match="data_dir = None: must be a folder with"):
        load_images(name)


def test_an_unknown_data_set_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="name = 'cifar': must be one of digits, mnist, omniglot"):
        load_images("cifar")


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: b"\0\0\x0d\3" + raw[4:], lambda raw: raw[:6]]
)
def test_idx_data_that_is_cut_off_or_of_another_type_is_refused(damage, tmp_path, rng):
    write_mnist(tmp_path, "t10k", [0, 1], rng)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(damage(gzip.decompress(path.read_bytes()))))
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz: must be IDX data"):
        load_images("mnist", tmp_path)


def test_files_that_are_no_archives_are_refused(tmp_path, rng):
    (tmp_path / "images_background_small1.zip").write_bytes(b"not a zip file")
    with pytest.raises(UserError, match=r"small1\.zip: must be a zip file"):
        load_images("omniglot", tmp_path)
    write_mnist(tmp_path, "t10k", [0, 1], rng)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(UserError, match="must be a readable gzip file"):
        load_images("mnist", tmp_path)


def test_labels_must_be_as_many_as_images(tmp_path, rng):
    write_mnist(tmp_path, "t10k", [0, 1], rng)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([0, 1, 2]))
    with pytest.raises(UserError, match="labels = 3: must be as many as there are images, 2"):
        load_images("mnist", tmp_path)


def test_a_missing_label_file_is_refused(tmp_path, rng):
    write_mnist(tmp_path, "t10k", [0, 1], rng)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz: must be a readable gzip file"):
        load_images("mnist", tmp_path)
