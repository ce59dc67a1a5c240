"""Writes an experiment's findings: data as Parquet, figures as PNG and PDF, and a page that says what was found."""

import dataclasses
import json
import math
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from escapevelocity.lab.experiments.experiment import Experiment, Findings, Summary
from escapevelocity.report import _figure
from escapevelocity.report.lab.canvas import Draw
from escapevelocity.runs.atomic import make_folder, write_bytes, write_table

_VERSIONS = ("escapevelocity", "jax", "jaxlib", "numpy")


def write(
    name: str, experiment: Experiment, findings: Findings, draw: Draw, folder: Path, command: list[str]
) -> list[Path]:
    """Write NAME.parquet, NAME.png, NAME.pdf and NAME.md (and NAME-PART.… where there are several).

    Args:
        name: the experiment's name.
        experiment: its settings, kept in the Parquet files' metadata.
        findings: what it found.
        draw: makes its figures.
        folder: where the files go; it is made.
        command: the command line that made them, for the page.

    Returns:
        The files' paths.

    Raises:
        UserError: when the folder cannot be written.
    """
    with _figure.paper_style():  # Before the first file: who cannot draw leaves nothing half-written.
        drawn = {
            f"{_stem(name, part)}.{kind}": _figure.encode(figure, kind)
            for part, figure in draw(experiment, findings).items()
            for kind in ("png", "pdf")
        }
    make_folder(folder)
    settings = json.dumps(
        {"experiment": name, "settings": dataclasses.asdict(experiment)}, ensure_ascii=False
    )
    paths = []
    for part, columns in findings.tables.items():
        table = pa.table({column: np.asarray(values) for column, values in columns.items()})
        paths.append(folder / f"{_stem(name, part)}.parquet")
        write_table(paths[-1], table.replace_schema_metadata({"escapevelocity": settings}))
    for file, data in drawn.items():
        paths.append(folder / file)
        write_bytes(paths[-1], data)
    pictures = [file for file in drawn if file.endswith(".png")]
    paths.append(folder / f"{name}.md")
    write_bytes(paths[-1], _page(name, experiment, findings, pictures, command).encode())
    return paths


def cell(value: Any) -> str:
    """A cell of the small table: text and integers as they are, other numbers to four digits, NaN as a dash.

    Example:
        >>> cell(25034), cell(0.123456), cell(float("nan"))
        ('25034', '0.1235', '–')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer):
        return str(int(value))
    return "–" if math.isnan(value) else f"{value:.4g}"


def _stem(name: str, part: str) -> str:
    return f"{name}-{part}" if part else name


def _page(
    name: str, experiment: Experiment, findings: Findings, pictures: list[str], command: list[str]
) -> str:
    lines = [f"# {experiment.question}", "", *(line for answer in findings.answers for line in (answer, ""))]
    for picture in pictures:
        lines += [f"![{name}]({picture})", ""]
    lines += [*markdown_table(findings.summary), ""]
    lines += ["Made by", "", f"    {shlex.join(command)}", "", "with the settings", ""]
    lines += [f"    {field} = {value!r}" for field, value in dataclasses.asdict(experiment).items()]
    packages = ", ".join(f"{package} {version(package)}" for package in _VERSIONS)
    return "\n".join([*lines, "", f"and {packages}.", ""])


def markdown_table(summary: Summary) -> list[str]:
    """The lines of the small table in Markdown."""

    def line(cells: Any) -> str:
        return "| " + " | ".join(text.replace("|", "\\|") for text in cells) + " |"

    rule = ["---", *["---:"] * (len(summary.headings) - 1)]
    rows = [line(map(cell, row)) for row in summary.rows]
    return [line(summary.headings), "|" + "|".join(rule) + "|", *rows]
