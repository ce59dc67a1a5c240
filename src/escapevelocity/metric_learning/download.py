"""Fetches data sets from their official addresses; what arrives is checked before it counts.

The hashes are the sha256 that TensorFlow Datasets lists (its `url_checksums`); those of MNIST's test files and of
Omniglot were computed again from the files. None had to be md5, which is what CaltechDATA and torchvision publish.
"""

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from http.client import HTTPResponse
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.archives import unpack

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_SHOWN = 12  # digits of a hash in a message


class Source(NamedTuple):
    """A file and where it comes from."""

    file: str
    """Its name on disk."""
    url: str
    """Its official address."""
    size: int
    """Bytes."""
    sha256: str
    """Of its content."""
    unpacked: str | None = None
    """The folder in it, if it is an archive; it is kept in place of the archive."""


def _idx(base: str, *published: tuple[int, str]) -> tuple[Source, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-labels-idx1", "t10k-images-idx3")
    files = (f"{name}-ubyte.gz" for name in names)
    return tuple(Source(file, base + file, *known) for file, known in zip(files, published, strict=True))


def _omniglot(part: str, size: int, sha256: str) -> Source:
    file = f"images_background_{part}.zip"
    base = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
    return Source(file, base + file, size, sha256)


# The file that a set is recognised by comes last, so that a download that broke off is not taken for a set.
SOURCES: dict[str, tuple[Source, ...]] = {
    "mnist": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ),
    "fashion-mnist": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
        (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
        (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ),
    "omniglot": (
        _omniglot("small1", 1_319_022, "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
        _omniglot("small2", 1_580_917, "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
    ),
    "cub200": (
        Source(
            "CUB_200_2011.tgz",
            "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            1_150_585_339,
            "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            "CUB_200_2011",
        ),
    ),
    "sop": (
        Source(
            "Stanford_Online_Products.zip",
            "http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
            3_083_860_082,
            "b04fa78210e69fab050ce73939550e1cd0f96890bdd98ec9fee732c3b756ef48",
            "Stanford_Online_Products",
        ),
    ),
}
"""The files of every data set that can be fetched, in the order that they are fetched in."""

GONE = {"cars196": "the official address, ai.stanford.edu/~jkrause/cars, no longer has it"}
"""Data sets that cannot be fetched, and why."""


def download_files(name: str, folder: Path, sources: Sequence[Source] | None = None) -> None:
    """Fetch a data set's files, with a progress bar on standard error.

    Files that are there already, whole, are not fetched again; nor are archives that are unpacked.

    Args:
        name: the data set, as the bar names it.
        folder: where they go; it is made.
        sources: which files; by default those of `SOURCES`.

    Raises:
        UserError: no network, an answer other than the file, a wrong checksum, a full disk. What was whole stays.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(30),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for source in SOURCES[name] if sources is None else sources:
            if source.unpacked is not None and (folder / source.unpacked).exists():
                continue
            task = progress.add_task(f"{name}: {source.file}", total=source.size)
            path = fetch(source, folder, partial(progress.advance, task))
            if source.unpacked is not None:
                task = progress.add_task(f"{name}: unpacking", total=None)
                unpack(path, folder / source.unpacked, partial(progress.advance, task))
                path.unlink()


def fetch(source: Source, folder: Path, advance: Callable[[int], None] = lambda count: None) -> Path:
    """Fetch one file: streamed to a temp file, checked, and only then given its name.

    Args:
        source: what, and from where.
        folder: where it goes; it is made.
        advance: told of the bytes that arrive, for a progress bar.

    Returns:
        Its path.

    Raises:
        UserError: no network, an answer other than the file, a wrong checksum, a full disk. Nothing is left behind.
    """
    path = folder / source.file
    temp = folder / f".{source.file}.{os.getpid()}.tmp"
    try:
        if path.exists() and sha256_of(path) == source.sha256:
            advance(source.size)
            return path
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with _opened(source, folder) as response, open(temp, "wb") as file:
            while chunk := _read(response, source, folder, file.tell()):
                file.write(chunk)
                digest.update(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        _require_hash(source, digest.hexdigest())
        os.replace(temp, path)
    except OSError as error:
        raise UserError(
            f"{path}: could not be written ({error.strerror or error}); free space or name another --data-dir"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temp.unlink()
    return path


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def human_size(count: int) -> str:
    """Write a number of bytes in a unit that fits.

    Example:
        >>> human_size(1_150_585_339), human_size(2_899_939)
        ('1.2 GB', '2.9 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _opened(source: Source, folder: Path) -> HTTPResponse:
    request = urllib.request.Request(source.url, headers={"User-Agent": "escapevelocity"})
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise UserError(
            f"{source.url}: answered {error.code} {error.reason}; {_by_hand(source, folder)}"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UserError(
            f"{source.url}: could not be reached ({reason}); check the network, or {_by_hand(source, folder)}"
        ) from None


def _read(response: HTTPResponse, source: Source, folder: Path, before: int) -> bytes:
    """Read the next piece; empty only when all that was announced has come."""
    try:
        chunk = response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _broken(source, folder, before, str(error)) from None
    if not chunk and response.length:  # What is still to come of the length announced.
        raise _broken(source, folder, before, "it ended early")
    return chunk


def _broken(source: Source, folder: Path, before: int, reason: str) -> UserError:
    return UserError(
        f"{source.url}: broke off after {before:,} bytes ({reason}); try again, or {_by_hand(source, folder)}"
    )


def _by_hand(source: Source, folder: Path) -> str:
    what = source.file if source.unpacked is None else f"{source.unpacked}, unpacked,"
    return f"put {what} into {folder} yourself"


def _require_hash(source: Source, found: str) -> None:
    if found != source.sha256:
        raise UserError(
            f"{source.url}: what came has the sha256 {found[:_SHOWN]}…, not {source.sha256[:_SHOWN]}…; it was"
            " removed; try again, and do not use such a file"
        )
