"""Gather the runs, draw the paper's figures from them, write the page. `python -m studies.hopper_collapse --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks._common import replace_section

from escapevelocity.study.grid import read_study
from escapevelocity.study.history import History
from escapevelocity.study.plan import Planned, plan
from escapevelocity.study.store import open_store
from studies.hopper_collapse.figures import draw_all
from studies.hopper_collapse.measures import measured
from studies.hopper_collapse.page import page
from studies.running import command, keep_ended

HERE = Path(__file__).parent
STUDIES = ("study.toml", "remedies.toml")


def main() -> int:
    """Gather, draw, write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m studies.hopper_collapse", description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("runs/hopper-collapse"), help="folder of the runs")
    options = parser.parse_args()
    store = open_store(options.store, create=True)
    planned = [run for name in STUDIES for run in plan(read_study(HERE / name), store, record=False)]
    names = {run.order.name for run in planned}
    ended = keep_ended(options.store, HERE / "history.parquet", names)
    replace_section(HERE / "README.md", "numbers", page(measured(ended), _missing(planned, ended)))
    replace_section(HERE / "README.md", "figures", draw_all(ended, store, HERE))
    return 0


def _missing(planned: Sequence[Planned], ended: History) -> list[str]:
    """The runs that have not ended, in words."""
    there = {run.name for run in ended.runs}
    return [
        ", ".join(f"{name} {value}" for name, value in run.order.labels.items())
        for run in planned
        if run.order.name not in there
    ]


if __name__ == "__main__":
    sys.exit(command(main))
