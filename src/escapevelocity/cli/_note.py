"""A line for the user that is only worth saying once the run has started."""

import sys
from collections.abc import Sequence

from escapevelocity.runs import Observer, RunInfo


class StartNote(Observer):
    """Prints lines to standard error when the run starts, so that a mistake that stops it stays one line."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines

    def on_start(self, info: RunInfo) -> None:
        """Print the lines."""
        for line in self._lines:
            print(f"ev: {line}", file=sys.stderr)
