"""Finding a paper's figure by its id; what every figure must have."""

import pytest

from escapevelocity.errors import UserError
from escapevelocity.study.papers.figure import LabFigure, PaperFigure
from escapevelocity.study.papers.registry import all_figures, figures_of, find_figure
from study import fake_paper

FIGURES = all_figures()


def test_every_figure_of_the_design_is_there_once():
    """ppo_collapse.md lists 41 figures, theory.md eight; metric_learning.md has one of curves and three questions."""
    ids = [figure.id for figure in FIGURES]
    expected = [f"nrnt/figure-{i}" for i in range(1, 42)] + [f"sgw/figure-{i}" for i in range(1, 9)]
    expected += [f"asr/{name}" for name in ("gravity-well", "starts", "heads", "curriculum")]
    assert ids == expected


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.id)
def test_a_figure_says_what_it_shows_and_what_is_claimed_and_is_found_by_its_id(figure):
    assert isinstance(figure, LabFigure | PaperFigure)
    assert find_figure(figure.id) is figure
    assert figure.title
    assert figure.claim.endswith((".", "?"))  # What the papers leave open is asked.
    assert len(set(figure.tasks)) == len(figure.tasks)


def test_the_figures_of_a_paper_are_those_of_its_module(monkeypatch):
    fake_paper.install(monkeypatch)
    assert figures_of("fake") is fake_paper.FIGURES
    assert find_figure("fake/figure-2") is fake_paper.FIGURES[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sgw/figure-9", r"figure = 'sgw/figure-9': unknown; did you mean sgw/figure-"),
        ("sgw/tomato", r"unknown; known are sgw/figure-1, sgw/figure-2"),
        ("nrt/figure-6", r"must be PAPER/FIGURE, such as nrnt/figure-6; did you mean nrnt/figure-6"),
        ("figure-6", r"must be PAPER/FIGURE"),
        ("tomato", r"papers are nrnt, sgw, asr"),
    ],
)
def test_an_unknown_figure_is_refused_with_the_nearest_names(name, message):
    with pytest.raises(UserError, match=message):
        find_figure(name)


def test_an_unknown_paper_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"paper = 'nrt': unknown; did you mean nrnt\?"):
        figures_of("nrt")
