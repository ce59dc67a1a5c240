"""Help: quick because light, and complete."""

import ast
import dataclasses
import importlib
import inspect
import json
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from escapevelocity.cli import COMMANDS
from escapevelocity.ppo import config
from escapevelocity.ppo.config import PPOSpec

GROUPS = {
    "study": ("plan", "run", "watch", "history"),
    "asr": ("train", "branch", "study", "starts", "map"),
}
OF_GROUPS = [f"{group} {name}" for group, names in GROUPS.items() for name in names]
ALONE = [name for name in COMMANDS if name not in GROUPS]
HEAVY = {"jax", "jaxlib", "numpy", "tyro", "gymnasium", "matplotlib", "envpool", "pyarrow", "equinox", "rich"}


def imported_by(code):
    """The top-level modules that a fresh interpreter has imported after `code`."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import escapevelocity",
        "import escapevelocity; dir(escapevelocity); escapevelocity.__version__",
        "from escapevelocity.cli import main; main(['--help'])",
        "from escapevelocity.cli import main; main([])",
        "from escapevelocity.cli import main; main(['--version'])",
        "from escapevelocity.cli import main; main(['trian'])",
    ],
)
def test_the_package_and_the_first_help_import_nothing_heavy(code):
    assert not imported_by(code) & HEAVY


@pytest.mark.parametrize("command", [*ALONE, *OF_GROUPS])
def test_help_of_a_command_needs_no_jax(command):
    code = f"""
from escapevelocity.cli import main
try:
    main([*{command.split()!r}, '--help'])
except SystemExit as stop:
    assert not stop.code
"""
    imported = imported_by(code)
    assert "tyro" in imported
    assert not imported & (HEAVY - {"tyro", "rich"})


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_help_of_ev_itself_lists_every_command_with_what_it_does(ev, arguments):
    answer = ev(*arguments)
    assert answer.code == 0
    assert answer.err == ""
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", answer.out, re.MULTILINE)


@pytest.mark.parametrize("command", [["show"], ["study", "plan"]])
def test_help_before_a_command_is_help_behind_it(ev, command):
    asked, behind = ev("help", *command), ev(*command, "--help")
    assert (asked.code, asked.err) == (0, "")
    assert asked.out == behind.out
    assert "usage" in asked.out.lower()


def test_version_is_that_of_the_installed_package(ev):
    from importlib.metadata import version

    answer = ev("--version")
    assert answer == (0, f"escapevelocity {version('escapevelocity')}\n", "")


def leaves(spec):
    """Every setting of a spec: name and value."""
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value)
        else:
            yield field.name, value


def documented(module):
    """Field to the string that follows it in the source of a module."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        for field, text in (
            pairwise(getattr(node, "body", None) or []) if isinstance(node, ast.ClassDef) else ()
        ):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                found[field.target.id] = " ".join(text.value.value.split())
    return found


def unframed(text):
    """Help without its boxes, which are ASCII where the terminal is not UTF-8."""
    return re.sub(r"[│|╭╮╰╯─]|\+?-{3,}.*", " ", text)


def described(text):
    """Flag to what its help says, from a page of help."""
    plain = unframed(text)
    parts = re.split(r"^\s*(--[\w-]+)", plain, flags=re.MULTILINE)[1:]
    return {flag: " ".join(rest.split()) for flag, rest in zip(parts[::2], parts[1::2], strict=True)}


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--help"],
        ["train", "CartPole-v1", "--help"],
        ["train", "--help", "Hopper-v4"],
        ["branch", "--help"],
        ["branch", "parent", "--help"],
    ],
)
def test_every_setting_shows_in_the_help_with_its_meaning_and_its_default(ev, arguments, tmp_path):
    from escapevelocity.ppo.training import default_spec
    from escapevelocity.runs import canonical_json

    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "spec.json").write_text(canonical_json(default_spec("CartPole-v1"), "ppo"))
    answer = ev(*arguments)
    assert (answer.code, answer.err) == (0, "")
    assert "Sources of the settings: [M] Moalla" in answer.out
    spec = default_spec("CartPole-v1") if {"CartPole-v1", "parent"} & set(arguments) else PPOSpec()
    help_of, meanings = described(answer.out), documented(config)
    # Remedies have a test of their own; what a branch shares with its parent is no setting of it.
    left_out = {
        "task",
        "remedies",
        "branch",
        *({"preset", "seeds", "steps"} if "branch" in arguments else ()),
    }
    for name, value in leaves(spec):
        if name not in left_out:
            values = value if isinstance(value, tuple) else (value,)
            shown = "the parent's" if arguments == ["branch", "--help"] else " ".join(map(str, values))
            says = f"{meanings[name].removesuffix('.')}. (default: {shown})"
            assert " ".join(unframed(says).split()) in help_of["--" + name.replace("_", "-")]


