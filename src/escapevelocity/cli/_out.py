"""The file that `--out` names: one that can be replaced without losing anything else."""

from pathlib import Path
from typing import Literal

from escapevelocity.errors import UserError

_BYTES_READ = 256
_EXAMPLES = {"page": "report.html", "history": "history.parquet"}


def require_replaceable(out: Path, kind: Literal["page", "history"]) -> None:
    """Raise `UserError` unless `out` is not there yet, is empty, or is a file of the kind that will take its place.

    Args:
        out: the file that will be written.
        kind: an HTML page, or the Parquet file of a history.
    """
    try:
        if out.is_dir():
            example = out / _EXAMPLES[kind]
            raise UserError(f"out = {str(out)!r}: must be a file, such as {example}; this is a folder")
        if not out.exists():
            return
        start = b"?"  # Of a device or a pipe, which is neither read nor replaced.
        if out.is_file():
            with out.open("rb") as file:
                start = file.read(_BYTES_READ)
    except OSError as error:
        raise UserError(f"cannot read {out}: {error.strerror}; choose another --out") from error
    if start and not (_is_page(start) if kind == "page" else _is_history(start, out)):
        what = "HTML page" if kind == "page" else "history (Parquet)"
        raise UserError(f"out = {str(out)!r}: is no {what} and would be lost; choose another --out")


def _is_page(start: bytes) -> bool:
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _is_history(start: bytes, path: Path) -> bool:
    """Whether it is a history, or the beginning of one; the records of a run are Parquet too, and must stay."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not start.startswith(b"PAR1"):
        return False
    try:
        return {"run", "spec"} <= set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return True  # Cut off or damaged: nothing could be read of it anyway.
