"""Finds a figure by its id; a paper's module is imported only when one of its figures is asked for."""

import difflib
import importlib

from escapevelocity.errors import UserError
from escapevelocity.study.papers.figure import AnyFigure

PAPERS = {
    "nrnt": "escapevelocity.study.papers.nrnt",
    "sgw": "escapevelocity.study.papers.sgw",
    "asr": "escapevelocity.study.papers.asr",
}
"""Papers by short name: the module whose `FIGURES` is a tuple of the paper's figures, in the paper's order."""


def figures_of(paper: str) -> tuple[AnyFigure, ...]:
    """The figures of a paper, in the paper's order.

    Raises:
        UserError: for an unknown paper; the nearest names are given.
    """
    if paper not in PAPERS:
        raise UserError(f"paper = {paper!r}: unknown; {_hint(paper, list(PAPERS))}")
    return importlib.import_module(PAPERS[paper]).FIGURES


def all_figures() -> tuple[AnyFigure, ...]:
    """Every figure of every paper."""
    return tuple(figure for paper in PAPERS for figure in figures_of(paper))


def find_figure(name: str) -> AnyFigure:
    """The figure of that id, such as "nrnt/figure-6".

    Raises:
        UserError: there is none; the nearest ids are named.
    """
    paper, slash, _ = name.partition("/")
    if not slash or paper not in PAPERS:
        near = difflib.get_close_matches(name, [one.id for one in all_figures()], n=3)
        accepted = f"did you mean {' or '.join(near)}?" if near else f"papers are {', '.join(PAPERS)}"
        raise UserError(f"figure = {name!r}: must be PAPER/FIGURE, such as nrnt/figure-6; {accepted}")
    known = {figure.id: figure for figure in figures_of(paper)}
    if name not in known:
        raise UserError(f"figure = {name!r}: unknown; {_hint(name, list(known))}")
    return known[name]


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known)}"
