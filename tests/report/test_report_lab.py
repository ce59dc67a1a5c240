"""Pages, tables, progress and shared drawing of the lab's experiments."""

import dataclasses
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from escapevelocity.cli._console import print_numbers
from escapevelocity.lab.experiments.experiment import Experiment, Findings, Summary, silently
from escapevelocity.report import _figure
from escapevelocity.report.lab import canvas, page
from escapevelocity.report.lab.progress import track
from escapevelocity.report.lab.table import table


@dataclasses.dataclass(frozen=True)
class Fake(Experiment):
    question = "Is it | so?"
    quick = {}  # noqa: RUF012 - a class variable of the experiment's declaration
    p: float = 2.0

    def run(self, track=silently):
        rows = [["a|b", 254, 0.123456, float("nan")]]
        return Findings(
            {"": {"p": [self.p], "who": ["a|b"]}, "extra": {"x": np.arange(3)}},
            Summary(["who", "steps", "share", "law"], rows),
            ["It is so."],
        )


def draw(experiment, findings):
    figures = {"": canvas.new_figure(3, 2, "A caption."), "map": canvas.new_figure(3, 2)}
    for figure in figures.values():
        (axes,) = canvas.panels(figure, 1, 1)
        axes.plot([1, 2], [experiment.p, 1], label="line")
        canvas.legend_beside(axes)
    return figures


@pytest.fixture
def written(tmp_path):
    experiment = Fake()
    command = ["ev", "lab", "fake", "--name", "two words"]
    page.write("fake", experiment, experiment.run(), draw, tmp_path / "deep" / "here", command)
    return tmp_path / "deep" / "here"


def test_every_table_and_figure_gets_its_file(written):
    assert sorted(path.name for path in written.iterdir()) == [
        *("fake-extra.parquet", "fake-map.pdf", "fake-map.png"),
        *("fake.md", "fake.parquet", "fake.pdf", "fake.png"),
    ]
    main = pq.read_table(written / "fake.parquet")
    assert main.to_pydict() == {"p": [2.0], "who": ["a|b"]}
    assert json.loads(main.schema.metadata[b"escapevelocity"]) == {
        "experiment": "fake",
        "settings": {"p": 2.0},
    }
    assert pq.read_table(written / "fake-extra.parquet").to_pydict() == {"x": [0, 1, 2]}


def test_the_page_has_question_answer_pictures_table_command_and_settings(written):
    text = (written / "fake.md").read_text()
    assert text.startswith("# Is it | so?\n\nIt is so.\n\n![fake](fake.png)\n\n![fake](fake-map.png)\n")
    assert "| who | steps | share | law |\n|---|---:|---:|---:|\n| a\\|b | 254 | 0.1235 | – |\n" in text
    assert "    ev lab fake --name 'two words'\n" in text
    assert "    p = 2.0\n" in text


def test_a_figure_written_twice_is_the_same_picture():
    """Every layout of matplotlib's moves the panels a little further."""
    with _figure.paper_style():
        figure = canvas.new_figure(3, 2, "A caption.")
        for axes in canvas.panels(figure, 2, 3):
            axes.plot([1, 2, 3], [1, 4, 9])
            axes.set_xscale("log")
            axes.set_title("x")
            axes.set_ylabel("y")
        first = [_figure.encode(figure, kind) for kind in ("png", "pdf")]
        assert [_figure.encode(figure, kind) for kind in ("png", "pdf")] == first


def test_the_same_findings_give_the_same_bytes(written, tmp_path):
    experiment = Fake()
    command = ["ev", "lab", "fake", "--name", "two words"]
    for path in page.write("fake", experiment, experiment.run(), draw, tmp_path / "again", command):
        assert path.read_bytes() == (written / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x", "x"),
        (7, "7"),
        (np.int64(2500060), "2500060"),
        (0.5, "0.5"),
        (1234567.0, "1.235e+06"),
        (float("nan"), "–"),
    ],
)
def test_a_cell_keeps_integers_whole_and_rounds_other_numbers(value, shown):
    assert page.cell(value) == shown


def test_the_terminal_table_shows_brackets_as_text():
    console = Console(width=80, file=io.StringIO())
    console.print(table(Summary(["share [95 %]"], [["0.1 [0.0, 0.2]"]]), "Is it [so]?"))
    shown = console.file.getvalue()
    assert "Is it [so]?" in shown
    assert "share [95 %]" in shown
    assert "0.1 [0.0, 0.2]" in shown


def test_the_terminal_table_breaks_no_number_however_narrow_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    numbers = [[f"EPG, p = {p}", *(f"{10_000 * p + step}.123" for step in range(8))] for p in range(3)]
    heads = ["method", *(f"steps from π₁ = {step}" for step in range(8))]
    print_numbers(table(Summary(heads, numbers), "How long does it take?"))
    shown = capsys.readouterr().out
    assert "…" not in shown
    for row in numbers:
        for number in row[1:]:
            assert number in shown


def test_elsewhere_than_on_a_terminal_progress_is_a_line_per_part(capsys):
    assert list(track(["x", "y"], lambda part: f"part {part}")) == ["x", "y"]
    assert capsys.readouterr() == ("", "[1/2] part x\n[2/2] part y\n")


def test_select_keeps_the_rows_that_match_every_value():
    columns = {"p": [2, 2, 3], "kind": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]}
    assert canvas.select(columns, p=2, kind="b")["x"].tolist() == [2.0]
    assert canvas.distinct(columns, "kind") == ["a", "b"]
