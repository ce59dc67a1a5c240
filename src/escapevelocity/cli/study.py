"""`ev study`: plan, run, watch and gather a grid of runs."""

import difflib
import importlib
from collections.abc import Sequence

from escapevelocity.errors import UserError

_COMMANDS = {
    "plan": "print the runs of a study, what is done already, and what the rest will cost",
    "run": "train what is missing, on this machine or on a Ray cluster",
    "watch": "follow a study while it trains: states, speed, expected end, alarms",
    "history": "gather the thinned records of every run into one Parquet file",
}

_USAGE = """\
usage: ev study COMMAND FILE [options]

A study is a grid of runs: settings, axes and seeds in a TOML file (docs/how-to/study.md).
It can be stopped, extended and run again: only what is missing is trained.

commands:
{commands}

Start here:
  ev study plan my-study.toml                  what would be trained, and for how long
  ev study run my-study.toml                   train it, one run per core
  ev study COMMAND --help                      every option, with its meaning
"""


def main(argv: Sequence[str]) -> int:
    """Run `ev study`; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE.format(commands="\n".join(f"  {name:<10} {text}" for name, text in _COMMANDS.items())))
        return 0
    name, *rest = argv
    if name not in _COMMANDS:
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_COMMANDS)}"
        raise UserError(f"study command = {name!r}: not a command of ev study; {hint}")
    return importlib.import_module(f"escapevelocity.cli.study_{name}").main(rest)
