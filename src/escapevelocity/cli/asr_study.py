"""`ev asr study`: how deep is the well, and for how long, by where the distribution starts."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from escapevelocity.cli._parse import parse
from escapevelocity.cli.train import expand_ranges
from escapevelocity.metric_learning.config import DataName


@dataclasses.dataclass(frozen=True)
class ASRStudy:
    """Train over a grid of starts, normal(MEAN,STD), and measure the well of each: depth, onset, duration, gain.

    Beside the grid the start `narrow` is trained, which the final gain is measured from, seed by seed. The study goes
    on where it was stopped; only what is missing is trained. It leaves a table, the six curves, the distributions over
    time and the measures over mean and standard deviation in OUT/asr-wells-DATA/plots.
    """

    data: DataName = "digits"
    """Images; those that are not built in lie where EV_DATA_DIR says."""
    means: tuple[float, ...] = (0.3, 0.5, 0.75, 1.0, 1.2)
    """Means of the normal starts."""
    stds: tuple[float, ...] = (0.05, 0.15, 0.4)
    """Standard deviations of the normal starts."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Seeds of every start: integers and inclusive ranges a:b."""
    steps: int | None = None
    """Training steps per seed; by default those that fit the images."""
    column: str = "test/recall_at_1"
    """The curve whose wells are measured."""
    window: int = 1
    """Points of a centred running mean that the curve is smoothed by before it is measured; odd."""
    workers: int | None = None
    """Processes at a time; by default one per core."""
    out: Path = Path("runs")
    """Folder that holds studies."""


def main(argv: Sequence[str]) -> int:
    """Run `ev asr study`; returns the exit code."""
    command = parse(ASRStudy, expand_ranges(argv), "ev asr study")
    from escapevelocity.cli.study_run import train_missing
    from escapevelocity.report.plots import plot_run
    from escapevelocity.study.asr_wells import require_curve, shown_starts, wells_by_start, wells_study
    from escapevelocity.study.asr_wells_page import INTERVALS, answer, draw_wells_of, wells_table
    from escapevelocity.study.history import collect, read_history
    from escapevelocity.study.local import LocalExecutor
    from escapevelocity.study.plan import plan
    from escapevelocity.study.store import open_store

    require_curve(command.column, command.window)
    study = wells_study(command.data, command.means, command.stds, command.seeds, command.steps)
    store = open_store(command.out / study.name, create=True)
    code = train_missing(study, store, LocalExecutor(command.workers))
    if code == 130:
        return code
    names = [one.order.name for one in plan(study, store) if one.state == "finished"]
    history = read_history(collect(store, names=names))
    wells = wells_by_start(history, command.column, command.window)
    if not wells:
        print("Nothing was measured: no run has finished.")
        return code
    print("\n".join(["", wells_table(wells), "", INTERVALS, answer(wells)]))
    folder = command.out / study.name / "plots"
    shown = [store.run_path(run.name) for run in shown_starts(history, command.means)]
    for path in [*draw_wells_of(wells, folder, command.data, command.column), *plot_run(shown, folder)]:
        print(path)
    return code
