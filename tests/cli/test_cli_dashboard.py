"""`ev dashboard`: where it listens, that Ctrl-C ends it, and its mistakes."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from dashboard_stores import write_run


def test_it_serves_until_ctrl_c(tmp_path):
    write_run(tmp_path / "runs" / "a")
    command = [sys.executable, "-m", "escapevelocity.cli", "dashboard", "runs", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        line = process.stdout.readline()
        address = re.fullmatch(r"runs at (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)\n", line)[1]
        with urllib.request.urlopen(f"{address}api/runs", timeout=30) as answer:
            assert b'"name":"a"' in answer.read()
        os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to it and to the process that judges.
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_other_machines_are_let_in_only_with_a_warning(ev, monkeypatch, tmp_path):
    from escapevelocity.report import live_server

    served = []
    monkeypatch.setattr(
        live_server, "serve", lambda app, listening, ready: (served.append(listening), ready())
    )
    (tmp_path / "runs").mkdir()
    answer = ev("dashboard", "--host", "0.0.0.0", "--port", "0")
    assert answer.code == 0
    assert answer.err == "warning: everybody who reaches 0.0.0.0 can read these runs: there is no password\n"
    assert ev("dashboard", "--port", "0").err == ""
    for listening in served:
        listening.close()


def test_it_opens_a_browser_when_asked(ev, monkeypatch, tmp_path):
    import webbrowser

    from escapevelocity.report import live_server

    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(live_server, "serve", lambda app, listening, ready: (listening.close(), ready()))
    (tmp_path / "runs").mkdir()
    ev("dashboard", "--port", "0")
    assert opened == []
    ev("dashboard", "--port", "0", "--open")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", opened[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "dir = 'nowhere': must be a folder that holds runs"),
        (["--port", "70000"], "port = 70000: must be from 0 (any) to 65535"),
        (["--port", "x"], "port = 'x'"),
        (
            ["--host", "203.0.113.1", "--port", "0"],
            "host = '203.0.113.1': must be an address of this machine",
        ),
    ],
)
def test_mistakes_are_one_line(refused, tmp_path, arguments, message):
    (tmp_path / "runs").mkdir()
    assert message in refused("dashboard", *arguments)
