"""The README's example runs, and its commands exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end import process_environment

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def shell_lines():
    """Every command in the README: lines of shell blocks, and what stands in backquotes."""
    blocks = [
        line
        for language, text in BLOCKS
        if language in ("sh", "bash", "console")
        for line in text.splitlines()
    ]
    inline = re.findall(
        r"`((?:ev|make) [^`]*)`", re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    )
    return [line.removeprefix("$ ").strip() for line in [*blocks, *inline]]


COMMANDS = sorted(
    {line.removeprefix(".venv/bin/") for line in shell_lines() if re.match(r"(\.venv/bin/)?ev ", line)}
)
TARGETS = sorted({word for line in shell_lines() for word in re.findall(r"^make ([\w-]+)", line)})


def test_there_are_commands_targets_and_an_example_to_test():
    assert any(command.startswith("ev train ") for command in COMMANDS)
    assert {"demo", "test"} <= set(TARGETS)
    assert [language for language, _ in BLOCKS].count("python") >= 1


@pytest.mark.slow
def test_the_example_runs_as_it_stands(tmp_path):
    code = next(text for language, text in BLOCKS if language == "python")
    assert len(code.strip().splitlines()) <= 12
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=process_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^finished [\d.]+ [01]$", done.stdout, re.MULTILINE), done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "status.json").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_readme_parses(command, tmp_path, monkeypatch):
    """With --help, options and arguments are still looked at by the splitter; train is planned for real."""
    import importlib

    from escapevelocity import cli
    from escapevelocity.cli._options import HELP, split

    monkeypatch.chdir(tmp_path)
    _, name, *arguments = shlex.split(command, comments=True)
    if name not in cli.COMMANDS:
        assert name in ("COMMAND", "--help"), command
        return
    if name == "branch":  # Its options are those of training: they are read before help is shown.
        arguments.append("--help")
    if any(argument in HELP for argument in arguments):
        code = None
        try:
            code = cli.main([name, *arguments])
        except SystemExit as stop:
            code = stop.code
        assert not code
    elif name == "train":
        if "gymnax:" in command:
            pytest.importorskip("gymnax")
        assert cli.main(["train", *arguments, "--dry-run"]) == 0
    elif name == "lab":
        with pytest.raises(SystemExit) as stop:  # --help after the options: they are read before it.
            cli.main(["lab", *arguments, "--help"]) if arguments else sys.exit(cli.main(["lab"]))
        assert not stop.value.code
    else:
        file = cli.COMMANDS[name].module
        if name in ("study", "asr"):  # A command of a group.
            file = f"{name}_{arguments.pop(0)}"
        module = importlib.import_module(f"escapevelocity.cli.{file}")
        classes = [
            c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__
        ]
        split(classes[0], arguments)


@pytest.mark.parametrize("target", TARGETS)
def test_every_make_target_in_the_readme_exists(target):
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_picture_in_the_readme_exists_says_what_it_shows_and_comes_from_a_stated_command():
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", README)
    assert len(pictures) == 3
    for alt, path in pictures:
        assert (ROOT / path).read_bytes().startswith(b"\x89PNG"), path
        assert len(alt.split()) >= 10, path
    assert "`make pictures`" in README
    assert "`ev lab trajectories --out studies/lab`" in README
