"""The file that `--out` names: one that can be replaced without losing anything else."""

from pathlib import Path
from typing import Literal

from escapevelocity.errors import UserError

_BYTES_READ = 256
_ENDINGS = {"HTML": ".html", "Parquet": ".parquet"}


def require_replaceable(out: Path, kind: Literal["HTML", "Parquet"]) -> None:
    """Raise `UserError` unless `out` is not there yet, is empty, or is a file of the kind that will take its place."""
    try:
        if out.is_dir():
            example = out / f"{'report' if kind == 'HTML' else 'history'}{_ENDINGS[kind]}"
            raise UserError(f"out = {str(out)!r}: must be a file, such as {example}; this is a folder")
        if not out.exists():
            return
        start = b"?"  # Of a device or a pipe, which is neither read nor replaced.
        if out.is_file():
            with out.open("rb") as file:
                start = file.read(_BYTES_READ)
    except OSError as error:
        raise UserError(f"cannot read {out}: {error.strerror}; choose another --out") from error
    if start and not _is(kind, start):
        raise UserError(f"out = {str(out)!r}: is no {kind} file and would be lost; choose another --out")


def _is(kind: Literal["HTML", "Parquet"], start: bytes) -> bool:
    if kind == "Parquet":
        return start.startswith(b"PAR1")
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html"))
