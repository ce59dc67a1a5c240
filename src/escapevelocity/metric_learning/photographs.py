"""Photographs that are decoded from their files by the batch, as deep metric learning is evaluated and trained on them.

The preprocessing is that of the literature (Wu et al. 2017; Roth et al. 2020 and its code), which is
torchvision's with its defaults: for evaluation the shorter side is resized to 256 and the centre 224×224 cut out; for
training a random part of 8 % to 100 % of the area, of a ratio of sides between 3/4 and 4/3, is resized to 224×224 and
mirrored every other time (Szegedy et al. 2015, section 6). Bilinear; channels normalised as for ImageNet.
"""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int

from escapevelocity.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
"""Mean of ImageNet's red, green and blue in [0, 1]; torchvision's weights expect images normalised by it."""
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
"""Their standard deviation."""

_AREA = (0.08, 1.0)  # of the whole, and the ratio of width to height: torchvision's RandomResizedCrop
_RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10


@dataclass(frozen=True, eq=False)
class Photographs:
    """Images on disk, in colour. Only a batch at a time is in memory."""

    paths: tuple[str, ...]
    """The files, in any format that Pillow reads; grey ones become colour."""
    side: int = 224
    """Pixels along a side of what `batch` gives."""
    shorter: int = 256
    """Pixels along the shorter side from which the centre is cut for evaluation."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.side, self.side, 3

    def __len__(self) -> int:
        return len(self.paths)

    def batch(
        self, indices: Int[np.ndarray, " batch"], key_seed: int | None
    ) -> Float32[np.ndarray, "batch height width channels"]:
        """Decode the images at `indices`, in as many threads as there are cores: Pillow lets go of Python's lock.

        Args:
            indices: which images.
            key_seed: None to evaluate; an integer ≥ 0 for training. It, an image's index and how often that stood in
                the batch before decide what is cut out, whatever else is in the batch.

        Raises:
            UserError: a file that is missing or damaged.
        """
        out = np.empty((len(indices), *self.shape), np.float32)
        drawn = _with_repetition(indices.tolist())

        def fill(place: int, index: int, repetition: int) -> None:
            rng = None if key_seed is None else np.random.default_rng([key_seed, index, repetition])
            out[place] = _normalised(decode(self.paths[index], self.side, self.shorter, rng))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            for done in [pool.submit(fill, place, *pair) for place, pair in enumerate(drawn)]:
                done.result()
        return out

    def take(self, indices: Int[np.ndarray, " taken"]) -> "Photographs":
        """Return some of the images as a set of their own."""
        return Photographs(tuple(self.paths[index] for index in indices), self.side, self.shorter)

    def identity(self) -> bytes:
        """Names of folder and file of every image: reading all of them would take minutes."""
        return "\n".join("/".join(Path(path).parts[-2:]) for path in self.paths).encode()


def decode(path: str, side: int, shorter: int, rng: np.random.Generator | None) -> np.ndarray:
    """Read a photograph and cut out what is looked at.

    Args:
        path: its file.
        side: pixels along a side of the result.
        shorter: pixels along the shorter side from which the centre is cut.
        rng: draws the part for training; None for the centre.

    Returns:
        uint8 (side, side, 3).

    Raises:
        UserError: a file that is missing or damaged.
    """
    from PIL import Image  # comes with matplotlib

    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    # Pillow's plug-ins raise one or the other on damaged data.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: must be a readable image ({error})") from None
    if rng is None:
        return _centre(picture, side, shorter)
    left, top, width, height = random_part(*picture.size, rng)
    part = picture.crop((left, top, left + width, top + height))
    pixels = np.asarray(part.resize((side, side), Image.Resampling.BILINEAR))
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def random_part(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw the part of an image that training looks at.

    Its area is uniform in 8 % to 100 %, its ratio of sides log-uniform in [3/4, 4/3]; what does not fit is drawn again,
    and after ten times the largest centred part of an allowed ratio is taken.

    Args:
        width: of the image, in pixels.
        height: likewise.
        rng: the source of randomness.

    Returns:
        Left, top, width, height of the part, in pixels.
    """
    for _ in range(_ATTEMPTS):
        area = width * height * rng.uniform(_AREA[0], _AREA[1])
        ratio = math.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = rng.integers(width - across + 1), rng.integers(height - down + 1)
            return int(left), int(top), across, down
    ratio = min(max(width / height, _RATIO[0]), _RATIO[1])
    across, down = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (width - across) // 2, (height - down) // 2, across, down


def _centre(picture: "PILImage", side: int, shorter: int) -> np.ndarray:
    from PIL import Image

    # The longer side is rounded down, and half a pixel to the even one, as torchvision does.
    width, height = (shorter * length // min(picture.size) for length in picture.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def _normalised(pixels: np.ndarray) -> np.ndarray:
    return (pixels.astype(np.float32) / np.float32(255) - IMAGENET_MEAN) / IMAGENET_STD


def _with_repetition(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Yield every index with how often it came before."""
    seen: dict[int, int] = {}
    for index in indices:
        seen[index] = seen.get(index, -1) + 1
        yield index, seen[index]
