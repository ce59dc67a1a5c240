"""A study's TOML file, read strictly: every key is known, every value has its type, and mistakes name both."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from escapevelocity.errors import UserError, require
from escapevelocity.study.settings import nearest

_TOP = ("name", "seeds", "job", "population", "imports")
_TABLES = ("base", "axes", "exclude", "when")
_RANGE = re.compile(r"(\d+):(\d+)")
_MOST_SEEDS = 100_000


def study_fields(path: Path) -> dict[str, Any]:
    """Read a study's file.

    Args:
        path: a TOML file with the keys of `grid.Study`; `seeds` may hold inclusive ranges such as "1:64", and dotted
            keys (`pfo.coef = 10`) are settings of that name.

    Returns:
        The fields of a `Study`; `when` holds mappings with `match` and `set`.

    Raises:
        UserError: the file cannot be read or is no TOML (with the line), an unknown key (with the nearest), or a value
            of another type.
    """
    document = _parse(path)
    try:
        return _fields(document)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Some editors begin with a mark.
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give a study's TOML file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8; give a study's TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}; docs/how-to/study.md shows a study") from error


def _fields(document: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in document.items():
        if key not in (*_TOP, *_TABLES):
            raise UserError(f"{key} = {value!r}: unknown key; {nearest(key, (*_TOP, *_TABLES))}")
    require("name" in document, "name", None, "given: the study's name, such as hopper-collapse")
    fields: dict[str, Any] = {"base": {}, "axes": {}}
    for key, value in document.items():
        fields[key] = _READERS[key](key, value)
    for table in ("base", "axes"):
        for key in fields[table]:
            if key in _TOP and key != "name":
                raise UserError(
                    f"{key}: stands in [{table}]; put it at the top of the file, before any [table]"
                )
    return fields


def _text(key: str, value: Any) -> str:
    require(isinstance(value, str), key, value, "text")
    return value


def _number(key: str, value: Any) -> int:
    require(type(value) is int, key, value, "an integer")
    return value


def _words(key: str, value: Any) -> tuple[str, ...]:
    accepted = "a list of words"
    require(isinstance(value, list) and all(isinstance(x, str) for x in value), key, value, accepted)
    return tuple(value)


def _seeds(key: str, value: Any) -> tuple[int, ...]:
    accepted = 'a list of integers and inclusive ranges such as "1:64"'
    require(isinstance(value, list), key, value, accepted)
    seeds: list[int] = []
    for item in value:
        if type(item) is int:
            seeds.append(item)
            continue
        match = _RANGE.fullmatch(str(item))
        if match is None:
            raise UserError(f"{key} = {item!r}: must be {accepted}")
        first, last = int(match[1]), int(match[2])
        allowed = f"a range a:b with a ≤ b and at most {_MOST_SEEDS:,} seeds"
        require(first <= last < first + _MOST_SEEDS, key, item, allowed)
        seeds += range(first, last + 1)
    return tuple(seeds)


def _settings(key: str, value: Any) -> dict[str, Any]:
    """A table of settings; TOML reads `pfo.coef = 10` as a table within it."""
    require(isinstance(value, dict), key, value, "a table")
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, dict) and name != "remedy":
            flat |= {f"{name}.{field}": inner for field, inner in item.items()}
        else:
            flat[name] = item
    return flat


def _axes(key: str, value: Any) -> dict[str, tuple[Any, ...]]:
    axes = _settings(key, value)
    for axis, values in axes.items():
        require(isinstance(values, list), f"axis {axis}", values, "a list of values")
    return {axis: tuple(_axis_value(axis, v) for v in values) for axis, values in axes.items()}


def _axis_value(axis: str, value: Any) -> Any:
    return _settings(f"axis {axis}", value) if isinstance(value, dict) else value


def _tables(key: str, value: Any) -> list[dict[str, Any]]:
    tables = isinstance(value, list) and all(isinstance(item, dict) for item in value)
    require(tables, key, value, f"tables, each under [[{key}]]")
    return value


def _exclude(key: str, value: Any) -> tuple[dict[str, Any], ...]:
    return tuple(_settings(f"{key} {number}", table) for number, table in enumerate(_tables(key, value), 1))


def _when(key: str, value: Any) -> tuple[dict[str, Any], ...]:
    rules = []
    for number, table in enumerate(_tables(key, value), 1):
        for name, item in table.items():
            if name not in ("match", "set"):
                raise UserError(f"{key} {number}: {name} = {item!r}: unknown key; it has match and set")
        parts = {name: _settings(f"{key} {number}: {name}", table.get(name, {})) for name in ("match", "set")}
        rules.append(parts)
    return tuple(rules)


_READERS = {
    "name": _text,
    "job": _text,
    "population": _number,
    "seeds": _seeds,
    "imports": _words,
    "base": _settings,
    "axes": _axes,
    "exclude": _exclude,
    "when": _when,
}
