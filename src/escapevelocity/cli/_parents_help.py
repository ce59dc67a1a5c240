"""Help of a command that goes on from a run: what is not given stays as in the parent, so no preset's defaults."""

import contextlib
import dataclasses
import functools
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from escapevelocity.cli._options import split
from escapevelocity.cli._parse import HELP
from escapevelocity.errors import UserError

HINT = "(default: the parent's)"


C = TypeVar("C")


def with_settings_of(command: Callable[..., C], sections: Sequence[str], spec: Any, run: Path) -> C:
    """The command as it is where nothing but RUN is given."""
    return command(run, **{name: getattr(spec, name) for name in sections})


def help_of(
    command: type[C], sections: Sequence[str], arguments: Sequence[str], saved: Callable[[Path], Any]
) -> tuple[type, C | None]:
    """The command whose help is printed, with the parent's settings where one is named and can be read.

    Args:
        command: its dataclass, whose first field is the run's folder.
        sections: the fields that hold settings of the run, each a dataclass.
        arguments: the command line.
        saved: reads a run's settings.
    """
    with contextlib.suppress(UserError):
        given = split(command, [argument for argument in arguments if argument not in HELP])
        if given.positionals:
            run = Path(given.positionals[0])
            return command, with_settings_of(command, sections, saved(run), run)
    return _without_defaults(command, sections), None


@functools.cache
def _without_defaults(command: type, sections: Sequence[str]) -> type:
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
