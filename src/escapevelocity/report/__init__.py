"""What a person sees of a run: a live table, plain lines, trackers, figures."""

from escapevelocity.report.plain import PlainLines
from escapevelocity.report.plots import plot_columns, plot_run
from escapevelocity.report.table import LiveTable, terminal_observer
from escapevelocity.report.trackers import TRACKERS, TensorBoardTracker, WandbTracker, make_trackers
from escapevelocity.report.warning import EarlyWarning

__all__ = [
    "TRACKERS",
    "EarlyWarning",
    "LiveTable",
    "PlainLines",
    "TensorBoardTracker",
    "WandbTracker",
    "make_trackers",
    "plot_columns",
    "plot_run",
    "terminal_observer",
]
