"""What the theme's pages lack: long names in tables that break at a separator, and a name for the search dialogue."""

import re
from typing import Any

_CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
_CODE = re.compile(r"(<code>)([^<]{12,}?)(</code>)")
_SEPARATOR = re.compile(r"([/_,}.])(?=\w|\{)")
_SEARCH = '<div class="md-search" data-md-component="search" role="dialog"'


def on_page_content(html: str, **_: Any) -> str:
    """Put an optional break after each separator of a long name in a table."""
    return _CELL.sub(lambda cell: _CODE.sub(_breakable, cell[0]), html)


def on_post_page(output: str, **_: Any) -> str:
    """Name the search dialogue for those who hear the page."""
    return output.replace(f"{_SEARCH}>", f'{_SEARCH} aria-label="Search">')


def _breakable(code: re.Match[str]) -> str:
    return code[1] + _SEPARATOR.sub(r"\1<wbr>", code[2]) + code[3]
