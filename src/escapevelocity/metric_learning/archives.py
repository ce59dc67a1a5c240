"""Unpacks an archive of images whole or not at all, and nothing outside of its folder."""

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from escapevelocity.errors import UserError


def unpack(archive: Path, target: Path, advance: Callable[[int], None]) -> None:
    """Unpack the folder `target.name` of an archive to `target`.

    Everything is written beside it and renamed at the end. Only folders and plain files are taken: a link, a device or
    a path that leads outside ends it, so that an archive cannot write anywhere else (Python's own `tarfile` and
    `zipfile` differ in what they let through).

    Args:
        archive: a tar file of any compression, or a zip file.
        target: a folder that is not there yet.
        advance: told of the bytes written, for a progress bar.

    Raises:
        UserError: an archive that is damaged, unsafe or without that folder; a full disk, or a target in the way.
    """
    temp = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        for name, content in _members(archive):
            path = temp.joinpath(*_safe_parts(archive, name))
            path.parent.mkdir(parents=True, exist_ok=True)
            with content, open(path, "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
                advance(file.tell())
        if not (temp / target.name).is_dir():
            raise UserError(f"{archive}: must hold a folder {target.name}")
        os.rename(temp / target.name, target)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(
            f"{archive}: could not be unpacked to {target} ({error}); free space, or remove what is there"
        ) from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _members(archive: Path) -> Iterator[tuple[str, Any]]:
    """Yield every file's path in the archive, and the file open for reading."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise _unsafe(archive, member.filename)
                if not member.is_dir():
                    yield member.filename, opened.open(member)
        return
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isfile():
                yield member.name, opened.extractfile(member)
            elif not member.isdir():
                raise _unsafe(archive, member.name)


def _safe_parts(archive: Path, name: str) -> list[str]:
    """Split a member's path; none of its parts may lead upwards or to a root, on Windows neither."""
    parts = [part for part in name.split("/") if part != "."]
    if not parts or any(part in ("", "..") or "\\" in part or ":" in part or "\0" in part for part in parts):
        raise _unsafe(archive, name)
    return parts


def _unsafe(archive: Path, name: str) -> UserError:
    return UserError(
        f"{archive}: {name!r} is a link or leads out of the archive's folder, so nothing was unpacked"
    )
