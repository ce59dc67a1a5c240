"""Seeds whose numbers became non-finite: the picture marks where they ended, and the note says which and where."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from nrnt_synthetic import cut, history_of

from escapevelocity.report._curves import FROZEN
from escapevelocity.study._rows import TableRows
from escapevelocity.study.history import History, RunArrays
from escapevelocity.study.papers.nrnt.epochs import epoch_groups
from escapevelocity.study.papers.nrnt.frozen import frozen_note
from escapevelocity.study.papers.nrnt.members import Group, Member
from escapevelocity.study.papers.registry import find_figure

FIGURE = find_figure("nrnt/figure-2")
TASK = "Hopper-v4"
TOTAL = 5_000_000


def _history(died: dict[tuple[int, int], float]) -> History:
    """The runs of Figure 2 in which (epochs, seed) ends after this share of training, with a fault in its last row."""
    history = history_of(FIGURE.study(TASK, "paper"), True)
    tables = []
    for run in history.runs:
        table = history.rows.table(run.name, history.rows.schema.names)
        steps, seeds = (table[name].to_numpy() for name in ("env_steps", "seed"))
        ends = {seed: died.get((run.settings["epochs"], seed), 2.0) * TOTAL for seed in run.seeds}
        keep = steps <= [ends[seed] for seed in seeds]
        table = table.filter(pa.array(keep))
        last = {seed: steps[keep & (seeds == seed)].max() for seed in run.seeds}
        ill = [
            "non-finite loss" if ends[seed] < TOTAL and step == last[seed] else None
            for seed, step in zip(seeds[keep], steps[keep], strict=True)
        ]
        tables.append(table.append_column("fault", pa.array(ill, pa.string())))
    return History(history.runs, TableRows.of(tables, tables[0].schema))


def _caption(drawn) -> str:
    return " ".join(text.get_text().replace("\n", " ") for text in drawn.texts)


def test_a_frozen_seed_is_marked_in_the_picture_where_it_ended_and_named_in_caption_and_sentences():
    history = _history({(15, 64): 0.501})
    note = (
        "1 of 15 ended early because their numbers became non-finite (epochs 15, seed 64 at step 2,500,000): curves go "
        "on without them, and all else reads them where they ended."
    )
    assert note in FIGURE.measured(history, TASK)[0]
    drawn = FIGURE.draw(history, TASK)
    assert note in _caption(drawn)
    assert FROZEN in _caption(drawn)
    marks = [
        line.get_xdata()
        for axes in drawn.axes
        if axes.axison
        for line in axes.lines
        if line.get_marker() == "x"
    ]
    assert np.ravel(marks) == pytest.approx([0.5 * TOTAL] * 3)  # one in each panel


def test_the_mark_is_at_the_seeds_own_value_and_the_mean_goes_on_over_the_others():
    values = np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 3.0, np.nan, np.nan]])
    run = RunArrays("run", {"epochs": 10}, (1, 2), [1.0, 2.0, 3.0, 4.0], {"x": values})
    history = History.from_arrays([run])
    table = history.rows.table("run", history.rows.schema.names)
    table = table.filter(pa.array(~((table["seed"].to_numpy() == 2) & (table["env_steps"].to_numpy() > 2))))
    fault = ["non-finite loss" if s == 2 and t == 2 else None for s, t in
             zip(table["seed"].to_pylist(), table["env_steps"].to_pylist(), strict=True)]  # fmt: skip
    table = table.append_column("fault", pa.array(fault, pa.string()))
    one = Group("a", history.runs, History(history.runs, TableRows.of([table], table.schema)))
    assert one.deaths == {Member(10, 2): 2.0}
    curve = one.curve("x")
    assert curve.ends == ((2.0, 3.0),)
    np.testing.assert_allclose(curve.mean, [2, 2, 1, 1], rtol=1e-3)
    assert one.only(2).curve("x").ends == ()  # its own line ends there


def test_nothing_is_said_or_marked_where_no_seed_was_frozen():
    # Without faults, and of a run that was only interrupted: some seeds lack its last rows.
    for history in (history_of(FIGURE.study(TASK, "paper"), True), _history({})):
        assert frozen_note(history) == ""
        assert FROZEN not in _caption(FIGURE.draw(history, TASK))
        assert not any(
            group.curve("policy/entropy").ends for group in epoch_groups(FIGURE.found(history, TASK))
        )


def test_many_deaths_are_told_by_their_range():
    dead = cut(
        history_of(FIGURE.study(TASK, "paper"), True),
        lambda settings: settings["epochs"] > 10,
        0.6,
        "failed",
        "x",
    )
    said = (
        "10 of 15 ended early because their numbers became non-finite (between steps 3,000,000 and 3,000,000)"
    )
    assert frozen_note(dead).startswith(said)


@pytest.mark.parametrize("differ", [{"remedy": "adam-reset"}, {"trunk": "shared"}, {"clip_epsilon": 0.4}])
def test_runs_are_named_by_the_settings_in_which_they_differ(differ):
    history = _history({(20, 7): 0.201})
    (name, value), = differ.items()  # fmt: skip
    runs = [
        dataclasses.replace(run, settings={**run.settings, **differ}) if run.settings["epochs"] == 20 else run
        for run in history.runs
    ]
    said = frozen_note(History(tuple(runs), history.rows))
    assert f"epochs 20, {name} {value}, seed 7 at step 1,000,000" in said
