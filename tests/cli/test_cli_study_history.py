"""`ev study history` on a store, and its mistakes."""

import dataclasses
from pathlib import Path

import numpy as np

from escapevelocity.runs import start
from escapevelocity.study.history import read_history


@dataclasses.dataclass(frozen=True)
class RowsSpec:
    rows: int = 1
    seeds: tuple[int, ...] = (1, 2)


class RowsJob:
    name = "rows"

    def segments(self, spec):
        return 1

    def step(self, spec, k):
        return 10 * spec.rows * k

    def initial_state(self, spec):
        return {"x": np.zeros(1)}

    def segment(self, spec, state, k, emit):
        for index in range(spec.rows):
            for seed in spec.seeds:
                emit({"seed": seed, "batch": index, "env_steps": 10 * (index + 1), "x": 0.5 * seed, "y": 1})
        return state


def make_runs(folder):
    for rows in (1, 2):
        start(RowsJob(), RowsSpec(rows), folder / f"run-{rows}")


def test_the_history_of_a_store_is_written_and_damaged_runs_are_named(ev):
    make_runs(Path("runs"))
    Path("runs/run-1/spec.json").write_text("{")
    answer = ev("study", "history", "runs")
    assert answer.code == 0, answer
    path = Path("runs/_study/history.parquet").resolve()
    assert answer.out.splitlines() == [
        "reading run-1",
        "reading run-2",
        f"{path} (0.0 MB)",
    ]
    assert answer.err.startswith(
        f"ev: run-1 is left out: {path.parents[1]}/run-1/spec.json is not valid JSON"
    )
    assert [run.name for run in read_history("runs").runs] == ["run-2"]


def test_some_columns_go_to_a_file_of_their_own(ev):
    make_runs(Path("runs"))
    assert ev("study", "history", "runs", "--out", "x.parquet", "--columns", "x").code == 0
    history = read_history("x.parquet")
    assert history.columns == ("x",)
    assert history.values(history.runs[1], "x").values.tolist() == [[0.5, 0.5], [1.0, 1.0]]


def test_mistakes_are_one_line(refused):
    make_runs(Path("runs"))
    assert "columns = ['x']: must be given with --out" in refused(
        "study", "history", "runs", "--columns", "x"
    )
    assert "nowhere" in refused("study", "history", "nowhere")


def test_a_file_that_is_no_history_is_not_replaced_and_an_older_one_is(refused, ev):
    make_runs(Path("runs"))
    Path("notes.toml").write_text("mine")
    line = refused("study", "history", "runs", "--out", "notes.toml")
    assert line == "ev: out = 'notes.toml': is no history (Parquet) and would be lost; choose another --out"
    (records,) = Path("runs/run-1/records").iterdir()  # Parquet too, but no history.
    assert "is no history" in refused("study", "history", "runs", "--out", records)
    for _ in range(2):
        assert ev("study", "history", "runs", "--out", "x.parquet").code == 0
    whole = Path("x.parquet").read_bytes()
    Path("x.parquet").write_bytes(whole[:-9])  # A damaged history is gathered again.
    assert ev("study", "history", "runs", "--out", "x.parquet").code == 0
    assert len(read_history("x.parquet").runs) == 2


def test_a_folder_in_place_of_the_file_is_refused(refused):
    make_runs(Path("runs"))
    for out, such in (
        (".", "history.parquet"),
        ("runs", "runs/history.parquet"),
        ("..", "../history.parquet"),
    ):
        line = refused("study", "history", "runs", "--out", out)
        assert line == f"ev: out = {out!r}: must be a file, such as {such}; this is a folder"
