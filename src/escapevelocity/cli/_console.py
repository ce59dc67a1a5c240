"""The console that commands print their tables to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.table import Table

FILE_WIDTH = 160  # A pipe or a file has no width of its own; rich would cut its tables at 80.


def console(least: int = 0) -> Console:
    """Standard output, wide enough for a table where it is not a terminal.

    Args:
        least: columns that a table needs. A terminal that is narrower breaks the lines, and nothing is cut.
    """
    found = Console()
    width = found.width if found.is_terminal else FILE_WIDTH
    return found if found.is_terminal and width >= least else Console(width=max(width, least))


def numbers_table(headings: Sequence[str], title: str | None = None) -> "Table":
    """A table for `print_numbers`: of numbers and single words. A heading's words stand below each other."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading.replace(" ", "\n"), justify="right", no_wrap=True)
    return table


def print_numbers(table: "Table") -> None:
    """Print a table with every number whole, however narrow the terminal: a number that is cut is a wrong one."""
    from rich.measure import Measurement

    endless = Console(width=10_000)
    console(Measurement.get(endless, endless.options, table).minimum).print(table, highlight=False)
