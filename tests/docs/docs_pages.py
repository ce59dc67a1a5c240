"""The documentation as tests see it: its pages, the code blocks and command lines in them, and a way to run a page."""

import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_TITLE = re.compile(r'title="([^"]+)"')
_NUMBER = re.compile(r"(?<![\w-])\s*-?\d[\d.,]*(e[+-]?\d+)?%?|nan\b")
LEFT_OUT = "…"
"""A line of a shown output that stands for lines which are not shown."""


class Block(NamedTuple):
    """A fenced block."""

    language: str
    title: str
    """The file that it is, if the page says so."""
    text: str


def pages() -> list[Path]:
    """Every page whose blocks are code for the reader: the README and all of docs/."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """A page's name in tests, such as how-to/sb3."""
    return "README" if page == README else page.relative_to(DOCS).with_suffix("").as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(page.read_text(encoding="utf-8")):
        title = _TITLE.search(match["rest"])
        found.append(Block(match["language"], title[1] if title else "", match["text"]))
    return found


def command_lines(text: str) -> Iterator[str]:
    """Every `ev …` in a page: lines of shell blocks and of indented code, and what stands in backquotes."""
    for match in _FENCE.finditer(text):
        if match["language"] in ("sh", "bash", "console"):
            yield from (line for line in shell_lines(match["text"]) if line.startswith("ev "))
    plain = _FENCE.sub("", text)
    for line in re.findall(r"^    (?:\.venv/bin/)?(ev .+)$", plain, re.MULTILINE):
        yield line
    for line in re.findall(r"`(?:\.venv/bin/)?(ev [^`]+)`", plain):
        yield " ".join(line.split())


def shell_lines(text: str) -> list[str]:
    """The commands of a shell block: continued lines joined, remarks and empty lines left out."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [
        line.removeprefix("$ ").removeprefix(".venv/bin/")
        for line in lines
        if line and not line.startswith("#")
    ]


def without_numbers(text: str) -> list[str]:
    """Lines without the numbers, which depend on the machine, and without the width of columns."""
    return [
        re.sub(r"\s+", " ", _NUMBER.sub(" #", line)).strip() for line in text.splitlines() if line.strip()
    ]


def run_page(
    page: Path, replace: Mapping[str, str], run: Callable[[list[str]], int]
) -> Iterator[tuple[str, str]]:
    """Run a page in the current folder, block after block; gives each output that it shows beside the one it had.

    Args:
        page: the page.
        replace: what is written otherwise, such as a number of steps.
        run: `ev`, given its arguments; returns the exit code.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        text = block.text
        for old, new in replace.items():
            text = text.replace(old, new)
        if block.language == "text":
            yield block.text, printed
        elif block.title:
            Path(block.title).write_text(text, encoding="utf-8")
        elif block.language in ("python", "sh"):
            with contextlib.redirect_stdout(io.StringIO()) as heard:
                if block.language == "python":
                    exec(compile(text, str(page), "exec"), names)
                else:
                    for line in shell_lines(text):
                        program, *arguments = shlex.split(line, comments=True)
                        assert program == "ev", line
                        assert run(arguments) == 0, line
            printed = heard.getvalue()
