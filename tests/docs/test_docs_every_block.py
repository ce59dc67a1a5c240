"""No page escapes: its blocks are run or parsed by a test, its command lines parse, its links hold in the clone."""

import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docs_pages import DOCS, README, ROOT, blocks, command_lines, name_of, pages, shell_lines

HERE = Path(__file__).parent
PARSED = {
    "README": "what trains is run by test_readme.py and the tests of each command",
    "index": "the same commands as in the README",
    "how-to/dashboard": "a server, tested in tests/browser",
    "how-to/ray": "clusters; tests/study/test_study_ray_executor.py trains on one",
    "how-to/shell": "writes to the home folder; tests/cli/test_cli_completion.py asks the shells",
    "how-to/study": "its plans are held against ev by tests/cli/test_cli_study_plan.py",
}
"""Pages whose shell blocks are only parsed, and why."""
ELSEWHERE = {"README": {"python"}}  # test_readme.py runs it.
SHOWN = {"text", "toml", "yaml", "json", "html"}
OTHERS = {"make", "pip", "ray", "ssh", "mkdir", "srun", "head=$(scontrol", "ip=$(srun"}
"""Programs that pages name beside ev."""
OUTSIDE = [
    *sorted((ROOT / "studies").rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    ROOT / "CONTRIBUTING.md",
]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def run_somewhere():
    """Which languages of which pages the tests in this folder say that they run."""
    found = {name: set(languages) for name, languages in ELSEWHERE.items()}
    for file in sorted(HERE.glob("test_docs_*.py")):
        spec = importlib.util.spec_from_file_location(f"_runs_of_{file.stem}", file)
        if "RUNS = {" in file.read_text(encoding="utf-8") and file != Path(__file__):
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            for name, languages in module.RUNS.items():
                found.setdefault(name, set()).update(languages)
    return found


@pytest.fixture(scope="module")
def run_by_tests():
    return run_somewhere()


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_of_a_page_is_run_or_parsed(page, run_by_tests):
    name = name_of(page)
    ran = run_by_tests.get(name, set())
    for block in blocks(page):
        assert block.language in SHOWN | {"python", "sh"}, (
            f"{name}: a block of {block.language or 'no language'}"
        )
        if block.language == "python":
            assert "python" in ran, f"{name}: no test runs its Python; see RUNS in tests/docs/"
        if block.language == "sh":
            assert "sh" in ran or name in PARSED, (
                f"{name}: no test runs its commands; see RUNS in tests/docs/"
            )


def test_every_page_that_tests_speak_of_is_there(run_by_tests):
    assert {*run_by_tests, *PARSED} <= {name_of(page) for page in pages()}


@pytest.mark.parametrize("name", PARSED)
def test_shell_blocks_that_are_only_parsed_are_shell(name):
    page = README if name == "README" else DOCS / f"{name}.md"
    for block in blocks(page):
        if block.language != "sh":
            continue
        for line in shell_lines(block.text):
            assert line.split()[0] in OTHERS | {"ev"}, line
        if shutil.which("bash"):
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


LINES = sorted(
    {line for page in (*pages(), *OUTSIDE) for line in command_lines(page.read_text(encoding="utf-8"))}
)
PLACEHOLDERS = {"COMMAND", "EXPERIMENT"}
VALUES = {"SHELL": "bash", "TASK": "Hopper-v4", "N": "1", "PAPER": "nrnt"}


def words_of(line):
    """A command line's words behind `ev`, with something in the place of what the reader puts there."""
    words = shlex.split(re.sub(r"\s[>|]\s.*", "", line), comments=True)[1:]
    return [VALUES.get(word, word) for word in words]


def test_there_are_command_lines_to_parse():
    assert len(LINES) > 80


@pytest.mark.parametrize("line", LINES)
def test_every_command_line_parses(line):
    """Down to the last option and its value; a line that names a command without anything behind it, only that."""
    from escapevelocity.cli import COMMANDS, asr, lab, study
    from escapevelocity.cli._options import HELP, split
    from escapevelocity.cli._parse import parse
    from escapevelocity.cli._remedy_options import take_remedies
    from escapevelocity.cli.completion import settings_of
    from escapevelocity.cli.train import expand_ranges

    words = words_of(line)
    if not words or words[0] in (*PLACEHOLDERS, *HELP) or "…" in line or "[" in line:
        return
    assert words[0] in COMMANDS
    name, *arguments = words
    if name in ("asr", "study"):
        known = (asr if name == "asr" else study).COMMANDS
        if not arguments or arguments[0] in PLACEHOLDERS:
            return
        assert arguments[0] in known
        module = f"{name}_{arguments.pop(0)}"
    else:
        module = COMMANDS[name].module
    if set(arguments) & set(HELP) or not arguments:
        return
    if name == "lab":
        if arguments[0] != "all":
            lab._parse(arguments[0], lab.experiment_class(arguments[0]), arguments[1:])
        return
    settings = settings_of(module)
    if module in ("train", "branch"):
        # A page's own remedy is not registered here.
        known = re.sub(r"--remedy (ratio-pull|norm-ceiling)", "", shlex.join(arguments))
        arguments = take_remedies(expand_ranges(shlex.split(known))).rest
        split(settings, arguments)
    elif module in ("asr_train", "asr_branch"):
        split(settings, expand_ranges(arguments))
    else:
        split(settings, arguments)
        if len(arguments) > 1:
            parse(settings, arguments, f"ev {name}")


@pytest.mark.parametrize("page", [*pages(), *OUTSIDE], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_holds_in_the_repository(page):
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    missing = []
    for target in _LINK.findall(text):
        split = urlsplit(target)
        if split.scheme or not split.path or target.startswith("x"):
            continue
        if not (page.parent / split.path).exists():
            missing.append(target)
    assert missing == []
