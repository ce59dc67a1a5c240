"""`ev` inside the test process: what it prints, its exit code, and what it leaves behind."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from escapevelocity.cli import main


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """Runs of tests need no durable disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def ev(capsys, tmp_path, monkeypatch):
    """Run `ev` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code or 0
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def refused(ev, tmp_path):
    """Run `ev` on a mistake: one line on standard error, exit code 2, and nothing on disk changed. Gives the line."""

    def files():
        paths = list(Path(tmp_path).rglob("*"))  # An empty file says nothing.
        return {path: path.read_bytes() if path.is_file() else None for path in paths}

    def run(*arguments):
        before = files()
        answer = ev(*arguments)
        assert answer.code == 2, answer
        assert re.fullmatch(r"ev: [^\n]+\n", answer.err), answer.err
        assert answer.out == ""
        assert files() == before
        return answer.err.strip()

    return run
