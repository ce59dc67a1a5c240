"""The examples in docstrings print what they say, in every room that has no list of its own for them.

The rooms policy, lab and interop, whose examples need other settings or extras, run theirs beside their other tests.
"""

import doctest
import importlib
from pathlib import Path

import pytest

import escapevelocity

SOURCE = Path(escapevelocity.__file__).parent
ELSEWHERE = ("policy", "lab", "interop")
MODULES = [
    ".".join((escapevelocity.__name__, *path.relative_to(SOURCE).with_suffix("").parts))
    for path in sorted(SOURCE.rglob("*.py"))
    if path.relative_to(SOURCE).parts[0] not in ELSEWHERE and ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_every_room_with_examples_is_among_them():
    rooms = {name.split(".")[1] for name in MODULES}
    assert {"runs", "ppo", "report", "study", "health", "metric_learning"} <= rooms
