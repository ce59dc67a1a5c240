"""Images for classification: digits that come with scikit-learn, and MNIST and Omniglot from the user's disk.

Nothing is downloaded. Files are looked for in `data_dir`, or in the folder that EV_DATA_DIR names.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from escapevelocity.errors import UserError, require
from escapevelocity.image_files import box_average as box_average
from escapevelocity.image_files import read_drawings, read_idx_pair

_SPLIT_SEED = 0
_TEST_SHARE = 0.2
_MNIST = (
    "MNIST's gzip files (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-…; t10k alone will do)"
)
_OMNIGLOT = "Omniglot's images_background_small1.zip (with or without images_background_small2.zip)"


class ImageData(NamedTuple):
    """Flat grey images with their classes, in a training and a test part.

    Attributes:
        train_x: pixels in [0, 1], (N, D).
        train_y: classes 0..num_classes − 1, (N,).
        test_x: as `train_x`, (M, D).
        test_y: as `train_y`, (M,).
        num_classes: K.
        name: as in captions, for example "digits".
    """

    train_x: Float[np.ndarray, "train pixels"]
    train_y: Int[np.ndarray, " train"]
    test_x: Float[np.ndarray, "test pixels"]
    test_y: Int[np.ndarray, " test"]
    num_classes: int
    name: str


def load_images(name: str, data_dir: str | os.PathLike[str] | None = None) -> ImageData:
    """Load a data set; the same files always give the same split.

    Args:
        name: one of `DATA_SETS`. "digits": 1,797 images of 8×8 pixels, 10 classes, bundled with scikit-learn;
            four fifths for training, by class. "mnist": 28×28, 10 classes; where only the 10,000 test images
            are there, they are split as the digits are. "omniglot": 105×105 drawings of characters, averaged
            down to 28×28, every character of an alphabet a class: 136 of the set small1, 242 together with
            small2 (whose alphabets that small1 has too are left out); 16 of a character's 20 drawings for
            training.
        data_dir: folder of the files, or of a folder `mnist` or `omniglot` that has them; by default what the
            environment variable EV_DATA_DIR says.

    Raises:
        UserError: on an unknown name, or files that are missing or damaged.

    Example:
        >>> data = load_images("digits")
        >>> data.train_x.shape, data.test_x.shape, data.num_classes
        ((1438, 64), (359, 64), 10)
    """
    require(name in _LOADERS, "name", name, f"one of {', '.join(DATA_SETS)}")
    return _LOADERS[name](data_dir)


def _digits(data_dir: str | os.PathLike[str] | None) -> ImageData:
    from sklearn.datasets import load_digits  # a second to import, which other experiments need not wait for

    del data_dir
    x, y = map(np.asarray, load_digits(return_X_y=True))
    return _split(x / 16, y.astype(np.int64), "digits")


def _mnist(data_dir: str | os.PathLike[str] | None) -> ImageData:
    folder = _folder(data_dir, "mnist", "t10k-images-idx3-ubyte.gz", _MNIST)
    test_x, test_y = _idx_pair(folder, "t10k")
    if not (folder / "train-images-idx3-ubyte.gz").exists():
        return _split(test_x, test_y, "MNIST, its 10,000 test images" if len(test_y) == 10_000 else "MNIST")
    train_x, train_y = _idx_pair(folder, "train")
    return ImageData(train_x, train_y, test_x, test_y, _num_classes(train_y, test_y), "MNIST")


def _omniglot(data_dir: str | os.PathLike[str] | None) -> ImageData:
    folder = _folder(data_dir, "omniglot", "images_background_small1.zip", _OMNIGLOT)
    drawings = read_drawings(folder / "images_background_small1.zip")
    second = folder / "images_background_small2.zip"
    if second.exists():
        alphabets = {alphabet for alphabet, _ in drawings}
        # Greek and Latin are in both sets, drawn by the same people.
        drawings |= {key: images for key, images in read_drawings(second).items() if key[0] not in alphabets}
    images = [image.ravel() for key in sorted(drawings) for image in drawings[key]]
    classes = [index for index, key in enumerate(sorted(drawings)) for _ in drawings[key]]
    return _split(np.stack(images), np.array(classes, np.int64), f"Omniglot, {len(drawings)} characters")


_LOADERS = {"digits": _digits, "mnist": _mnist, "omniglot": _omniglot}
DATA_SETS = tuple(_LOADERS)
"""Names that `load_images` takes."""


def _folder(data_dir: str | os.PathLike[str] | None, name: str, file: str, needed: str) -> Path:
    """Find the folder that has `file`: `data_dir` itself or its folder `name`."""
    given = data_dir if data_dir is not None else os.environ.get("EV_DATA_DIR")
    for folder in () if given is None else (Path(given) / name, Path(given)):
        if (folder / file).exists():
            return folder
    shown = None if given is None else os.fspath(given)
    raise UserError(
        f"data_dir = {shown!r}: must be a folder with {needed}, itself or in a folder `{name}` of it;"
        " EV_DATA_DIR may name it too"
    )


def _split(x: np.ndarray, y: np.ndarray, name: str) -> ImageData:
    """Give a fifth of every class, drawn with a fixed seed, to the test part."""
    generator = np.random.default_rng(_SPLIT_SEED)
    is_test = np.zeros(len(y), bool)
    for label in np.unique(y):
        members = generator.permutation(np.flatnonzero(y == label))
        is_test[members[: round(_TEST_SHARE * len(members))]] = True
    return ImageData(x[~is_test], y[~is_test], x[is_test], y[is_test], _num_classes(y), name)


def _num_classes(*labels: np.ndarray) -> int:
    return int(max(y.max() for y in labels)) + 1


def _idx_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1], (N, D), and labels, (N,), of one part of MNIST."""
    x, y = read_idx_pair(folder, part)
    return x.reshape(len(x), -1) / 255, y.astype(np.int64)
