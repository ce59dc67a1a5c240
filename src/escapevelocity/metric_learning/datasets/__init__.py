"""The data sets: which files they come in, where those lie, and which half of the classes trains."""

from pathlib import Path
from typing import get_args

import numpy as np

from escapevelocity.errors import UserError, require
from escapevelocity.metric_learning.config import DataName
from escapevelocity.metric_learning.datasets import folders, in_memory
from escapevelocity.metric_learning.datasets.places import cache_folder, find, missing, require_folder
from escapevelocity.metric_learning.download import GONE, SOURCES, download_files, human_size
from escapevelocity.metric_learning.images import LabelledImages, subset

__all__ = ["cache_folder", "load_halves"]

_HALVED = {
    "mnist": in_memory.mnist,
    "fashion-mnist": in_memory.fashion_mnist,
    "cub200": folders.cub200,
    "cars196": folders.cars196,
}
_WITH_OWN_HALVES = {"omniglot": in_memory.omniglot, "sop": folders.sop}


def load_halves(
    name: str, data_dir: Path | None = None, download: bool = False
) -> tuple[LabelledImages, LabelledImages]:
    """Load a data set: the classes to train on, and those that are for testing alone.

    Files are looked for in `data_dir`, then in the folder that EV_DATA_DIR names, then in the cache folder; each time
    in a folder with the set's name and in the folder itself.

    Args:
        name: one of `config.DataName`.
        data_dir: a folder.
        download: fetch what is in none of these, to `data_dir` if that is given, else to the cache folder.

    Returns:
        The first half of the classes in the order of their names or numbers (rounded down), and the rest; Omniglot and
        Stanford Online Products bring their own halves.

    Raises:
        UserError: an unknown name; files that are missing, damaged, or cannot be fetched; fewer than two classes.
    """
    require(name in get_args(DataName), "data", name, f"one of {', '.join(get_args(DataName))}")
    if name == "digits":
        return _halved(in_memory.digits(), name)
    folder = _obtained(name, None if data_dir is None else data_dir.expanduser(), download)
    if name in _WITH_OWN_HALVES:
        return _WITH_OWN_HALVES[name](folder)
    return _halved(_HALVED[name](folder), name)


def _obtained(name: str, data_dir: Path | None, download: bool) -> Path:
    """Find the set's folder, if need be after a download."""
    if not download:
        require_folder(data_dir)
    folder = find(name, data_dir)
    if folder is not None:
        return folder
    if name in GONE:
        raise missing(name, data_dir, f"; it cannot be fetched with --download: {GONE[name]}")
    if not download:
        size = human_size(sum(source.size for source in SOURCES[name]))
        raise missing(name, data_dir, f", or fetch it with --download ({size})")
    target = (data_dir or cache_folder()) / name
    download_files(name, target)
    folder = find(name, data_dir)
    if folder is None:
        raise UserError(f"{target}: what was fetched does not have the files that were expected; remove it")
    return folder


def _halved(data: LabelledImages, name: str) -> tuple[LabelledImages, LabelledImages]:
    classes = len(data.classes)
    require(classes >= 2, f"classes of {name}", classes, "at least 2, so that some are for testing alone")
    is_train = data.labels < classes // 2
    return subset(data, np.flatnonzero(is_train)), subset(data, np.flatnonzero(~is_train))
