"""`ev` with nothing behind it: short, and what to type first."""

import json
import os
import shlex

from escapevelocity.cli import COMMANDS


def test_ev_alone_says_what_to_do_first_in_a_few_lines(ev):
    answer = ev()
    assert (answer.code, answer.err) == (0, "")
    assert len(answer.out.splitlines()) <= 16
    for first in ("ev doctor", "ev train CartPole-v1", "ev diagnose", "ev checkup", "ev --help"):
        assert f"  {first}" in answer.out


def test_every_line_that_it_names_is_a_command(ev, tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "status.json").write_text("{}")
    lines = [shlex.split(line) for line in ev().out.splitlines() if line.startswith("  ev ")]
    assert len(lines) >= 8
    assert {line[1] for line in lines} - {"--help", "COMMAND"} <= set(COMMANDS)


def test_where_there_are_runs_the_latest_is_named(ev, tmp_path):
    for age, name in enumerate(("new", "old")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"state": "finished"}))
        os.utime(folder / "status.json", (1_700_000_000 - age, 1_700_000_000 - age))
    out = ev().out
    assert "2 runs are here, the latest runs/new" in out
    assert "ev report runs/new" in out
