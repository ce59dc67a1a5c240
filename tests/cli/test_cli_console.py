"""Tables on terminals of any width: nothing that one must copy is cut."""

import re

import pytest

from escapevelocity.cli._console import FILE_WIDTH, console, numbers_table, print_numbers

HEADINGS = ("seed", "env steps", "actions", "return mean")
ROW = ("2147483647", "1,000,000", "sampled", "-1,234.5")


@pytest.fixture
def terminal(monkeypatch):
    """Make standard output a terminal of some width."""

    def make(width):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes it for a terminal.

    return make


@pytest.mark.parametrize("width", [20, 40, 80])
def test_numbers_are_whole_on_a_terminal_of_any_width(terminal, capsys, width):
    terminal(width)
    table = numbers_table(HEADINGS, "a title")
    table.add_row(*ROW)
    print_numbers(table)
    text = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    (row,) = [line for line in text.splitlines() if ROW[0] in line]
    assert re.findall(r"[^\s│|]+", row) == list(ROW)
    assert "…" not in text
    words = set(text.split())
    assert {word for heading in HEADINGS for word in heading.split()} <= words


def test_a_terminal_keeps_its_width_where_that_is_enough(terminal):
    terminal(100)
    assert console().width == console(least=100).width == 100
    assert console(least=101).width == 101


def test_what_is_no_terminal_is_wide():
    assert console().width == FILE_WIDTH
    assert console(least=300).width == 300
