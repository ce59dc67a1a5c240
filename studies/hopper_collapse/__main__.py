"""Gather the runs, draw the paper's figures from them, write the page. `python -m studies.hopper_collapse --help`."""

import argparse
from pathlib import Path

from benchmarks._common import replace_section

from escapevelocity.study.grid import Study, read_study
from escapevelocity.study.history import History, collect, read_history, write_history
from escapevelocity.study.plan import plan
from escapevelocity.study.store import open_store
from studies.hopper_collapse.figures import draw_all
from studies.hopper_collapse.measures import measured
from studies.hopper_collapse.page import page
from studies.running import finished

HERE = Path(__file__).parent
STUDIES = ("study.toml", "remedies.toml")


def main() -> None:
    """Gather, draw, write."""
    parser = argparse.ArgumentParser(prog="python -m studies.hopper_collapse", description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("runs/hopper-collapse"), help="folder of the runs")
    options = parser.parse_args()
    ended = finished(read_history(collect(options.store)))
    write_history(ended, HERE / "history.parquet", columns=kept_columns(ended))
    replace_section(HERE / "README.md", "numbers", page(measured(ended), _missing(options.store)))
    replace_section(HERE / "README.md", "figures", draw_all(ended, open_store(options.store), HERE))


def kept_columns(history: History) -> list[str]:
    """What others need to analyse the runs without training them again; times and faults are not."""
    left_out = ("time/", "norm/", "change/", "fault", "segment", "wall_time")
    return [name for name in history.columns if not name.startswith(left_out)]


def _missing(store: Path) -> list[str]:
    """The runs of the plan that are not finished, in words."""
    words = []
    for study in (read_study(HERE / name) for name in STUDIES):
        words += _unfinished(study, store)
    return words


def _unfinished(study: Study, store: Path) -> list[str]:
    planned = plan(study, open_store(store))
    return [
        ", ".join(f"{name} {value}" for name, value in each.order.labels.items())
        for each in planned
        if each.state != "finished"
    ]


if __name__ == "__main__":
    main()
