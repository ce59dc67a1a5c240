"""Shows docstrings as they are meant: examples as code, a* as a star and not as emphasis, brackets not as links."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)
_PROMPT = re.compile(r"^\s*(>>>|Examples:)", re.MULTILINE)
_STAR = re.compile(r"`[^`]*`|(?<![\w*])\*(?=[^\s*])[^*\n]*[^\s*]\*(?![\w*])|(?<=\w)\*(?!\*)")
_BRACKETS = re.compile(r"\]( ?)\[")


class Docstrings(griffe.Extension):
    """Changes docstrings before they are parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one object's docstring."""
        if obj.docstring:
            obj.docstring.value = readable(obj.docstring.value)


def readable(text: str) -> str:
    """A docstring whose `Example:` is a section of code and whose prose has no accidental links."""
    text = _EXAMPLE.sub(r"\1Examples:", text)
    start = _PROMPT.search(text)
    prose, code = (text[: start.start()], text[start.start() :]) if start else (text, "")
    lines = [starred(line) for line in prose.split("\n")]
    return _BRACKETS.sub(r"]\1\\[", "\n".join(lines)) + code


def starred(line: str) -> str:
    """A line whose optimal a* stays one; code and emphasis are left alone."""
    return _STAR.sub(lambda found: "\\*" if found[0] == "*" else found[0], line)
