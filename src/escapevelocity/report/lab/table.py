"""The small table of an experiment, for the terminal."""

from rich.table import Table
from rich.text import Text

from escapevelocity.lab.experiments.experiment import Summary
from escapevelocity.report.lab.page import cell


def table(summary: Summary, title: str) -> Table:
    """Make the terminal's table: first column left, the others right."""
    made = Table(title=Text(title), title_justify="left", header_style="bold")
    for i, heading in enumerate(summary.headings):
        made.add_column(Text(heading), justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in summary.rows:
        made.add_row(*(Text(cell(value)) for value in row))
    return made
