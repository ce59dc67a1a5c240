"""`ev doctor`: is the installation whole, and what to type if not."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from escapevelocity.cli._parse import parse

if TYPE_CHECKING:
    from rich.table import Table

    from escapevelocity.cli._installation import Finding

_STYLES = {"ok": "green", "missing": "yellow", "broken": "bold red"}


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Look at what the library stands on: packages, JAX, simulators, optional parts, folders, cores and memory.

    Every part is ok, missing (optional: it says for what) or broken, with what to type. Libraries are tried out in
    processes of their own. The exit code is 0 if training works, and 1 if something broken keeps it from working.
    """

    out: Path = Path("runs")
    """Folder that runs will be written to; it is not made."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON, such as for a bug report."""


def main(argv: Sequence[str]) -> int:
    """Run `ev doctor`; returns the exit code."""
    command = parse(Doctor, argv, "ev doctor")
    from escapevelocity.cli._console import console
    from escapevelocity.cli._installation import look, works

    findings = look(command.out)
    well = works(findings)
    if command.json:
        print(json.dumps({"works": well, "findings": [one._asdict() for one in findings]}, indent=2))
        return 0 if well else 1
    console().print(table(findings))
    print(verdict(findings, well))
    return 0 if well else 1


def table(findings: "Sequence[Finding]") -> "Table":
    """The findings, a row each."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(header_style="bold")
    for heading in ("part", "state", "found", "to do"):
        shown.add_column(heading, overflow="fold")
    for one in findings:
        shown.add_row(Text(one.part), Text(one.state, _STYLES[one.state]), Text(one.says), Text(one.fix))
    return shown


def verdict(findings: "Sequence[Finding]", well: bool) -> str:
    """One line: what works, and what to do next."""
    broken = [one.part for one in findings if one.state == "broken"]
    if not well:
        return f"Broken: {', '.join(broken)}. Type what stands under “to do”, then `ev doctor` again."
    rest = f" Broken, but not needed for it: {', '.join(broken)}." if broken else ""
    return f"Training works.{rest} Next: ev train CartPole-v1 --steps 100000 --learning-rate 1e-3"
