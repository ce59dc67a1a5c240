"""`--remedy NAME --NAME.field VALUE`: the remedies on a command line, their fields read off their dataclasses."""

import dataclasses
import re
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from escapevelocity.cli._options import HELP, Option, find, is_option, options_of
from escapevelocity.cli._parse import parse
from escapevelocity.errors import UserError

if TYPE_CHECKING:
    from escapevelocity.ppo.config import PPOSpec
    from escapevelocity.ppo.remedy import Remedy

NONE = "none"
"""Stands for no remedy at all."""
_ROOM = {"none": 0, "one": 1, "many": 1 << 30}
_FIELD = re.compile(r"--([A-Za-z][\w-]*)\.[\w-]+")


class Line(NamedTuple):
    """A command line, divided."""

    rest: list[str]
    """All that does not belong to remedies."""
    names: list[str] | None
    """Remedies, in order; None where the command line has no --remedy."""
    fields: list[str]
    """Options such as --pfo.coef, with their values."""


def take_remedies(argv: Sequence[str]) -> Line:
    """Divide a command line into remedies with their fields, and the rest.

    Args:
        argv: the arguments; modules that register remedies have been imported.

    Raises:
        UserError: an unknown remedy or field (with the nearest), or a field of a remedy that is not asked for.
    """
    names = _names(argv)
    options: dict[str, Option] = {}
    rest, fields, dropped, positionals = [], [], [], []
    target, room = rest, len(argv)  # Where values go, and how many more of them.
    for argument in argv:
        if not is_option(argument):
            # Behind a field's values: it must not fall to the option before, which may take any number of values.
            (target if room > 0 else positionals).append(argument)
            room -= 1
            continue
        flag, equals, _ = argument.partition("=")
        target, room = dropped if flag == "--remedy" else rest, len(argv)
        if match := _FIELD.fullmatch(flag.replace("_", "-")):
            options = options or options_of(_command(names or []), prefixed=True)
            values = _find_field(flag, match[1], names or [], options).values
            target, room = fields, _ROOM[values] - (1 if equals else 0)
        target.append(argument)
    return Line([*positionals, *rest], names, fields)


def make_remedies(line: Line, prog: str) -> "tuple[Remedy, ...] | None":
    """Make the remedies of a command line; None where it has no --remedy.

    Args:
        line: the command line.
        prog: what help calls the command, such as "ev train".

    Raises:
        UserError: a value that its field does not accept.
    """
    if line.names is None:
        return None
    prog = f"{prog} --remedy {' '.join(line.names)}"
    made = parse(_command(line.names), line.fields, prog, prefixed=True)
    return tuple(getattr(made, _identifier(name)) for name in line.names if name != NONE)


def with_remedies(
    spec: "PPOSpec", remedies: "tuple[Remedy, ...] | None", options: Collection[str] = ()
) -> "PPOSpec":
    """The settings with these remedies in place of their own; unchanged where None are given.

    What a remedy that is taken away had set, such as a head, stays; that is said in a line.

    Args:
        spec: the settings.
        remedies: what takes the place of the settings' own.
        options: names of the options that the command line gives; none of them may be overridden.

    Raises:
        UserError: a remedy sets what an option has set otherwise.
    """
    if remedies is None:
        return spec
    from escapevelocity.ppo.remedies import apply_remedies

    bare = dataclasses.replace(spec, remedies=())
    new = apply_remedies(bare, remedies)
    for remedy in remedies:
        _check_options(bare, remedy, options)
    gone = {type(remedy) for remedy in spec.remedies} - {type(remedy) for remedy in remedies}
    for remedy in spec.remedies:
        if type(remedy) in gone and _sets_something(type(remedy)) and remedy.configure(bare) == bare:
            print(f"ev: what --remedy {remedy.name} had set stays; see --dry-run", file=sys.stderr)
    return new


def _check_options(spec: "PPOSpec", remedy: "Remedy", options: Collection[str]) -> None:
    """Raise `UserError` where a remedy changes a setting that an option has made."""
    before, after = (dataclasses.asdict(x) for x in (spec, remedy.configure(spec)))
    for section, fields in before.items():
        for name, value in fields.items() if isinstance(fields, dict) else ():
            option, sets = name.replace("_", "-"), after[section][name]
            if option in options and sets != value:
                raise UserError(
                    f"{option} = {value!r}: --remedy {remedy.name} sets it to {sets!r}; leave one of the two out"
                )


def _sets_something(remedy: "type[Remedy]") -> bool:
    from escapevelocity.ppo.remedy import Remedy

    return remedy.configure is not Remedy.configure


def print_help(command: type, line: Line, prog: str, default: Any) -> int:
    """Print the help of a command and the list of remedies; with --remedy the fields of these instead."""
    from escapevelocity.cli.remedies import remedy_list

    if line.names:
        print_fields(line.names, f"{prog} … --remedy {' '.join(line.names)}")
        return 0
    try:
        parse(command, line.rest, prog, default)
    except SystemExit:
        print(remedy_list())
    return 0


def print_fields(names: Sequence[str], prog: str) -> None:
    """Print what the remedies are, and their fields with meaning and default.

    Raises:
        UserError: an unknown remedy.
    """
    try:
        parse(_command([name for name in names if name != NONE]), [HELP[1]], prog, prefixed=True)
    except SystemExit:
        return


def _names(argv: Sequence[str]) -> list[str] | None:
    """The values of all --remedy options."""
    names: list[str] | None = None
    taking = False
    for argument in argv:
        if is_option(argument):
            flag, equals, value = argument.partition("=")
            taking = flag == "--remedy"
            if taking:
                names = [*(names or []), *([value] if equals else [])]
        elif taking and names is not None:
            names.append(argument)
    if names is None:
        return None
    if not names:
        raise UserError(
            "--remedy: its value is missing; it must be one or more remedies (ev remedies lists them)"
        )
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"remedy = {name!r}: given twice; give it once with all its fields")
    if NONE in names and len(names) > 1:
        raise UserError("remedy = 'none': takes all remedies away; it cannot stand beside others")
    return names


def _command(names: Sequence[str]) -> type:
    """A dataclass with a field for each remedy, as tyro likes it."""
    from escapevelocity.ppo.remedies import remedy_class

    classes: list[tuple[str, Any]] = [(name, remedy_class(name)) for name in names if name != NONE]
    fields = [(_identifier(name), cls, cls()) for name, cls in classes]
    made = dataclasses.make_dataclass("Remedies", fields, frozen=True)
    made.__doc__ = "Remedies against a collapse of the representation."
    return made


def _identifier(name: str) -> str:
    return name.replace("-", "_")


def _find_field(flag: str, name: str, names: Sequence[str], options: dict[str, Option]) -> Option:
    if name not in names:
        from escapevelocity.ppo.remedies import remedy_class

        remedy_class(name)
        raise UserError(f"{flag}: {name} is not among the remedies; add --remedy {name}")
    own = {known: option for known, option in options.items() if option.name.startswith(f"{name}.")}
    if flag.replace("_", "-") not in own and not own:
        raise UserError(f"unknown option {flag}; {name} has no fields")
    return find(flag, own)
