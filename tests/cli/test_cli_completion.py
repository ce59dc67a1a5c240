"""Completion scripts: bash itself says what they complete; zsh and fish where they are installed."""

import re
import shlex
import shutil
import subprocess

import pytest

from escapevelocity.cli import COMMANDS
from escapevelocity.cli._completion_scripts import SCRIPTS, Word
from escapevelocity.cli.completion import words
from escapevelocity.ppo.presets import PRESETS
from escapevelocity.ppo.remedies import REMEDIES

EVERY = words()
CASES = {
    "ev tr": {"train"},
    "ev ": set(COMMANDS),
    "ev asr m": {"map"},
    "ev asr train --dat": {"--data", "--data-dir"},
    "ev train Hopper-v4 --preset ": set(PRESETS),
    "ev train Hopper-v4 --stop-on ": {"collapse"},
    "ev branch runs/x --remedy ": set(REMEDIES),
    "ev lab esc": {"escape"},
    "ev lab escape --q": {"--quick"},
    "ev lab escape --g": {"--gap", "--gnpg-rate"},
    "ev lab many-classes --cl": {"--class-powers", "--class-rates"},
    "ev train Hopper-v4 --remedy redo --redo.": {"--redo.threshold", "--redo.every"},
    "ev branch runs/x --remedy pfo --pfo.layers ": {"last", "all"},
    "ev completion ": set(SCRIPTS),
    "ev show ru": set(),  # Files, which the shell completes.
}


def in_bash(script, lines):
    """What bash completes for each line, once the script is sourced."""
    asked = "\n".join("ask " + (f"{line}''" if line.endswith(" ") else line) for line in lines)
    program = f"""{script}
ask() {{
    COMP_WORDS=("$@"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _ev; echo "${{COMPREPLY[*]}}"
}}
{asked}
"""
    done = subprocess.run(["bash", "--norc"], input=program, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [set(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_options_and_their_choices():
    assert dict(zip(CASES, in_bash(SCRIPTS["bash"](EVERY), CASES), strict=True)) == CASES


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_the_same(tmp_path):
    (tmp_path / "ev.fish").write_text(SCRIPTS["fish"](EVERY))
    for line, expected in CASES.items():
        if expected:
            program = f"source {tmp_path}/ev.fish; complete -C'{line}'"
            done = subprocess.run(
                ["fish", "--no-config", "-c", program], capture_output=True, text=True, check=True
            )
            assert {found.split("\t")[0] for found in done.stdout.splitlines()} == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_the_script(tmp_path):
    (tmp_path / "_ev").write_text(SCRIPTS["zsh"](EVERY))
    subprocess.run(["zsh", "-n", str(tmp_path / "_ev")], check=True)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_command_and_every_option_stands_in_the_script(ev, shell):
    answer = ev("completion", shell)
    assert (answer.code, answer.err) == (0, "")
    for word in EVERY:
        assert re.search(rf"\b{re.escape(word.path[-1])}\b", answer.out)
        for flag in word.options:
            assert flag in answer.out or f"-l {flag.removeprefix('--')}" in answer.out


def test_a_summary_with_quotes_and_colons_does_no_harm():
    awkward = [Word(("x",), "it's $(touch harm): a `b` \\ c", {"--y": ("it's",)})]
    assert in_bash(SCRIPTS["bash"](awkward), ["ev x --"]) == [{"--y"}]
    (described,) = re.findall(r"found=\((.*)\)", SCRIPTS["zsh"](awkward))
    assert shlex.split(described) == ["x:it's $(touch harm)\\: a `b` \\ c"]
    assert "-d 'it\\'s $(touch harm): a `b` \\\\ c'" in SCRIPTS["fish"](awkward)


def test_an_unknown_shell_is_told_with_those_that_there_are(refused):
    assert refused("completion", "tcsh").endswith("see ev completion --help")
    assert "bash" in refused("completion", "tcsh")
