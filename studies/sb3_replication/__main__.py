"""Run or report the replication in Stable-Baselines3. `python -m studies.sb3_replication --help`."""

import argparse
import sys
from pathlib import Path

from benchmarks._common import replace_section

from studies.options import study_options
from studies.running import command

HERE = Path(__file__).parent


def main() -> int:
    """Train what is missing, then write the kept history, the numbers and the figures; returns the exit code."""
    from studies.sb3_replication.plan import STAGES, TRAINERS, names

    options = _parse(STAGES, tuple(TRAINERS))
    out = options.out or Path("runs") / ("sb3-replication-quick" if options.quick else "sb3-replication")
    from studies.running import gathered, run_studies
    from studies.sb3_replication.figure import draw
    from studies.sb3_replication.page import page

    code = 0
    target = out if options.quick else HERE
    kept = target / "history.parquet"
    if not options.report:
        code = run_studies(names(options.stages, options.trainers, options.quick), out, options.workers, kept)
        if code == 130:  # Stopped; a run that failed is no reason not to report the others.
            return code
    history = gathered(out, kept)
    text = page(history)
    draw(history, target)
    if options.quick:
        print(text)
    else:
        replace_section(HERE / "README.md", "numbers", text)
    return code


def _parse(stages: tuple[str, ...], trainers: tuple[str, ...]) -> argparse.Namespace:
    parser = study_options("sb3_replication", __doc__)
    parser.add_argument("--stages", nargs="+", choices=stages, default=list(stages), help="in this order")
    parser.add_argument(
        "--trainers", nargs="+", choices=trainers, default=list(trainers), help="in this order"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two seeds of a few batches; the page is printed and not kept",
    )
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/sb3-replication)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(command(main))