@pytest.mark.parametrize("arguments", [[], ["parent"]])
def test_help_of_a_branch_of_an_embedding_shows_the_parents_settings(ev, arguments, tmp_path):
    from escapevelocity.metric_learning.presets import preset_spec
    from escapevelocity.runs import canonical_json

    (tmp_path / "parent").mkdir()
    (tmp_path / "parent" / "spec.json").write_text(canonical_json(preset_spec("omniglot"), "asr"))
    answer = ev("asr", "branch", *arguments, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert "Sources of the settings: [A] Dou" in answer.out
    shown = preset_spec("omniglot").learner.learning_rate if arguments else "the parent's"
    assert f"(default: {shown})" in described(answer.out)["--learning-rate"]


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("train", "TASK"),
        ("branch", "--at"),
        ("asr branch", "--at"),
        ("plot", "RUN [RUN ...]"),
        ("diagnose", "RUN [RUN ...]"),
        ("report", "RUN [RUN ...]"),
        ("checkup", "--env"),
    ],
)
def test_what_is_needed_is_not_shown_with_a_default(ev, command, argument):
    text = unframed(ev(*command.split(), "--help").out)
    (entry,) = re.findall(rf"^\s*{re.escape(argument)}\s(?s:.*?)\((default|required)", text, re.MULTILINE)
    assert entry == "required"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in (*ALONE, *OF_GROUPS)
        if name not in ("train", "branch", "lab", "asr train", "asr branch")
    ],
)
def test_help_of_the_other_commands_describes_each_of_their_fields(ev, name):
    file = COMMANDS[name].module if name in COMMANDS else name.replace(" ", "_")
    module = importlib.import_module(f"escapevelocity.cli.{file}")
    (command,) = [
        value
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    ]
    answer = ev(*name.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(f"usage: ev {name} ")
    meanings, text = documented(module), " ".join(unframed(answer.out).split())
    assert " ".join(command.__doc__.split())[:60] in text
    for field in dataclasses.fields(command):
        assert meanings[field.name].removesuffix(".") in text
    options = {flag for flag in described(answer.out) if not flag.startswith("--no-")}
    fields = {f"--{f.name.removesuffix('_modules').replace('_', '-')}" for f in dataclasses.fields(command)}
    positional = {
        "--run",
        "--runs",
        "--model",
        "--names",
        "--figures",
        "--file",
        "--study",
        "--dir",
        "--targets",
    }
    positional |= {"--shell"} if name == "completion" else set()
    positional |= {"--init"} if name == "asr starts" else set()
    positional |= {"--out"} if name == "list" else set()
    assert options == fields - positional


def test_a_reader_that_has_enough_ends_ev_quietly():
    for arguments in (["--help"], ["train", "--help"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "escapevelocity.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.close()  # Long before the process has started to write.
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_its_commands_and_names_the_nearest_for_one_that_it_does_not_have(ev, group):
    for arguments in ([], ["--help"]):
        answer = ev(group, *arguments)
        assert (answer.code, answer.err) == (0, "")
        assert answer.out.startswith(f"usage: ev {group} COMMAND")
        assert [
            name for name in GROUPS[group] if re.search(rf"^  {name} +\w", answer.out, re.MULTILINE)
        ] == list(GROUPS[group])
    wrong = GROUPS[group][0][:-1]
    answer = ev(group, wrong)
    assert (answer.code, answer.out) == (2, "")
    assert f"{group} command = '{wrong}': not a command of ev {group}; did you mean" in answer.err


@pytest.mark.parametrize("data", ["digits", "omniglot"])
def test_help_of_adaptive_sampling_shows_every_setting_with_the_default_that_fits_the_images(ev, data):
    from escapevelocity.metric_learning import config as settings
    from escapevelocity.metric_learning.presets import preset_spec

    answer = ev("asr", "train", "--data", data, "--help")
    assert (answer.code, answer.err) == (0, "")
    help_of, meanings = described(answer.out), documented(settings)
    for name, value in leaves(preset_spec(data)):
        values = value if isinstance(value, tuple) else (value,)
        says = f"{meanings[name].removesuffix('.')}. (default: {' '.join(map(str, values))})"
        if name in ("data", "sampler"):  # Sections of the settings have these names too.
            says = f"(default: {value})"
        if name != "branch":
            assert " ".join(unframed(says).split()) in help_of["--" + name.replace("_", "-")]
