"""Photographs on disk: CUB200-2011, CARS196 and Stanford Online Products, in the layouts that they are published in.

Files are listed here and decoded later, by the batch. Where a set comes with a list of its images, the list must be
complete on disk, so that half an unpacked archive does not pass for the whole.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from escapevelocity.errors import UserError, require
from escapevelocity.metric_learning.datasets.places import content
from escapevelocity.metric_learning.images import LabelledImages, labelled
from escapevelocity.metric_learning.photographs import Photographs

_SUFFIXES = (".jpg", ".jpeg", ".png")
_SOP_HEADER = ["image_id", "class_id", "super_class_id", "path"]


def cub200(folder: Path) -> LabelledImages:
    """CUB200-2011: 11,788 images of 200 birds, images/CLASS/IMAGE.jpg, checked against images.txt if that is there."""
    photographs = _class_folders([folder / "images"])
    listing = folder / "images.txt"
    if listing.exists():
        rows = _rows(listing, 2, "IMAGE_ID PATH")
        _require_files(folder / "images", [path for _, path in rows], listing)
    return photographs


def cars196(folder: Path) -> LabelledImages:
    """CARS196: 16,185 images of 196 cars, as cars_annos.mat lists them or in a folder for every class.

    The classes of cars_annos.mat have the order that they have there, which is that of their names.
    """
    if (folder / "cars_annos.mat").exists():
        return _annotated_cars(folder)
    if (folder / "images").exists():
        birds = (folder / "images.txt").exists()
        require(not birds, f"{folder}: images.txt", "there", "absent: it is CUB200-2011's list of birds")
        return _class_folders([folder / "images"])
    return _class_folders([folder / "train", folder / "test"])


def sop(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """Stanford Online Products by its own lists: 59,551 images of 11,318 classes, 60,502 of the other 11,316."""
    train, test = (_listed_products(folder, f"Ebay_{part}.txt") for part in ("train", "test"))
    shared = sorted(set(train.classes) & set(test.classes))
    require(
        not shared,
        f"{folder}: classes in both Ebay_train.txt and Ebay_test.txt",
        len(shared),
        "0, as published",
    )
    return train, test


def _class_folders(roots: Sequence[Path]) -> LabelledImages:
    """Images in a folder for every class; a class may lie in several roots. Hidden files are left out."""
    members: dict[str, list[str]] = {}
    for root in roots:
        found = sorted(entry.path for entry in _scan(root) if entry.is_dir() and not _is_hidden(entry.name))
        require(
            bool(found), f"{root}: folders of classes", 0, f"one for each class; the folder {content(root)}"
        )
        for path in found:
            images = sorted(entry.path for entry in _scan(Path(path)) if _is_image(entry.name))
            require(
                bool(images),
                f"{path}: images",
                0,
                f"one or more .jpg or .png; the folder {content(Path(path))}",
            )
            members.setdefault(os.path.basename(path), []).extend(images)
    names = sorted(members)
    numbers = np.repeat(np.arange(len(names)), [len(members[name]) for name in names])
    paths = tuple(path for name in names for path in members[name])
    return labelled(Photographs(paths), numbers, dict(enumerate(names)))


def _annotated_cars(folder: Path) -> LabelledImages:
    from scipy.io import loadmat

    file = folder / "cars_annos.mat"
    try:
        arrays = loadmat(file, squeeze_me=True, variable_names=("annotations", "class_names"))
        annotations = np.atleast_1d(arrays["annotations"])
        paths = [str(path) for path in annotations["relative_im_path"]]
        numbers = annotations["class"].astype(np.int64)
        names = {
            number: str(name) for number, name in enumerate(np.atleast_1d(arrays["class_names"]), start=1)
        }
    # SciPy raises what comes to it, down to zlib.error, on data that it cannot follow.
    except Exception as error:
        raise UserError(
            f"{file}: must be the devkit's list of images, annotations and class_names"
            f" ({type(error).__name__}: {error})".replace("\n", " ")
        ) from None
    _require_files(folder, paths, file)
    return labelled(Photographs(_join(folder, paths)), numbers, names)


def _listed_products(folder: Path, name: str) -> LabelledImages:
    rows = _rows(folder / name, 4, " ".join(_SOP_HEADER), header=_SOP_HEADER)
    paths = [row[3] for row in rows]
    try:
        numbers = np.array([int(row[1]) for row in rows], np.int64)
    except ValueError as error:
        raise UserError(f"{folder / name}: every class_id must be an integer ({error})") from None
    _require_files(folder, paths, folder / name)
    return labelled(Photographs(_join(folder, paths)), numbers, {})


def _rows(file: Path, columns: int, form: str, header: list[str] | None = None) -> list[list[str]]:
    """Read lines of words; the header, where there is one, must be the first."""
    try:
        rows = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: must be a readable text file ({error})") from None
    if header is not None:
        require(rows[:1] == [header], f"{file}: line 1", " ".join(rows[0] if rows else []), form)
    body = rows if header is None else rows[1:]
    require(bool(body), f"{file}: images listed", 0, "one or more")
    for number, row in enumerate(body, start=1 if header is None else 2):
        require(len(row) == columns, f"{file}: line {number}", " ".join(row), form)
    return body


def _require_files(root: Path, paths: Iterable[str], listing: Path) -> None:
    """Check that every listed file is there; folders are read once, which is fast for a hundred thousand files."""
    wanted: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        safe = bool(name) and not os.path.isabs(path) and ".." not in path.split("/")
        require(safe, f"{listing}: path", path, f"inside of {root}")
        wanted.setdefault(folder, set()).add(name)
    absent = [
        os.path.join(folder, name)
        for folder, names in wanted.items()
        for name in sorted(names - {entry.name for entry in _scan(root / folder)})
    ]
    total = sum(map(len, wanted.values()))
    require(
        not absent,
        f"{root}: images of {listing.name} that are missing",
        len(absent),
        f"0 of {total:,}; the first is {absent[:1]}; unpack the archive again",
    )


def _join(folder: Path, paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(os.path.join(folder, path) for path in paths)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError as error:
        raise UserError(f"{folder}: must be a readable folder of images ({error.strerror})") from None


def _is_image(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")
