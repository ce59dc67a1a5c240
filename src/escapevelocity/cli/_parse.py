"""Command lines from dataclasses by tyro, with every mistake told in one line."""

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import tyro

from escapevelocity.cli._options import HELP, Given, Option, options_of, split
from escapevelocity.errors import UserError

T = TypeVar("T")

_EDGES = "│| \n"
_RULE = re.compile(r"[╰+─-]+.*")  # The frame's bottom and the lines between its parts.
_FIELD = re.compile(r"(?:Error parsing|for argument '?)\s*--([\w.-]*\w)")
_MISSING = re.compile(r"Missing from [^:]+: (\S+) (.*?)\.? \(required\)")
_OF_FIELD = re.compile(r"Error parsing [\w.]+: ")
_REPEATED_HELP = re.compile(r"\s*(Argument helptext:|For full helptext).*$")


def parse(command: type[T], argv: Sequence[str], prog: str, default: Any = None, prefixed: bool = False) -> T:
    """Parse `argv` into the dataclass `command`; its docstring is the help text.

    Args:
        command: a dataclass.
        argv: the arguments after the command's name.
        prog: what help calls the command, such as "ev train".
        default: an instance whose values are the defaults.
        prefixed: whether flags of a nested dataclass begin with its field's name, such as `--pfo.coef`.

    Raises:
        UserError: whatever is wrong, in one line.
        SystemExit: after printing help.
    """
    wants_help = any(argument in HELP for argument in argv)
    given = Given({}, []) if wants_help else split(command, argv, prefixed)
    prefixes = () if prefixed else (tyro.conf.OmitArgPrefixes,)
    complaint = io.StringIO()
    keywords = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                command,
                args=list(argv),
                prog=prog,
                config=(*prefixes, tyro.conf.HelptextFromCommentsOff),
                **keywords,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        text = _one_line(complaint.getvalue(), options_of(command, prefixed), given)
        raise UserError(f"{text}; see {prog} --help") from None


def _one_line(panel: str, options: Mapping[str, Option], given: Given) -> str:
    """What tyro's panel says: field, value and what is accepted, or its message without frame and headings."""
    # The first line is a heading; there is no frame where the terminal is not UTF-8.
    lines = [line.strip(_EDGES) for line in panel.strip().splitlines()[1:]]
    text = " ".join(" ".join(line for line in lines if not _RULE.fullmatch(line)).split())
    field = _FIELD.search(text)
    option = options.get(f"--{field[1]}") if field else None
    if option is not None and option.name in given.options:
        return f"{option.name} = {' '.join(given.options[option.name])!r}: must be {option.accepted}"
    if missing := _MISSING.search(text):
        return f"{missing[1]}: missing; it is {missing[2][0].lower()}{missing[2][1:]}"
    for noise in (_REPEATED_HELP, _OF_FIELD):
        text = noise.sub("", text).strip()
    return text.removesuffix(".")
