"""The options of a command, read off its dataclass: for clear messages, and to know some before the full parse."""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import tyro

from escapevelocity.errors import UserError

HELP = ("-h", "--help")
_NUMBER = re.compile(r"-(\d|\.\d|inf)\S*")


class Option(NamedTuple):
    """One option of a command."""

    name: str
    """Without dashes."""
    values: Literal["none", "one", "many"]
    """How many arguments follow it."""
    accepted: str
    """What the values may be, in words."""


class Given(NamedTuple):
    """What a command line says."""

    options: dict[str, list[str]]
    """Values by the option's name; the last one counts where an option stands twice."""
    positionals: list[str]
    """Arguments that belong to no option."""


def options_of(command: type, prefixed: bool = False) -> dict[str, Option]:
    """The options of a command's dataclass and of the dataclasses in its fields, by flag such as `--epochs`.

    Args:
        command: the dataclass.
        prefixed: whether options of an inner dataclass begin with its field's name, such as `--pfo.coef`.
    """
    options: dict[str, Option] = {}
    for name, hint, only_on in _flags(command, prefixed):
        values, accepted = _describe(hint)
        options[f"--{name}"] = Option(name, values, accepted)
        if values == "none" and not only_on:
            options[_negative(name)] = Option(name, values, accepted)
    return options


def is_option(argument: str) -> bool:
    """Whether an argument is an option's name, and not a value such as −1."""
    return argument.startswith("-") and not _NUMBER.fullmatch(argument)


def split(command: type, argv: Sequence[str], prefixed: bool = False) -> Given:
    """Tell options, their values and positional arguments apart, as tyro will.

    Raises:
        UserError: for an unknown option (with the nearest known one), one without its value, or a superfluous
            argument.
    """
    options = options_of(command, prefixed)
    given, positionals, taking = {}, [], ""
    for argument in argv:
        if is_option(argument):
            flag, equals, value = argument.partition("=")
            option = find(flag, options)
            if equals and option.values == "none":
                negative = _negative(option.name)
                forms = f"--{option.name} or {negative}" if negative in options else f"--{option.name}"
                raise UserError(f"{argument}: {flag} takes no value; use {forms}")
            given[option.name] = [value] if equals else []
            taking = "" if option.values == "none" or (equals and option.values == "one") else option.name
        elif taking:
            given[taking].append(argument)
            taking = taking if options[f"--{taking}"].values == "many" else ""
        else:
            positionals.append(argument)
    for name, values in given.items():
        if options[f"--{name}"].values == "one" and not values:
            raise UserError(f"--{name}: its value is missing; it must be {options[f'--{name}'].accepted}")
    most = _most_positionals(command)
    if most is not None and len(positionals) > most:
        raise UserError(f"unexpected argument {positionals[most]!r}; options start with --")
    return Given(given, positionals)


def find(flag: str, options: Mapping[str, Option]) -> Option:
    """The option of that flag.

    Raises:
        UserError: naming the nearest ones.
    """
    known = flag.replace("_", "-")
    if known in options:
        return options[known]
    near = difflib.get_close_matches(known, options, n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the options"
    raise UserError(f"unknown option {flag}; {hint}")


def _negative(name: str) -> str:
    """The flag that switches a switch off."""
    part, dot, last = name.rpartition(".")
    return f"--{part}{dot}no-{last}"


def _flags(command: type, prefixed: bool) -> list[tuple[str, Any, bool]]:
    """Name and type of every option, and whether it is a switch that can only be put on."""
    flags: list[tuple[str, Any, bool]] = []
    for name, hint in _hints(command):
        plain = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        if _is_marked(hint, tyro.conf.Suppress):
            continue
        if dataclasses.is_dataclass(plain):
            prefix = f"{name.replace('_', '-')}." if prefixed else ""
            inner = _flags(typing.cast(type, plain), prefixed)
            flags += [(prefix + option, kind, only_on) for option, kind, only_on in inner]
        elif not _is_positional(hint):
            # `import` cannot be a field's name: `import_modules` is --import.
            only_on = _is_marked(hint, tyro.conf.FlagCreatePairsOff)
            flags.append((name.removesuffix("_modules").replace("_", "-"), plain, only_on))
    return flags


def _hints(command: type) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(command, include_extras=True)
    return [(field.name, hints[field.name]) for field in dataclasses.fields(command)]


def _is_positional(hint: Any) -> bool:
    return _is_marked(hint, tyro.conf.Positional)


def _is_marked(hint: Any, marker: Any) -> bool:
    own = typing.get_args(marker[str])[1]
    return typing.get_origin(hint) is Annotated and own in typing.get_args(hint)[1:]


def _most_positionals(command: type) -> int | None:
    """How many positional arguments a command takes; None for any number."""
    count = 0
    for _, hint in _hints(command):
        plain = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        if dataclasses.is_dataclass(plain):
            inner = _most_positionals(typing.cast(type, plain))
        elif _is_positional(hint):
            inner = None if typing.get_origin(plain) is tuple else 1
        else:
            inner = 0
        if inner is None:
            return None
        count += inner
    return count


_WORDS = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("text", "words"),
    Path: ("a path", "paths"),
}


def _describe(hint: Any) -> tuple[Literal["none", "one", "many"], str]:
    if hint is bool:
        return "none", ""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one", f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        inner = arguments[0]
        return "many", _WORDS[inner][1] if inner in _WORDS else _describe(inner)[1]
    if origin in (Union, types.UnionType):
        kinds = [argument for argument in arguments if argument is not type(None)]
        return "one", f"{_describe(kinds[0])[1]} or None"
    return "one", _WORDS[hint][0]
