"""Run or report the study of the escort head on MinAtar. `python -m studies.escort_minatar --help`."""

import argparse
import sys
from pathlib import Path

from benchmarks._common import replace_section

from studies.options import study_options
from studies.running import command

HERE = Path(__file__).parent


def main() -> int:
    """Train and choose, then train and report; what is done already is not done again. Returns the exit code."""
    options = _parse()
    out = options.out or Path("runs") / ("escort-minatar-quick" if options.quick else "escort-minatar")
    target = out if options.quick else HERE
    code = _choose(options, out, target)
    if code == 130 or options.stage == "choose":
        return code
    from escapevelocity.study.grid import read_study
    from studies.escort_minatar.choice import read_choice
    from studies.escort_minatar.figure import draw
    from studies.escort_minatar.page import page
    from studies.running import gathered, run_studies

    if not options.report:
        kept = target / "history.parquet"
        code = max(code, run_studies([str(target / "report.toml")], out / "report", options.workers, kept))
        if code == 130:
            return code
    study, document = read_study(target / "report.toml"), read_choice(target / "chosen.json")
    history = gathered(out / "report", target / "history.parquet")
    text = page(document, study, history)
    draw(document, study, history, target / "escort.png")
    if options.quick:
        print(text)
    else:
        replace_section(HERE / "README.md", "numbers", text)
    return code


def _choose(options: argparse.Namespace, out: Path, target: Path) -> int:
    """The first stage, unless chosen.json says that it has been done; returns the exit code."""
    from studies.escort_minatar.choice import choose, read_choice, write_choice
    from studies.escort_minatar.plan import CHOOSE, CHOOSE_FILE, QUICK_CHOOSE, report_text
    from studies.running import gathered, run_studies

    study = QUICK_CHOOSE if options.quick else CHOOSE
    name = "studies.escort_minatar.plan:QUICK_CHOOSE" if options.quick else str(CHOOSE_FILE)
    code = 0
    if not (target / "chosen.json").exists():
        if not options.report:
            code = run_studies([name], out / "choose", options.workers, target / "choose.parquet")
            if code == 130:
                return code
        write_choice(
            target / "chosen.json", choose(study, gathered(out / "choose", target / "choose.parquet"))
        )
    rates = read_choice(target / "chosen.json")["chosen"]
    (target / "report.toml").write_text(report_text(study, rates, options.quick), encoding="utf-8")
    return code


def _parse() -> argparse.Namespace:
    parser = study_options("escort_minatar", __doc__)
    parser.add_argument(
        "--stage", choices=("choose", "all"), default="all", help="stop after the first stage"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one game, two rates, two seeds of a few batches; the page is printed and not kept",
    )
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/escort-minatar)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(command(main))
