"""Specs: frozen dataclasses that say everything a run computes, as canonical JSON and back.

A spec's fields may be bool, int, float, str, None, `Literal`, enums, paths, tuples, lists, dicts with
string keys, other dataclasses, and unions of these. Fields with `metadata={"observer": True}` change
nothing that is computed (paths, trackers, how often something is printed) and are left out of the hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError, cannot_read
from ._typed_json import classes_in, decode, encode

SCHEMA_VERSION = 1
"""Version of the run directory's layout; raised when an older library could no longer read it."""

HASH_DIGITS = 10
SPEC_FILE = "spec.json"
COMMANDS = {"ppo": "ev", "asr": "ev asr"}
"""What the commands of a job's runs begin with, such as `ev asr branch`; a job of your own has none."""
_ENVELOPE = {"job", "schema_version", "spec"}

T = TypeVar("T")


def canonical_json(spec: Any, job: str) -> str:
    """Write a spec as JSON that is the same for equal specs: sorted keys, every field, no versions of
    packages.

    Args:
        spec: a (nested, frozen) dataclass.
        job: the name of the job that runs it.

    Raises:
        UserError: naming a field whose value is not of its declared type.

    Example:
        >>> import dataclasses
        >>> @dataclasses.dataclass(frozen=True)
        ... class Count:
        ...     rate: float = 1.0
        >>> json.loads(canonical_json(Count(rate=2), "count"))
        {'job': 'count', 'schema_version': 1, 'spec': {'rate': 2.0}}
    """
    fields = encode(spec, type(spec), observers=True)
    decode(fields, type(spec), classes_in(spec))  # a spec that could not be read back must not start a run
    return _dumps(_envelope(fields, job))


def spec_hash(spec: Any, job: str) -> str:
    """Hash what a spec computes: 10 hex digits of the sha256 of its canonical JSON without observer fields."""
    text = _dumps(_envelope(encode(spec, type(spec), observers=False), job))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]


def spec_from_json(cls: type[T], mapping: Mapping[str, Any], types: Sequence[type] = ()) -> T:
    """Build a spec from a mapping (the `spec` part of spec.json), strictly.

    Args:
        cls: the dataclass.
        mapping: field names to JSON values. A missing key takes the field's default; a whole number does
            for a float.
        types: dataclasses that a field declared with a base class, a Protocol or Any may hold, such as
            registered remedies. Where a field leaves the class open, the JSON names it under `_type`.

    Raises:
        UserError: for an unknown key (with the nearest names), a missing one without default, or a value of
            another type; it names the dotted field, the value and the expected type.
    """
    return decode(mapping, cls, tuple(types))


def read_spec(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a spec.json: a mapping with `job`, `schema_version` and `spec`.

    Args:
        path: the file, or the run's folder.

    Raises:
        UserError: when the file is missing, is not a spec, or was written by a newer version.
    """
    path = Path(path)
    # Most commands take only a folder; who gave one must not be sent to the file.
    accepted = "a run's folder" if path.is_dir() else f"a run's folder or its {SPEC_FILE}"
    path = path / SPEC_FILE if path.is_dir() else path
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise cannot_read(path, error) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give {accepted}") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); it is damaged or not a spec") from error
    if not isinstance(document, dict) or set(document) != _ENVELOPE or not isinstance(document["spec"], dict):
        raise UserError(
            f"{path} is not a spec: expected a JSON object with the keys {', '.join(sorted(_ENVELOPE))}; "
            f"give {accepted}"
        )
    version = document["schema_version"]
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema_version = {version!r}: must be 1 to {SCHEMA_VERSION}; update escapevelocity"
        )
    return document


def load_spec(cls: type[T], path: str | os.PathLike[str], job: str, types: Sequence[type] = ()) -> T:
    """Read a spec.json of the given job back into its dataclass; see `read_spec` and `spec_from_json`."""
    document = read_spec(path)
    if document["job"] != job:
        maker = COMMANDS.get(document["job"])
        told = f"it is a run of `{maker} train`" if maker else "it is the spec of another command"
        raise UserError(f"{path}: job = {document['job']!r}: must be {job!r}; {told}")
    return spec_from_json(cls, document["spec"], types)


def recorded_hash(path: str | os.PathLike[str], like: Any) -> str:
    """The `spec_hash` of what a spec.json says, read as a spec of the class of `like`.

    Raises:
        UserError: it is missing, not a spec, or one of another class.
    """
    document = read_spec(path)
    return spec_hash(spec_from_json(type(like), document["spec"], classes_in(like)), document["job"])


def _envelope(fields: Any, job: str) -> dict[str, Any]:
    return {"job": job, "schema_version": SCHEMA_VERSION, "spec": fields}


def _dumps(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
