"""Images that are handed out by the batch, and images with their classes."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int, Int32, Num

from escapevelocity.errors import require


@runtime_checkable
class Images(Protocol):
    """Images of one size, in memory or on disk."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image as `batch` gives it."""
        ...

    def __len__(self) -> int: ...

    def batch(
        self, indices: Int[np.ndarray, " batch"], key_seed: int | None
    ) -> Float32[np.ndarray, "batch height width channels"]:
        """Return the images at `indices`: as evaluated if `key_seed` is None, else augmented for training.

        An image and `key_seed` decide its augmentation; if an image stands in a batch more than once, so does the
        number of its repetition, so that its copies differ.
        """
        ...

    def take(self, indices: Int[np.ndarray, " taken"]) -> "Images":
        """Return some of the images as a set of their own."""
        ...

    def identity(self) -> bytes:
        """What tells these images from others: the pixels, or of photographs on disk the names of their files."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images in memory. They are not augmented: a mirrored digit is another one, or none."""

    pixels: Num[np.ndarray, "images height width channels"]
    """Of any number type; converted by the batch, so that bytes take no more room than they have to."""
    one: float
    """The value that becomes 1: 255 for bytes, 16 for scikit-learn's digits."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        _, height, width, channels = self.pixels.shape
        return height, width, channels

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(
        self, indices: Int[np.ndarray, " batch"], key_seed: int | None
    ) -> Float32[np.ndarray, "batch height width channels"]:
        """Return the images at `indices` with values in [0, 1]; `key_seed` changes nothing."""
        del key_seed
        return self.pixels[indices].astype(np.float32) / np.float32(self.one)

    def take(self, indices: Int[np.ndarray, " taken"]) -> "ArrayImages":
        """Return some of the images as a set of their own."""
        return ArrayImages(self.pixels[indices], self.one)

    def identity(self) -> bytes:
        """The pixels."""
        return self.pixels.tobytes()


class LabelledImages(NamedTuple):
    """Images with their classes."""

    images: Images
    """N of them."""
    labels: Int32[np.ndarray, " images"]
    """Classes 0..K − 1 within this set."""
    classes: tuple[str, ...]
    """The names of its K classes; each has an image."""


def labelled(images: Images, numbers: Int[np.ndarray, " images"], classes: dict[int, str]) -> LabelledImages:
    """Number the classes that occur from 0 on, in the order that their numbers in the files have.

    Args:
        images: N of them.
        numbers: the class of each, as the files number it.
        classes: number -> name; a class that is not there is named by its number.
    """
    found, labels = np.unique(numbers, return_inverse=True)
    named = tuple(classes.get(number, str(number)) for number in found.tolist())
    return LabelledImages(images, labels.astype(np.int32), named)


def subset(data: LabelledImages, indices: Int[np.ndarray, " taken"]) -> LabelledImages:
    """Return some of the images as a set of their own, whose classes are those that are left, numbered anew.

    Args:
        data: the whole.
        indices: which images, in the order that they will have.
    """
    require(len(indices) > 0, "images of a subset", 0, "one or more")
    kept, labels = np.unique(data.labels[indices], return_inverse=True)
    classes = tuple(data.classes[index] for index in kept)
    return LabelledImages(data.images.take(indices), labels.astype(np.int32), classes)


def digest(data: LabelledImages) -> str:
    """A checksum (SHA-256) of images and their classes."""
    found = hashlib.sha256(data.images.identity())
    found.update(data.labels.tobytes())
    found.update("\n".join(data.classes).encode())
    return found.hexdigest()
