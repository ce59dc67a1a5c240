"""TensorBoard event files: scalars and CleanRL's settings, from files that may be cut off or damaged."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.interop._foreign_log import Log, Points
from escapevelocity.interop._foreign_tags import normalised

_HEADER, _FOOTER = 12, 4
_LARGEST_ENTRY = 65_536
"""Bytes; larger entries are images, videos or histograms, and stay unread."""
_SETTINGS_TAG = "hyperparameters/text_summary"
_SCALAR_TYPES = {1: "float_val", 2: "double_val", 3: "int_val", 9: "int64_val"}
"""TensorProto.dtype -> field; TensorFlow 2 writes scalars as tensors."""
_NUMPY_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}


def is_event_file(path: Path) -> bool:
    """Say whether a file is named as TensorBoard's event files are."""
    return ".tfevents." in path.name or path.name.endswith(".tfevents")


def read_events(files: Sequence[Path]) -> Log:
    """Read the event files of one folder, which TensorBoard takes for one run.

    Args:
        files: in any order; their names begin with the time at which they were opened.

    Raises:
        UserError: when tensorboardX, which knows the format of an event, is not installed.
    """
    event, crc = _format()
    files = sorted(files, key=lambda file: file.name)
    log, points = Log(files[0].parent, files[0].parent.name), Points()
    for file in files:
        for entry in _entries(file, crc, log.notes):
            try:
                found = event.FromString(entry)
            except (
                Exception
            ):  # protobuf's DecodeError, which has no public name common to its implementations.
                log.notes.append(f"{file.name} holds an entry that is no event; the others are read")
                continue
            for value in found.summary.value:
                _take(value, found.step, points, log)
    log.series = points.series()
    return log


def _format() -> tuple[Any, Any]:
    try:
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import masked_crc32c
    except ImportError:
        raise UserError(
            "TensorBoard files need tensorboardX, which is not installed: pip install 'escapevelocity[track]'"
        ) from None
    return event_pb2.Event, masked_crc32c  # pyright: ignore[reportAttributeAccessIssue]


def _entries(file: Path, crc: Any, notes: list[str]) -> Iterator[bytes]:
    """Yield whole entries (TFRecord: length, its checksum, data, its checksum); stop at the first damage."""
    data = file.read_bytes()
    at = 0
    while at < len(data):
        if at + _HEADER > len(data):
            notes.append(f"{file.name} ends in the middle of an entry, as when a run is killed")
            return
        length, check = struct.unpack_from("<QI", data, at)
        start, end = at + _HEADER, at + _HEADER + length
        if crc(data[at : at + 8]) != check:
            notes.append(f"{file.name} is damaged at byte {at:,}: what follows is left out")
            return
        if end + _FOOTER > len(data):
            notes.append(f"{file.name} ends in the middle of an entry, as when a run is killed")
            return
        at = end + _FOOTER
        if length > _LARGEST_ENTRY:
            continue
        if crc(data[start:end]) != struct.unpack_from("<I", data, end)[0]:
            notes.append(f"{file.name} is damaged at byte {start:,}: what follows is left out")
            return
        yield data[start:end]


def _take(value: Any, step: int, points: Points, log: Log) -> None:
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        points.add(normalised(value.tag), step, value.simple_value)
    elif kind == "tensor" and value.tag == _SETTINGS_TAG and value.tensor.string_val:
        log.settings.update(_settings(value.tensor.string_val[0].decode("utf-8", errors="replace")))
    elif kind == "tensor":
        number = _scalar(value.tensor)
        if number is not None:
            points.add(normalised(value.tag), step, number)


def _scalar(tensor: Any) -> float | None:
    field = _SCALAR_TYPES.get(tensor.dtype)
    if field is None or any(axis.size != 1 for axis in tensor.tensor_shape.dim):
        return None
    if tensor.tensor_content:
        numbers = np.frombuffer(tensor.tensor_content, dtype=_NUMPY_TYPES[tensor.dtype])
    else:
        numbers = getattr(tensor, field)
    return float(numbers[0]) if len(numbers) == 1 else None


def _settings(table: str) -> dict[str, object]:
    """Read CleanRL's Markdown table of its arguments: |name|value|."""
    rows = [line.strip().strip("|").split("|") for line in table.splitlines()]
    return {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}
