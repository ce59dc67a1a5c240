"""Settings by the name of their option, laid over a spec of nested dataclasses: each is checked against its type."""

import dataclasses
import difflib
import functools
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from escapevelocity.errors import UserError
from escapevelocity.runs import spec_from_json

T = TypeVar("T")


def setting_names(cls: type) -> dict[str, str | None]:
    """The settings of a spec: the name of each field of its dataclass, and of the dataclasses in its fields.

    Args:
        cls: the spec's class. Names must be unique over its parts, as they are on a command line.

    Returns:
        For each name the field that holds it, or None for a field of the spec itself.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Optimizer:
        ...     epochs: int = 10
        >>> @dataclasses.dataclass(frozen=True)
        ... class Spec:
        ...     steps: int = 100
        ...     optimizer: Optimizer = Optimizer()
        >>> setting_names(Spec)
        {'steps': None, 'epochs': 'optimizer'}
    """
    return {name: part for name, (part, _) in _fields(cls).items()}


def with_settings(spec: T, settings: Mapping[str, Any], fixed: Collection[str] = ()) -> T:
    """Lay settings over a spec.

    Args:
        spec: a frozen dataclass, with dataclasses in its fields.
        settings: values by the setting's name (`setting_names`).
        fixed: settings that may not be given here.

    Returns:
        The spec with these settings; all others are as they were.

    Raises:
        UserError: an unknown setting (with the nearest names), or a value of another type or out of range.
    """
    fields = _fields(type(spec))
    known = [name for name in fields if name not in fixed]
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"{name} = {value!r}: unknown setting; {nearest(name, known)}")
    values = typed_values(type(spec), settings)
    changed: dict[str, Any] = {name: value for name, value in values.items() if fields[name][0] is None}
    for part in {fields[name][0] for name in values} - {None}:
        inner = {name: value for name, value in values.items() if fields[name][0] == part}
        changed[str(part)] = dataclasses.replace(getattr(spec, str(part)), **inner)
    return dataclasses.replace(typing.cast(Any, spec), **changed)


def typed_values(cls: type, settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn plain values (of TOML, JSON or Python) into what a dataclass's fields are declared to be.

    Args:
        cls: the dataclass; fields of the dataclasses in it count too.
        settings: values by the field's name.
        prefix: put before a name in messages, such as "pfo.".

    Returns:
        The values: lists have become tuples, whole numbers floats where a float is wanted.

    Raises:
        UserError: an unknown name, or a value of another type; the message begins with the name.
    """
    try:
        # All fields at once and nothing else: ranges are the business of the spec that they end in.
        checked = spec_from_json(_plain(cls), {name: plain_number(v) for name, v in settings.items()})
    except UserError as error:
        raise UserError(f"{prefix}{error}") from error
    return {name: getattr(checked, name) for name in settings}


def nearest(name: str, known: Iterable[str]) -> str:
    """Name the nearest of the known names, or all of them where none is near and they are few."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(known)}" if known else "none is known here"


def plain_number(value: Any) -> Any:
    """A NumPy scalar as a number of Python, which it is for a study that makes its values with NumPy; others as is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


@functools.cache
def _fields(cls: type) -> dict[str, tuple[str | None, Any]]:
    """For each setting the part that holds it, and its type."""
    fields: dict[str, tuple[str | None, Any]] = {}
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        hint = hints[item.name]
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            inner = typing.get_type_hints(hint)
            fields |= {each.name: (item.name, inner[each.name]) for each in dataclasses.fields(hint)}
        elif item.init:
            fields[item.name] = (None, hint)
    return fields


@functools.cache
def _plain(cls: type) -> type:
    """A dataclass of all settings side by side, without the checks of the classes that they come from."""
    fields = [(name, hint, dataclasses.field(default=None)) for name, (_, hint) in _fields(cls).items()]
    return dataclasses.make_dataclass("Settings", fields, frozen=True)
