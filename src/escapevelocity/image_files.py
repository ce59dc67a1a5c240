"""Reads the files that small images come in: IDX (MNIST and its kin) and Omniglot's zip files of drawings."""

import gzip
import io
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from escapevelocity.errors import UserError, require

OMNIGLOT_SIDE = 28
"""Pixels along a side that Omniglot's drawings of 105×105 are averaged down to, MNIST's size."""


def read_idx_pair(
    folder: Path, part: str
) -> tuple[UInt8[np.ndarray, "images height width"], UInt8[np.ndarray, " images"]]:
    """Read the images and labels of one part of MNIST, or of a set in its format.

    Args:
        folder: holds PART-images-idx3-ubyte.gz and PART-labels-idx1-ubyte.gz.
        part: "train" or "t10k".

    Raises:
        UserError: a file that is missing, damaged or of another format, or not as many labels as images.
    """
    labels_path = folder / f"{part}-labels-idx1-ubyte.gz"
    images, labels = read_idx(folder / f"{part}-images-idx3-ubyte.gz", 3), read_idx(labels_path, 1)
    require(
        len(images) == len(labels),
        f"{labels_path}: labels",
        len(labels),
        f"as many as there are images, {len(images)}",
    )
    return images, labels


def read_idx(path: Path, ndim: int) -> UInt8[np.ndarray, "..."]:
    """Read unsigned bytes in the IDX format: 0, 0, 8, the number of axes, their lengths, then the values.

    Args:
        path: a gzip file.
        ndim: how many axes there must be.

    Raises:
        UserError: a file that is missing, damaged or of another format.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: must be a readable gzip file with IDX data ({error})") from None
    header = 4 + 4 * ndim
    shape = tuple(np.frombuffer(raw[4:header], ">u4").tolist()) if len(raw) >= header else ()
    if raw[:4] != bytes((0, 0, 8, ndim)) or len(raw) != header + math.prod(shape):
        raise UserError(f"{path}: must be IDX data, unsigned bytes with {ndim} axes, whole and not cut off")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def read_drawings(path: Path) -> dict[tuple[str, str], Float[np.ndarray, "_ side side"]]:
    """Read one of Omniglot's zip files.

    Args:
        path: holds alphabet/character/drawing.png, below any folder.

    Returns:
        (alphabet, character) -> its drawings in the order of their names, ink 1 on paper 0, averaged down to
        `OMNIGLOT_SIDE` pixels a side; float64.

    Raises:
        UserError: a file that is missing or damaged, or that holds no drawings.
    """
    from PIL import Image  # comes with matplotlib

    drawings: dict[tuple[str, str], list[np.ndarray]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if not name.endswith(".png"):
                    continue
                *_, alphabet, character, _ = name.split("/")
                with Image.open(io.BytesIO(archive.read(name))) as image:
                    ink = 1 - np.asarray(image.convert("L"), np.float64) / 255
                drawings.setdefault((alphabet, character), []).append(box_average(ink, OMNIGLOT_SIDE))
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: must be a zip file of alphabet/character/drawing.png ({error})") from None
    require(bool(drawings), f"{path}: drawings", 0, "one or more, alphabet/character/drawing.png")
    return {key: np.stack(images) for key, images in drawings.items()}


def box_average(image: Float[np.ndarray, "height width"], side: int) -> Float[np.ndarray, "side side"]:
    """Average an image over side × side boxes of equal area; a pixel on an edge counts by its share in each box.

    Args:
        image: pixels.
        side: boxes along either axis, at least 1.

    Example:
        >>> print(box_average(np.array([[0.0, 3.0, 3.0], [0.0, 3.0, 3.0], [0.0, 3.0, 3.0]]), 2))
        [[1. 3.]
         [1. 3.]]
    """
    require(side >= 1, "side", side, "an integer of at least 1")
    down, across = (_box_weights(length, side) for length in image.shape)
    return down @ image @ across.T


def _box_weights(length: int, side: int) -> np.ndarray:
    """Share of every pixel in every box's average, (side, length)."""
    edges = np.linspace(0, length, side + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * side / length
