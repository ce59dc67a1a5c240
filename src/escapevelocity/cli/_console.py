"""The console that commands print their tables to."""

from rich.console import Console

FILE_WIDTH = 160  # A pipe or a file has no width of its own; rich would cut its tables at 80.


def console() -> Console:
    """Standard output, wide enough for a table where it is not a terminal."""
    found = Console()
    return found if found.is_terminal else Console(width=FILE_WIDTH)
