"""What a person sees of a run: a live table, plain lines, trackers, figures."""

from escapevelocity.report.plain import PlainLines, terminal_observer
from escapevelocity.report.table import LiveTable
from escapevelocity.report.trackers import TRACKERS, TensorBoardTracker, WandbTracker, make_trackers

__all__ = [
    "TRACKERS",
    "LiveTable",
    "PlainLines",
    "TensorBoardTracker",
    "WandbTracker",
    "make_trackers",
    "terminal_observer",
]
