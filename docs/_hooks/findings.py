"""Draws the tables of docs/findings.md from the pages of the studies, so that they can say nothing else than those do.

A line `<!-- findings: NAME -->` is replaced when the site is built. The claims of Mei et al. are those of
`ev reproduce`, in the code; everything measured is text of studies/.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STUDIES = Path(__file__).parents[2] / "studies"
_MARK = re.compile(r"^<!-- findings: ([\w-]+) -->$", re.MULTILINE)
_CHECK = re.compile(r"^- (?P<what>.+) \(claimed: (?P<claimed>.+?)\): (?P<value>.+); (?P<told>.+)\.$")
_UNTOLD = re.compile(r"^- (?P<what>.+): (?P<told>cannot be told: .+)\.$")
_JUDGEMENT = re.compile(r"^- Judgement for (?P<setting>.+?): (?P<told>.+)\.$")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
_ROW = re.compile(
    r"^\| \[(?P<name>[\w-]+)\]\([\w-]+\.md\) \| (?P<shows>.+?) \| (?P<says>.+) \|$", re.MULTILINE
)
_WHICH_P = re.compile(r"^\| \[Which p when\?\]\(p-study\.md\) \| (?P<says>.+) \|$", re.MULTILINE)


class Check(NamedTuple):
    """One part of a figure's claim, held against our runs of one setting."""

    setting: str
    what: str
    claimed: str
    value: str
    told: str


class Figure(NamedTuple):
    """A figure of a paper as a study's page tells it."""

    title: str
    claim: str
    checks: list[Check]
    judgements: dict[str, str]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the marks of the page by tables."""
    return (
        _MARK.sub(lambda mark: _TABLES[mark[1]](), markdown)
        if page.file.src_uri == "findings.md"
        else markdown
    )


def figures_of(text: str) -> list[Figure]:
    """The figures that a study's page holds between its marks."""
    part = text.partition("<!-- figures:start -->")[2].partition("<!-- figures:end -->")[0]
    return [_figure(section) for section in part.split("\n### ")[1:]]


def _figure(section: str) -> Figure:
    title, _, rest = section.partition("\n")
    claim = re.search(r"^\*Claimed:\* (.+)$", rest, re.MULTILINE)
    checks, judgements, pending = [], {}, []
    for line in rest.splitlines():
        if found := _CHECK.match(line):
            pending.append((found["what"], found["claimed"], found["value"], found["told"]))
        elif found := _UNTOLD.match(line):
            pending.append((found["what"], "–", "–", found["told"]))
        elif found := _JUDGEMENT.match(line):
            checks += [Check(found["setting"], *values) for values in pending]
            judgements[found["setting"]] = found["told"]
            pending = []
    return Figure(title, claim[1] if claim else "", checks, judgements)


def nrnt() -> str:
    """The claims of Moalla et al. that our runs on Hopper speak to, a section for each figure."""
    lines: list[str] = []
    for figure in figures_of((STUDIES / "hopper_collapse" / "README.md").read_text(encoding="utf-8")):
        lines += [f"### {figure.title}", "", f"*Claimed:* {figure.claim}", ""]
        lines += ["| our runs | what is compared | claimed | measured | |", "| --- | --- | --- | --- | --- |"]
        lines += [
            f"| {check.setting} | {check.what} | {check.claimed} | {check.value} | {_strong(check.told)} |"
            for check in figure.checks
        ]
        told = "; ".join(f"{setting}: {_strong(said)}" for setting, said in figure.judgements.items())
        lines += ["", f"Judgement by the rule of the study: {told}.", ""]
    return "\n".join(lines)


def sgw() -> str:
    """The claims of Mei et al., a row for each experiment of the lab that tests some of their figures."""
    from escapevelocity.study.papers.sgw import FIGURES

    page = (STUDIES / "lab" / "README.md").read_text(encoding="utf-8")
    says = {row["name"]: row["says"] for row in _ROW.finditer(page)}
    which = _WHICH_P.search(page)
    if which:
        says["p-study"] = which["says"]
    lines = ["| figures | claimed | what the lab found |", "| --- | --- | --- |"]
    for name in dict.fromkeys(figure.experiment for figure in FIGURES):
        figures = [figure for figure in FIGURES if figure.experiment == name]
        numbers = ", ".join(figure.id.rpartition("-")[2] for figure in figures)
        claims = "<br>".join(figure.claim.replace("*", r"\*") for figure in figures)
        found = _relinked(says[name], "studies/lab/")
        lines.append(f"| [{numbers}](studies/lab/{name}.md) | {claims} | {found} |")
    return "\n".join(lines)


def summaries() -> str:
    """What every other study says of itself: its own "In short", or what is still missing."""
    lines: list[str] = []
    for folder in (
        "early_warning",
        "collapse_map",
        "segment_rule",
        "escort_minatar",
        "sb3_replication",
        "asr",
    ):
        text = (STUDIES / folder / "README.md").read_text(encoding="utf-8")
        title = text.partition("\n")[0].removeprefix("# ")
        lines += [f"**[{title}](studies/{folder}/README.md)**", ""]
        lines += [*(_relinked(said, f"studies/{folder}/") for said in _said(text)), ""]
    return "\n".join(lines)


def _said(text: str) -> Iterator[str]:
    short = re.search(r"^\*\*In short[^*]*\*\* ?(.+?)\n\n", text, re.MULTILINE | re.DOTALL)
    if short:
        yield short[1]
        return
    not_run = re.search(r"<!-- numbers:start -->\s+(Not (?:run|reported) yet[^\n]*)", text)
    if not_run:
        yield not_run[1]
    yield from (found[0] for found in re.finditer(r"^Paired difference.+?$", text, re.MULTILINE))
    open_part = re.search(r"^## Not run yet\n\n(.+?)\n*\Z", text, re.MULTILINE | re.DOTALL)
    if open_part:
        yield f"\nNot run yet: {open_part[1]}"


def _strong(told: str) -> str:
    return f"**{told}**" if told in ("confirmed", "not confirmed") else told


def _relinked(text: str, folder: str) -> str:
    return _LINK.sub(rf"]({folder}\1", text)


_TABLES = {"nrnt": nrnt, "sgw": sgw, "studies": summaries}
