"""Command lines from dataclasses by tyro, with its errors folded into one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from escapevelocity.errors import UserError

T = TypeVar("T")

_FRAME = re.compile(r"[╭╮╰╯│─]+")
_NOISE = [
    re.compile(pattern)
    for pattern in (
        r"^(Parsing error|Value error:?|Invalid choice|Required options|Unrecognized options:?(?= Unrecognized))",
        r"Error parsing (spec|spec\.\w+): ",
        r"\s*Argument helptext:.*$",
        r"\s*For full helptext.*$",
        r"\.$",
    )
]


def parse(command: type[T], argv: Sequence[str], prog: str, default: Any = None) -> T:
    """Parse `argv` into the dataclass `command`; its docstring is the help text.

    Args:
        command: a dataclass; nested dataclasses become flags without prefixes.
        argv: the arguments after the command's name.
        prog: what help calls the command, such as "ev train".
        default: an instance whose values are the defaults.

    Raises:
        UserError: whatever tyro finds wrong, in one line.
        SystemExit: after printing help.
    """
    complaint = io.StringIO()
    keywords = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                command,
                args=list(argv),
                prog=prog,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
                **keywords,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_one_line(complaint.getvalue(), prog)) from None


def _one_line(panel: str, prog: str) -> str:
    """The message inside tyro's panel, without its frame, its headings and the help text it repeats."""
    text = " ".join(_FRAME.sub(" ", panel).split())
    for noise in _NOISE:
        text = noise.sub("", text)
    return f"{text.strip()}; see {prog} --help"
