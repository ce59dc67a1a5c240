"""Regenerate every figure at small scale, and write what each says. `python -m studies.small_scale --help`."""

import argparse
import sys
from pathlib import Path

from benchmarks._common import replace_section

from studies.options import study_options
from studies.running import command, keep_ended

HERE = Path(__file__).parent
KEPT = HERE / "history.parquet"


def main() -> int:
    """Train what is missing and draw, then write the kept history and the page; returns the exit code."""
    options = _parse()
    code = 0
    if not options.report:
        from escapevelocity.cli.reproduce import main as reproduce

        code = reproduce(_arguments(options))
        if code == 130:  # Stopped; a figure that could not be drawn is no reason not to report the others.
            return code
    replace_section(HERE / "README.md", "numbers", _page(options.store))
    return code


def _arguments(options: argparse.Namespace) -> list[str]:
    """Those of `ev reproduce`."""
    which = options.figures or ["--all"]
    workers = [] if options.workers is None else ["--workers", str(options.workers)]
    history = ["--history", str(KEPT)] if KEPT.exists() else []
    return [*which, "--store", str(options.store), "--out", str(options.out), *workers, *history]


def _page(folder: Path) -> str:
    """Keep what has ended, and say what every figure shows."""
    from escapevelocity.report.lab.progress import track
    from escapevelocity.study.papers.figure import LabFigure
    from escapevelocity.study.papers.kept_findings import find_or_run
    from escapevelocity.study.papers.registry import all_figures
    from escapevelocity.study.reproduced_page import LAB_FOLDER
    from escapevelocity.study.store import open_store
    from studies.small_scale.page import page, runs_of, tell

    store = open_store(folder, create=True)
    wanted = {name for figure in all_figures() for name in runs_of(figure, store)}
    kept = keep_ended(folder, KEPT, wanted)

    def lab(figure: LabFigure) -> list[str]:
        settings = figure.settings("small")
        findings = find_or_run(store.study_path / LAB_FOLDER, figure.experiment, settings, track)
        return figure.measured(findings)

    return page(tell(figure, kept, store, lab) for figure in all_figures())


def _parse() -> argparse.Namespace:
    parser = study_options("small_scale", __doc__)
    parser.add_argument(
        "figures",
        nargs="*",
        metavar="ID",
        help="only train and draw these, such as nrnt/figure-6 (default: all)",
    )
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("runs/reproduce-small"),
        help="folder of the runs (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/figures-small"),
        help="folder of the figures (default: %(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(command(main))
