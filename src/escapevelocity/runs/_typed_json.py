"""Dataclasses to JSON values and back, led by the declared types; nothing is evaluated or guessed."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

from ..errors import UserError

_TYPE_KEY = "_type"
_WORDS = {
    bool: ("true or false", "true or false"),
    int: ("an integer", "integers such as [64, 64]"),
    float: ("a number", "numbers such as [0.5, 0.5]"),
    str: ("text", "words"),
    Path: ("a path", "paths"),
    type(None): ("null", "null"),
}
"""A type and a list of it, in words that fit JSON and TOML alike."""
_NON_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def encode(value: Any, declared: Any, observers: bool, field: str = "spec") -> Any:
    """Turn a value of type `declared` into a JSON value; observer fields only if asked for."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        body: dict[str, Any] = {}
        if _candidates(declared, ()) != (type(value),):
            body[_TYPE_KEY] = type(value).__name__
        for item, hint in _fields(type(value)):
            if observers or not item.metadata.get("observer"):
                body[item.name] = encode(
                    getattr(value, item.name), hint, observers, _dotted(field, item.name)
                )
        return body
    kind = _matching_kind(value, declared)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | float):
        # An int given for a float must not give another hash than the float itself.
        return _encode_float(float(value)) if kind is float or isinstance(value, float) else int(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, tuple | list):
        return [encode(item, _item(kind, i), observers, f"{field}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        hint = (typing.get_args(kind) or (str, Any))[1]
        return {key: encode(value[key], hint, observers, _dotted(field, key)) for key in value}
    raise UserError(f"{field} = {value!r}: a {type(value).__name__} cannot be written to spec.json")


def decode(value: Any, declared: Any, classes: tuple[type, ...], field: str = "spec") -> Any:
    """Build a value of type `declared` from a JSON value, or raise a `UserError` that names the field."""
    candidates = _candidates(declared, classes)
    if isinstance(value, Mapping) and candidates:
        return _decode_dataclass(value, declared, candidates, classes, field)
    first_error = None
    # float last: in `float | int` a whole number stays whole.
    for kind in sorted(_members(declared), key=lambda member: member is float):
        try:
            matched, result = _decode_plain(value, kind, classes, field)
        except UserError as error:
            first_error = first_error or error
        else:
            if matched:
                return result
    raise first_error or UserError(f"{field} = {value!r}: must be {_describe(declared)}")


def classes_in(value: Any) -> tuple[type, ...]:
    """List the dataclasses that occur inside a value: what is needed to read its JSON back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, item.name) for item in dataclasses.fields(value)]
    else:
        parts = (
            list(value.values())
            if isinstance(value, Mapping)
            else list(value)
            if isinstance(value, tuple | list)
            else []
        )
    own = (type(value),) if dataclasses.is_dataclass(value) else ()
    return tuple(dict.fromkeys([*own, *(cls for part in parts for cls in classes_in(part))]))


def _decode_dataclass(
    value: Mapping[str, Any],
    declared: Any,
    candidates: tuple[type, ...],
    classes: tuple[type, ...],
    field: str,
) -> Any:
    value = dict(value)
    name = value.pop(_TYPE_KEY, None)
    plain = _candidates(declared, ())
    if name is None and len(plain) == 1:
        cls = plain[0]
    else:
        named = {candidate.__name__: candidate for candidate in candidates}
        if name not in named:
            raise UserError(
                f"{_dotted(field, _TYPE_KEY)} = {name!r}: must be one of {', '.join(sorted(named))}"
            )
        cls = named[name]
    hints = {item.name: (item, hint) for item, hint in _fields(cls)}
    for key in value:
        if key not in hints:
            raise UserError(f"{_dotted(field, key)} = {value[key]!r}: unknown field; {_nearest(key, hints)}")
    for key, (item, hint) in hints.items():
        if (
            key not in value
            and item.default is dataclasses.MISSING
            and item.default_factory is dataclasses.MISSING
        ):
            raise UserError(f"{_dotted(field, key)} is missing: must be {_describe(hint)}")
    return cls(
        **{key: decode(item, hints[key][1], classes, _dotted(field, key)) for key, item in value.items()}
    )


def _decode_plain(value: Any, kind: Any, classes: tuple[type, ...], field: str) -> tuple[bool, Any]:
    """Try one member of a union; gives (matched, result)."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True, value
    if kind is type(None) or kind is None:
        return value is None, None
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments), value
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        known = isinstance(value, str) and value in kind.__members__
        return known, kind[value] if known else None
    if kind is float:
        return _decode_float(value)
    if kind in (bool, int, str):
        return type(value) is kind, value
    if kind is Path:
        return (True, Path(value)) if isinstance(value, str) else (False, None)
    if (origin or kind) in (tuple, list, Sequence, Iterable):
        return _decode_sequence(value, kind, origin or kind, classes, field)
    if (origin or kind) in (dict, Mapping) and isinstance(value, Mapping):
        hint = arguments[1] if arguments else Any
        return True, {
            str(key): decode(item, hint, classes, _dotted(field, str(key))) for key, item in value.items()
        }
    return False, None


def _decode_float(value: Any) -> tuple[bool, Any]:
    if isinstance(value, str):
        return value in _NON_FINITE, _NON_FINITE.get(value)
    matched = isinstance(value, int | float) and not isinstance(value, bool)
    return matched, float(value) if matched else None


def _decode_sequence(
    value: Any, kind: Any, origin: Any, classes: tuple[type, ...], field: str
) -> tuple[bool, Any]:
    arguments = typing.get_args(kind)
    fixed = origin is tuple and arguments and not (len(arguments) == 2 and arguments[1] is Ellipsis)
    if not isinstance(value, list | tuple) or (fixed and len(value) != len(arguments)):
        return False, None
    items = [decode(item, _item(kind, i), classes, f"{field}[{i}]") for i, item in enumerate(value)]
    return True, items if origin is list else tuple(items)


def _matching_kind(value: Any, declared: Any) -> Any:
    """Find the union member that a value belongs to, so that nested types are known; Any when none does."""
    for kind in _members(declared):
        origin = typing.get_origin(kind) or kind
        if origin is float and isinstance(value, int | float) and not isinstance(value, bool):
            # An exact int in `int | float` stays an int.
            if not (isinstance(value, int) and int in _members(declared)):
                return kind
        elif origin is Literal or origin is Any:
            continue
        elif isinstance(origin, type) and isinstance(value, origin):
            return kind
    return Any


def _members(declared: Any) -> tuple[Any, ...]:
    """Give the members of a union, or the type itself."""
    if typing.get_origin(declared) in (Union, types.UnionType):
        return tuple(member for part in typing.get_args(declared) for member in _members(part))
    return (declared,)


def _candidates(declared: Any, classes: tuple[type, ...]) -> tuple[type, ...]:
    """List the dataclasses that a field of type `declared` may hold."""
    found: list[type] = []
    for member in _members(declared):
        if member is Any:
            found += classes
        elif isinstance(member, type) and not typing.get_origin(member):
            found += [member] if dataclasses.is_dataclass(member) else []
            found += [cls for cls in classes if _admits(member, cls)]
    return tuple(dict.fromkeys(found))


def _admits(declared: Any, cls: type) -> bool:
    # A Protocol cannot always be checked by issubclass; it is open to every class that was given.
    return bool(getattr(declared, "_is_protocol", False)) or declared in cls.__mro__


@functools.cache
def _fields(cls: type) -> tuple[tuple[dataclasses.Field[Any], Any], ...]:
    # get_type_hints looks annotations up by name in the class's module; it runs no text from a file.
    hints = typing.get_type_hints(cls)
    return tuple((item, hints[item.name]) for item in dataclasses.fields(cls) if item.init)


def _item(kind: Any, index: int) -> Any:
    """Give the declared type of a sequence's item."""
    arguments = typing.get_args(kind)
    if not arguments:
        return Any
    if (typing.get_origin(kind) or kind) is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
        return arguments[index] if index < len(arguments) else Any
    return arguments[0]


def _encode_float(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")


def _describe(declared: Any) -> str:
    parts = []
    for member in _members(declared):
        if typing.get_origin(member) is Literal:
            parts += [repr(choice) for choice in typing.get_args(member)]
        elif isinstance(member, type) and issubclass(member, enum.Enum):
            parts += [repr(name) for name in member.__members__]
        elif member in _WORDS:
            parts.append(_WORDS[member][0])
        elif isinstance(member, type) and not typing.get_args(member):
            parts.append(member.__name__)
        else:
            parts.append(_describe_list(member))
    return " or ".join(parts)


def _describe_list(declared: Any) -> str:
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin not in (tuple, list) or arguments[0] not in _WORDS:
        return str(declared)
    fixed = origin is tuple and arguments[-1] is not Ellipsis
    items = _WORDS[arguments[0]][1]
    return f"a list of {len(arguments)} {items}" if fixed else f"a list of {items}"


def _nearest(key: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"


def _dotted(field: str, name: str) -> str:
    return name if field == "spec" else f"{field}.{name}"
