"""Puts pages of the repository that lie outside docs/ on the site, and makes their links hold there.

The studies, the benchmarks and the contributor's page are written beside the code that prints their numbers, and are
read there too. They are neither copied nor written twice: this hook adds them under the same relative addresses, and
turns links between them and docs/ into the site's.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = ("studies/**/*.md", "benchmarks/*.md", "CONTRIBUTING.md", "CHANGELOG.md")
BESIDE = ("studies/**/*.png", "studies/**/*.toml", "benchmarks/results/*.png", "CITATION.cff", "LICENSE")
_FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the repository's pages and pictures to those of docs/."""
    for pattern in (*PAGES, *BESIDE):
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Rewrite links that hold in the repository into those that hold on the site."""
    if page.file.abs_src_path is None:  # Written by another hook, for the site alone.
        return markdown
    home = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    return "".join(_rewritten(markdown, home, page.file.src_uri, files))


def _rewritten(markdown: str, home: str, here: str, files: Files) -> Iterator[str]:
    """The parts of a page, in order; code is left alone."""
    for part in _FENCE.split(markdown):
        yield (
            part
            if part.startswith("```")
            else _LINK.sub(lambda m: f"]({_site(m[1], home, here, files)})", part)
        )


def _site(target: str, home: str, here: str, files: Files) -> str:
    """A link's target on the site.

    Args:
        target: as the page has it.
        home: the page's path in the repository.
        here: its path among the site's sources.
        files: the site's sources.
    """
    split = urlsplit(target)
    if split.scheme or split.netloc or not split.path:
        return target
    there = posixpath.normpath(posixpath.join(posixpath.dirname(home), split.path))
    uri = _uri(there)
    if files.get_file_from_path(uri) is None:
        return target  # A strict build names it.
    relative = posixpath.relpath(uri, posixpath.dirname(here) or ".")
    return relative + (f"#{split.fragment}" if split.fragment else "")


def _uri(path: str) -> str:
    """A file of the repository among the site's sources; a module's is its page of the reference."""
    if path == "README.md":
        return "index.md"
    if path.startswith("src/escapevelocity/") and path.endswith(".py"):
        module = path.removeprefix("src/escapevelocity/").removesuffix(".py")
        return (
            f"reference/{module.removesuffix('__init__')}{'index' if module.endswith('__init__') else ''}.md"
        )
    return path.removeprefix("docs/")
