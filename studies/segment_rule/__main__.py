"""Run or report the study of the segment rule. `python -m studies.segment_rule --help`."""

import argparse
import sys
from pathlib import Path

from benchmarks._common import replace_section

from studies.options import study_options
from studies.running import command

HERE = Path(__file__).parent
NAMES = ("IN_FORTY", "IN_ONE")


def main() -> int:
    """Train what is missing, then write the kept history, the numbers and the figure; returns the exit code."""
    options = _parse()
    out = options.out or Path("runs") / ("segment-rule-quick" if options.quick else "segment-rule")
    from studies.running import gathered, run_studies
    from studies.segment_rule.figure import draw
    from studies.segment_rule.page import page

    code = 0
    target = out if options.quick else HERE
    kept = target / "history.parquet"
    if not options.report:
        prefix = "studies.segment_rule.plan:" + ("QUICK_" if options.quick else "")
        code = run_studies([prefix + name for name in NAMES], out, options.workers, kept)
        if code == 130:  # Stopped; a run that failed is no reason not to report the others.
            return code
    history = gathered(out, kept)
    text = page(history)
    draw(history, target / "segments.png")
    if options.quick:
        print(text)
    else:
        replace_section(HERE / "README.md", "numbers", text)
    return code


def _parse() -> argparse.Namespace:
    parser = study_options("segment_rule", __doc__)
    parser.add_argument(
        "--quick", action="store_true", help="short runs of three seeds; the page is printed and not kept"
    )
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/segment-rule)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(command(main))
