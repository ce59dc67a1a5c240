"""Lets long names in tables break after a separator: a table of metrics then fits a page, and names stay whole."""

import re
from typing import Any

_CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
_CODE = re.compile(r"(<code>)([^<]{12,}?)(</code>)")
_SEPARATOR = re.compile(r"([/_,}.])(?=\w|\{)")


def on_page_content(html: str, **_: Any) -> str:
    """Put an optional break after each separator of a long name in a table."""
    return _CELL.sub(lambda cell: _CODE.sub(_breakable, cell[0]), html)


def _breakable(code: re.Match[str]) -> str:
    return code[1] + _SEPARATOR.sub(r"\1<wbr>", code[2]) + code[3]
