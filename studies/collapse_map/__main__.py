"""Run or report the map of collapse. `python -m studies.collapse_map --help`."""

import argparse
import sys
from pathlib import Path

from benchmarks._common import replace_section

from studies.options import study_options
from studies.running import command, keep_ended, run_studies

HERE = Path(__file__).parent
STUDY, KEPT = HERE / "study.toml", HERE / "history.parquet"


def main() -> int:
    """Train what is missing, then write the kept history, the numbers and the figure; returns the exit code."""
    options = _parse()
    from escapevelocity.study.grid import read_study
    from escapevelocity.study.plan import plan
    from escapevelocity.study.store import open_store
    from studies.collapse_map.figure import draw
    from studies.collapse_map.page import page

    code = 0
    if not options.report:
        code = run_studies([str(STUDY)], options.store, options.workers, KEPT)
        if code == 130:  # Stopped; a run that failed is no reason not to report the others.
            return code
    store = open_store(options.store, create=True)
    names = {planned.order.name for planned in plan(read_study(STUDY), store, record=False)}
    history = keep_ended(options.store, KEPT, names)
    draw(history, HERE / "map.png")
    replace_section(HERE / "README.md", "numbers", page(history, len(names)))
    return code


def _parse() -> argparse.Namespace:
    parser = study_options("collapse_map", __doc__)
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("runs/reproduce-small"),
        help="folder of the runs; a third of them are those of small_scale, which are shared (default: %(default)s)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(command(main))
