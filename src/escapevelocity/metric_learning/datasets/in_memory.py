"""Small images that are kept in memory: scikit-learn's digits, MNIST and its kin, Omniglot."""

from pathlib import Path

import numpy as np

from escapevelocity.errors import UserError, require
from escapevelocity.image_files import read_drawings, read_idx_pair
from escapevelocity.metric_learning.download import SOURCES, sha256_of
from escapevelocity.metric_learning.images import ArrayImages, LabelledImages, labelled

_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def digits() -> LabelledImages:
    """1,797 images of 8×8 in 10 classes, which come with scikit-learn."""
    from sklearn.datasets import load_digits  # a second to import

    pixels, numbers = map(np.asarray, load_digits(return_X_y=True))
    images = ArrayImages(pixels.reshape(-1, 8, 8, 1).astype(np.uint8), one=16.0)
    return labelled(images, numbers, {})


def mnist(folder: Path) -> LabelledImages:
    """MNIST's images of 28×28: 70,000, or the 10,000 of t10k where those for training are not there."""
    return _idx(folder, "mnist", {})


def fashion_mnist(folder: Path) -> LabelledImages:
    """Fashion-MNIST's, which come as MNIST's do."""
    return _idx(folder, "fashion-mnist", dict(enumerate(_FASHION)))


def omniglot(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """Omniglot's characters at 28×28, ink 1 on paper 0; those of every alphabet are classes of their own.

    Returns:
        small1, and what small2 has of alphabets that small1 has not: Greek and Latin stand in both, drawn by the same
        people. With the original files these are 136 and 106 characters of 20 drawings each.
    """
    small1 = read_drawings(folder / "images_background_small1.zip")
    second = folder / "images_background_small2.zip"
    known = {alphabet for alphabet, _ in small1}
    small2 = {key: images for key, images in read_drawings(second).items() if key[0] not in known}
    require(bool(small2), f"{second}: alphabets that images_background_small1.zip has not", 0, "one or more")
    return _characters(small1), _characters(small2)


def _characters(drawings: dict[tuple[str, str], np.ndarray]) -> LabelledImages:
    keys = sorted(drawings)
    pixels = np.concatenate([drawings[key] for key in keys]).astype(np.float32)
    numbers = np.repeat(np.arange(len(keys)), [len(drawings[key]) for key in keys])
    names = {number: "/".join(key) for number, key in enumerate(keys)}
    return labelled(ArrayImages(pixels[..., None], one=1.0), numbers, names)


def _idx(folder: Path, name: str, classes: dict[int, str]) -> LabelledImages:
    has_train = (folder / "train-images-idx3-ubyte.gz").exists()
    _require_not_anothers(folder / "t10k-labels-idx1-ubyte.gz", name)
    parts = [read_idx_pair(folder, part) for part in (["train"] if has_train else []) + ["t10k"]]
    sizes = sorted({images.shape[1:] for images, _ in parts})
    require(len(sizes) == 1, f"{folder}: sizes of the images of train and t10k", sizes, "the same")
    images = ArrayImages(np.concatenate([images for images, _ in parts])[..., None], one=255.0)
    numbers = np.concatenate([numbers for _, numbers in parts]).astype(np.int64)
    require(len(numbers) > 0, f"{folder}: images", 0, "one or more")
    return labelled(images, numbers, classes)


def _require_not_anothers(labels: Path, name: str) -> None:
    """MNIST and Fashion-MNIST have the same file names; what is known to be the other's must not pass for this one."""
    digest = sha256_of(labels) if labels.exists() else ""
    for other, sources in SOURCES.items():
        if other != name and any(source.sha256 == digest for source in sources):
            raise UserError(
                f"{labels}: is a file of {other}; those of {name} must be in a folder of their own"
            )
