"""The files of the web pages: style, scripts and templates from `report/web`, and plotly.js from its own package."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from escapevelocity.errors import UserError
from escapevelocity.report.live import Told, told_bytes

WEB = Path(__file__).parent / "web"
PLOTLY = "plotly.min.js"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def web_file(name: str) -> Told:
    """Give a script or a style by its name, ready to send.

    Args:
        name: such as "base.css", or "plotly.min.js".

    Raises:
        UserError: there is none of that name.
    """
    path = _plotly() if name == PLOTLY else WEB / name
    if name != path.name or path.suffix not in _KINDS or not path.is_file():
        raise UserError(f"file = {name!r}: must be a script or a style of the pages")
    return told_bytes(path.read_bytes(), _KINDS[path.suffix])


def link(name: str) -> str:
    """Give the address of a file; it changes with the file, so browsers may keep what they have."""
    return f"/static/{name}?{web_file(name).etag[1:13]}"


@cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=False,
    )
    found.globals["link"] = link
    return found


def page(template: str, values: Mapping[str, Any]) -> str:
    """Fill in a template; whatever is filled in is escaped."""
    return _templates().get_template(template).render(values)


def _plotly() -> Path:
    """The script in plotly's package, which is not imported."""
    spec = importlib.util.find_spec("plotly")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "package_data" / PLOTLY
        if path.is_file():
            return path
    raise UserError("plotly.js is missing; `pip install plotly` brings it")
