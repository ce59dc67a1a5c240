"""Run the study: train what is missing, choose, report. `python -m studies.early_warning --help`."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks._common import positive, replace_section

from studies.early_warning.cases import Case, cases_of
from studies.early_warning.choice import Choice
from studies.early_warning.figure import draw_leads
from studies.early_warning.page import page
from studies.early_warning.plan import PLAN, quick_plan
from studies.early_warning.repetition import repeated_page, repeated_table
from studies.early_warning.table import (
    add_paces,
    choose_on,
    chosen_thresholds,
    columns_of,
    leads_of_signs,
    parts_of,
    to_table,
    unused_signs,
)
from studies.early_warning.training import train_plan
from studies.running import command

HERE = Path(__file__).parent


def main() -> int:
    """Train, choose, write the kept files; with --quick only print what they would say. Returns the exit code."""
    options = _parse()
    plan = quick_plan() if options.quick else PLAN
    out = options.out or Path("runs") / ("early-warning-quick" if options.quick else "early-warning")
    runs = train_plan(plan, out, options.jobs)
    cases = [case for setting, run in zip(plan, runs, strict=True) for case in cases_of(setting, run)]
    if options.again:
        _repeat(cases)
        return 0
    parts = parts_of(cases)
    choice = choose_on(cases, parts)
    table = add_paces(to_table(cases, parts, choice), cases, parts)
    chosen = _describe(choice, table)
    if options.quick:
        print(page(table, chosen))
        return 0
    pq.write_table(table, HERE / "runs.parquet")
    _write_json(HERE / "chosen.json", chosen)
    replace_section(HERE / "README.md", "numbers", page(table, chosen))
    draw_leads(table, HERE / "leads.png")
    return 0


def _repeat(cases: Sequence[Case]) -> None:
    chosen = json.loads((HERE / "chosen.json").read_text(encoding="utf-8"))
    anew = choose_on(cases, parts_of(cases))
    table = repeated_table(cases, chosen, anew)
    thresholds = chosen_thresholds(anew)
    pq.write_table(table, HERE / "again.parquet")
    _write_json(HERE / "again.json", {"thresholds": thresholds})
    replace_section(HERE / "README.md", "again", repeated_page(table, chosen["thresholds"], thresholds))


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _describe(choice: Choice, table: pa.Table) -> dict[str, Any]:
    """What the library takes from the study."""
    return {
        "source": "studies/early_warning",
        "agreeing": choice.agreeing,
        "thresholds": chosen_thresholds(choice),
        "signs": list(columns_of(table, "sign")),
        "unused_signs": [str(sign) for sign in unused_signs(choice)],
        "median_lead": leads_of_signs(table),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m studies.early_warning", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="short runs of two settings per task, printed and not kept"
    )
    parser.add_argument("--jobs", type=positive, default=1, help="programs trained at a time (default: 1)")
    parser.add_argument(
        "--out", type=Path, help="folder of the runs (default: runs/early-warning); finished ones are kept"
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="choose nothing: hold what was chosen against these runs (new ones, in another --out)",
    )
    options = parser.parse_args()
    if options.again and (options.quick or options.out is None):
        parser.error("--again takes --out, a folder of runs that had no part in the choice, and not --quick")
    return options


if __name__ == "__main__":
    sys.exit(command(main))
