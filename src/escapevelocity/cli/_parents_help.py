"""Help of a command that goes on from a run: what is not given stays as in the parent, so no preset's defaults."""

import dataclasses
import functools
import typing
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

HINT = "(default: the parent's)"


@functools.cache
def without_defaults(command: type, sections: Sequence[str]) -> type:
    """The same command, whose help names the parent in the place of the defaults.

    Args:
        command: its dataclass.
        sections: the fields that hold settings of the run, each a dataclass.
    """
    hints = typing.get_type_hints(command)
    said = {name: _section(hints[name]) for name in sections}
    fields = [
        (name, Annotated[cls, tyro.conf.arg(name="")], dataclasses.field(default_factory=cls))
        for name, cls in said.items()
    ]
    return _subclass(command, fields)


def _section(cls: type) -> type:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [
        (item.name, Annotated[hints[item.name], tyro.conf.arg(help_behavior_hint=HINT)], _copy(item))
        for item in dataclasses.fields(cls)
    ]
    return _subclass(cls, fields)


def _copy(item: "dataclasses.Field[Any]") -> Any:
    return dataclasses.field(default=item.default, default_factory=item.default_factory)  # pyright: ignore


def _subclass(cls: type, fields: list[tuple[str, Any, Any]]) -> type:
    """tyro finds the text of a field in the source of the class that is inherited."""
    made = dataclasses.make_dataclass(cls.__name__, fields, bases=(cls,), frozen=True)
    made.__doc__ = cls.__doc__
    return made
