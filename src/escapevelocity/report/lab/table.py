"""The small table of an experiment, for the terminal."""

from rich.table import Table
from rich.text import Text

from escapevelocity.lab.experiments.experiment import Summary
from escapevelocity.report._shown import longest_word
from escapevelocity.report.lab.page import cell


def table(summary: Summary, title: str) -> Table:
    """Make the terminal's table: first column left, the others right. No word is broken, and so no number."""
    made = Table(title=Text(title), title_justify="left", header_style="bold")
    rows = [[cell(value) for value in row] for row in summary.rows]
    for i, (heading, *texts) in enumerate(zip(summary.headings, *rows, strict=True)):
        made.add_column(
            Text(heading),
            justify="left" if i == 0 else "right",
            no_wrap=i == 0,
            min_width=longest_word([heading, *texts]),
        )
    for row in rows:
        made.add_row(*map(Text, row))
    return made
