"""`ev study`: plan, run, watch and gather a grid of runs."""

from collections.abc import Sequence

from escapevelocity.cli._group import run_group

COMMANDS = {
    "plan": "print the runs of a study, what is done already, and what the rest will cost",
    "run": "train what is missing, on this machine or on a Ray cluster",
    "watch": "follow a study while it trains: states, speed, expected end, alarms",
    "history": "gather the thinned records of every run into one Parquet file",
}

_INTRO = """\
usage: ev study COMMAND FILE [options]

A study is a grid of runs: settings, axes and seeds in a TOML file (docs/how-to/study.md).
It can be stopped, extended and run again: only what is missing is trained."""

_START = """\
  ev study plan my-study.toml                  what would be trained, and for how long
  ev study run my-study.toml                   train it, one run per core
  ev study COMMAND --help                      every option, with its meaning
"""


def main(argv: Sequence[str]) -> int:
    """Run `ev study`; returns the exit code."""
    return run_group("study", COMMANDS, _INTRO, _START, argv)
