"""Run or report the studies of adaptive sampling. `python -m studies.asr --help`."""

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks._common import replace_section

from studies.options import study_options
from studies.running import command, worse

HERE = Path(__file__).parent
HISTORY, GAPS, FIGURES_FOLDER = HERE / "history.parquet", HERE / "gaps.json", HERE / "figures"
TASKS = ("omniglot", "mnist")


def main() -> int:
    """Train what is missing, measure the gaps, then write the history, figures and page; returns the exit code."""
    options = _parse()
    if options.data_dir is not None:
        os.environ["EV_DATA_DIR"] = str(options.data_dir.resolve())
    from studies.asr.report import measure_all, report

    if not options.report:
        code = _train(options)
        if code == 130:  # Stopped; a run that failed is no reason not to report the others.
            return code
        measure_all(options.store, GAPS, options.task)
    sections = report(options.store, HISTORY, GAPS, FIGURES_FOLDER)
    for name, text in sections.items():
        replace_section(HERE / "README.md", name, text)
    print(json.dumps({name: len(text.splitlines()) for name, text in sections.items()}))
    return 0


def _train(options: argparse.Namespace) -> int:
    """Train what is missing, as `ev reproduce --paper asr --scale paper --task TASK --history …` does for each task."""
    from escapevelocity.cli.reproduce import main as reproduce
    from studies.asr.report import gap_study, is_measured

    worst = 0
    for task in options.task:
        workers = [] if options.workers is None else ["--workers", str(options.workers)]
        given = ["--paper", "asr", "--scale", "paper", "--task", task, "--store", str(options.store)]
        given += ["--history", str(HISTORY)] if HISTORY.exists() else []
        code = reproduce([*given, "--out", str(options.store.parent / "asr-figures"), *workers])
        if code == 130:
            return code
        worst = worse(worst, code)
        if not is_measured(GAPS, task):
            # The gaps branch from the runs themselves: what the history keeps of them does not do.
            from escapevelocity.cli.study_run import train_missing
            from escapevelocity.study.local import LocalExecutor
            from escapevelocity.study.store import open_store

            store = open_store(options.store, create=True)
            code = train_missing(gap_study(task), store, LocalExecutor(options.workers))
            if code == 130:
                return code
            worst = worse(worst, code)
    return worst


def _parse() -> argparse.Namespace:
    parser = study_options("asr", __doc__)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="images to train on")
    parser.add_argument("--data-dir", type=Path, help="folder that holds them (default: EV_DATA_DIR)")
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("runs/asr-study"),
        help="folder of the runs (default: runs/asr-study)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(command(main))
