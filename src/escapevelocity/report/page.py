"""The report page as values, and its HTML: one file with all that it needs, which asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import NamedTuple

from escapevelocity.report.charts import Chart, chart_json, embedded
from escapevelocity.report.page_verdict import VerdictCard

_WEB = "escapevelocity.report"
_STYLES = ("base.css", "page.css")
_EARLY_SCRIPTS = ("theme.js",)
_LATE_SCRIPTS = ("charts-figure.js", "charts.js", "page.js")


class Cell(NamedTuple):
    """One cell of a table."""

    text: str
    tone: str = ""
    """good, bad, unsure or none."""
    number: bool = False
    """Whether it is aligned as a number."""
    group: int | None = None
    """Whose colour stands before the text."""
    code: bool = False
    """Whether it is something that a person would type."""
    below: str = ""
    """A second line, smaller: an interval."""
    href: str = ""
    """A part of the page that it leads to, such as "#group-2"."""


class Heading(NamedTuple):
    """The heading of a column."""

    text: str
    help: str = ""
    """Shown when it is pointed at."""
    number: bool = False


class Table(NamedTuple):
    """A table; the first cell of each row is the row's heading."""

    caption: str
    head: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Part(NamedTuple):
    """A part of the page under a heading of its own."""

    id: str
    title: str
    intro: str = ""
    legend: tuple[tuple[int, str], ...] = ()
    """Groups that can be hidden, with their names."""
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()
    """Lines to copy."""
    folded: bool = False
    """Whether it is closed until somebody opens it."""
    short: str = ""
    """What the list of contents calls it; by default its title."""
    listed: bool = True
    """Whether the list of contents has it."""


class Page(NamedTuple):
    """The whole page."""

    title: str
    kicker: str
    """The line above the title: what kind of page this is."""
    lead: str
    """The answer in one sentence, where the cards alone do not give it."""
    facts: tuple[str, ...]
    """Task, seeds, state: a word or two each."""
    cards: tuple[VerdictCard, ...]
    parts: tuple[Part, ...]
    foot: str
    """Which version made it, and of what."""


def render(page: Page, points: int | None = None) -> str:
    """Write the page as HTML.

    Text is escaped wherever it comes from; scripts run only if their hash is that of ours, so that nothing in a
    stranger's run can make the page do anything.

    Args:
        page: the page.
        points: points that are kept of each line; by default those of `charts.POINTS`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader(_WEB, "web")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    charts = [chart for part in page.parts for chart in part.charts]
    data = [chart_json(chart) if points is None else chart_json(chart, points) for chart in charts]
    early = [_asset(name) for name in _EARLY_SCRIPTS]
    late = [
        _plotly() if charts else "",
        *(_asset(name) for name in _LATE_SCRIPTS if charts or name == "page.js"),
    ]
    late = [script for script in late if script]
    return environment.get_template("page.html").render(
        page=page,
        # What follows is ours, or escaped for where it stands.
        policy=Markup(_policy([*early, *late])),
        styles=Markup("\n".join(_asset(name) for name in _STYLES)),
        early=[Markup(script) for script in early],
        late=[Markup(script) for script in late],
        data=Markup(embedded(data)),
    )


def _policy(scripts: list[str]) -> str:
    """The content security policy: these scripts, styles of the page, and nothing from anywhere else."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return _fit(files(_WEB).joinpath("web", name).read_text("utf-8"))


def _plotly() -> str:
    """plotly.js as its Python package carries it."""
    return _fit(files("plotly").joinpath("package_data", "plotly.min.js").read_text("utf-8"))


def _fit(text: str) -> str:
    """Make a script or a style fit into HTML: a browser hashes it with plain line ends, and `</` may end it."""
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("</style", "<\\/style")
