"""Where the files of a data set may lie, and what is said when they do not."""

import os
from pathlib import Path
from typing import NamedTuple

from escapevelocity.errors import UserError, require

_SHOWN = 4  # names of a folder's content in a message


class Layout(NamedTuple):
    """How a data set is recognised on disk."""

    needed: str
    """What the user has to put there, in words."""
    markers: tuple[str, ...]
    """A folder that has one of these holds the set."""
    folders: tuple[str, ...]
    """Folders of a data folder that are looked at before itself."""


_IDX = Layout("", ("t10k-images-idx3-ubyte.gz",), ())
_FILES = (
    "gzip files (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-…; those of t10k alone will do)"
)
LAYOUTS = {
    "mnist": _IDX._replace(needed=f"MNIST's {_FILES}", folders=("mnist",)),
    "fashion-mnist": _IDX._replace(needed=f"Fashion-MNIST's {_FILES}", folders=("fashion-mnist",)),
    "omniglot": Layout(
        "Omniglot's images_background_small1.zip and images_background_small2.zip",
        ("images_background_small2.zip",),
        ("omniglot",),
    ),
    "cub200": Layout(
        "CUB_200_2011, unpacked: images/CLASS/IMAGE.jpg",
        ("images",),
        ("cub200/CUB_200_2011", "cub200", "CUB_200_2011"),
    ),
    "cars196": Layout(
        "CARS196, unpacked: cars_annos.mat with car_ims/IMAGE.jpg, or images/CLASS/IMAGE.jpg, or train/CLASS/IMAGE.jpg"
        " with test/CLASS/IMAGE.jpg",
        ("cars_annos.mat", "images", "train"),
        ("cars196", "cars196/car_data/car_data"),
    ),
    "sop": Layout(
        "Stanford_Online_Products, unpacked: Ebay_train.txt, Ebay_test.txt and folders with the images they list",
        ("Ebay_train.txt",),
        ("sop/Stanford_Online_Products", "sop", "Stanford_Online_Products"),
    ),
}
"""Of every set that is read from disk."""


def cache_folder() -> Path:
    """Where downloaded files are kept: $XDG_CACHE_HOME/escapevelocity/data, by default below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "escapevelocity" / "data"


def data_folders(data_dir: Path | None) -> list[Path]:
    """Return the folders that are looked at, in order: the given one, EV_DATA_DIR's, the cache folder."""
    named = os.environ.get("EV_DATA_DIR")
    return [
        *([] if data_dir is None else [data_dir]),
        *([Path(named).expanduser()] if named else []),
        cache_folder(),
    ]


def find(name: str, data_dir: Path | None) -> Path | None:
    """Return the first folder that holds the data set `name`, or None.

    Args:
        name: a key of `LAYOUTS`.
        data_dir: a folder with the files, or with a folder of the set's name that has them.
    """
    layout = LAYOUTS[name]
    for base in data_folders(data_dir):
        for folder in (*(base / inner for inner in layout.folders), base):
            if any(os.path.exists(folder / marker) for marker in layout.markers):
                return folder
    return None


def require_folder(data_dir: Path | None) -> None:
    """Raise `UserError` if a folder was given that is none."""
    require(data_dir is None or os.path.isdir(data_dir), "data-dir", str(data_dir), "a folder that exists")


def missing(name: str, data_dir: Path | None, fetching: str) -> UserError:
    """Make the error that says what is missing, where it was looked for, and what can be done.

    Args:
        name: a key of `LAYOUTS`.
        data_dir: the folder that was given.
        fetching: what to say of a download, at the end.
    """
    layout = LAYOUTS[name]
    looked = []
    for base in data_folders(data_dir):
        inside = [base / inner for inner in layout.folders if os.path.isdir(base / inner)]
        looked += [f"{folder} ({content(folder)})" for folder in inside or [base]]
    return UserError(
        f"data = {name!r}: found none in {', '.join(looked)}; needed: {layout.needed}; put it there or into a folder"
        f" {name} there, or name another place with --data-dir or EV_DATA_DIR{fetching}"
    )


def content(folder: Path) -> str:
    """Say in a few words what a folder holds, for messages."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: (not entry.is_dir(), entry.name))
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return f"unreadable: {error.strerror}"
    names = [entry.name + "/" * entry.is_dir() for entry in entries]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"holds {', '.join(names[:_SHOWN])}{more}" if names else "empty"
