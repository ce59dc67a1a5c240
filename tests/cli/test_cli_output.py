"""Standard output that cannot hold a character, is full or is closed: no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard_stores import write_run

ENVIRONMENTS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "posix": {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


def ev(*arguments, folder, stdout=subprocess.PIPE, closed=False, **environment):
    """`ev` in a process of its own."""
    command = [sys.executable, "-m", "escapevelocity.cli", *arguments]
    if closed:
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, cwd=folder, env=environment)
    return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_characters_that_the_output_cannot_hold_are_question_marks(tmp_path, environment):
    write_run(tmp_path / "runs" / "one", dead=60.0)
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "spec.json").write_text("{")  # Its row is made of dashes.
    for arguments in (("list",), ("show", "runs/one"), ("lab",), ("train", "--help")):
        code, out, err = ev(*arguments, folder=tmp_path, **ENVIRONMENTS[environment])
        assert (code, err) == (0, ""), arguments
        assert out.isascii()
        assert "?" in out, arguments


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("arguments", [("--help",), ("list", "."), ("train", "--help")], ids=" ".join)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_full_output_is_one_line(tmp_path, arguments, unbuffered):
    with open("/dev/full", "wb") as full:
        code, _, err = ev(*arguments, folder=tmp_path, stdout=full, PYTHONUNBUFFERED=unbuffered)
    assert (code, err) == (2, "ev: cannot write to standard output: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="the shell of Windows closes no descriptors")
def test_a_closed_output_takes_nothing_and_no_file_takes_its_place(tmp_path):
    path = write_run(tmp_path / "runs" / "one")
    assert ev("list", folder=tmp_path, closed=True) == (0, "", "")
    assert ev("report", "runs/one", folder=tmp_path, closed=True) == (0, "", "")
    assert (path / "report.html").read_text().startswith("<!doctype html>")


def test_an_error_that_is_not_of_the_output_stays_one(monkeypatch):
    from escapevelocity import cli

    def fail():
        raise OSError("of another file")

    monkeypatch.setattr(cli, "welcome", fail)
    with pytest.raises(OSError, match="of another file"):
        cli.main([])
