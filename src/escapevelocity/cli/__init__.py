"""The command `ev`: finds the subcommand and imports only what that one needs."""

import contextlib
import difflib
import importlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from escapevelocity.errors import UserError


class Command(NamedTuple):
    """One subcommand: a module of this package with `main(argv) -> exit code`."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("train", "train PPO on a task, with the health of its representation measured"),
    "branch": Command(
        "branch", "go on from a checkpoint of a run with other settings: same past, other future"
    ),
    "resume": Command("resume", "go on with an interrupted, killed or failed run"),
    "list": Command("list_runs", "list runs with their state, progress and last return"),
    "show": Command("show", "show a run: settings, how it ended, last values, checkpoints"),
    "plot": Command("plot", "draw a run's returns and health to PNG and PDF"),
    "dashboard": Command("dashboard", "runs and studies in the browser, up to date while they train"),
    "evaluate": Command("evaluate", "run a trained agent in fresh environments, and film it"),
    "export": Command("export", "write a trained policy as PyTorch's safetensors and as ONNX, checked"),
    "capacity": Command("capacity", "measure how well each snapshot of a run can still learn"),
    "diagnose": Command("diagnose", "name the cause: what happened to a run, since when, and what to try"),
    "report": Command("report", "one HTML file: is a run healthy and why; several runs; a study"),
    "remedies": Command("remedies", "list what there is against a collapse, and the fields of each"),
    "checkup": Command("checkup", "look at a saved Stable-Baselines3 model: ranks, dead neurons, return"),
    "study": Command("study", "grids of runs: plan, train on all cores or a Ray cluster, watch, gather"),
    "reproduce": Command("reproduce", "the papers' figures from real runs: claimed and measured"),
    "asr": Command("asr", "metric learning whose negatives a policy chooses, and its gravity well"),
    "lab": Command("lab", "exact experiments on gravity wells: laws, figures, the reviewers' questions"),
    "doctor": Command("doctor", "is the installation whole, and what to type if not"),
    "completion": Command("completion", "complete commands and options in bash, zsh or fish"),
}

_WELCOME = """\
escapevelocity: find out why policy optimisation stalls or collapses, and get it out.

First time here:
  ev doctor                                          is everything installed that training needs?
  ev train CartPole-v1 --steps 100000 --learning-rate 1e-3
                                                     a run in seconds, with its health in a live table
  ev diagnose runs/NAME                              name the cause, and what to try

Already trained, somewhere else:
  ev diagnose LOGS                                   logs of Stable-Baselines3, CleanRL or RLlib
  ev checkup MODEL.zip --env ID                      a saved Stable-Baselines3 model
"""

_WITH_RUNS = """\
{runs} here, the latest {path}:
  ev list                                            every run with its state
  ev report {path}
  ev diagnose {path}
"""

_MORE = """\
  ev --help                                          every command
  ev COMMAND --help                                  every option, with its meaning and source
"""

_START = """\
Start here:
  ev train Hopper-v4 --seeds 1 2 3 --steps 100000    train three agents as one program
  ev plot runs/NAME                                  see what became of them
  ev diagnose runs/NAME                              name the cause, and what to try
  ev COMMAND --help                                  every option, with its meaning and source
"""


def usage() -> str:
    """The help text of `ev` itself."""
    lines = [
        "usage: ev COMMAND ...",
        "",
        "Find out why policy optimisation stalls or collapses, and get it out.",
        "",
        "commands:",
    ]
    lines += [f"  {name:<10} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", _START])


def welcome(folder: Path = Path("runs")) -> str:
    """What `ev` alone prints: what to type first; where there are runs, what to do with them."""
    with contextlib.suppress(OSError):
        stamped = [(path.stat().st_mtime, path.parent) for path in folder.glob("*/status.json")]
        if stamped:
            count = f"{len(stamped)} runs are" if len(stamped) > 1 else "One run is"
            with_runs = _WITH_RUNS.format(runs=count, path=quote(str(max(stamped)[1])))
            return "\n".join([_WELCOME, with_runs, "Everything:", _MORE])
    return "\n".join([_WELCOME, "Everything:", _MORE])


def _printable(text: str) -> str:
    """As `report._shown.shown`, which takes long to import: an error may quote a stranger's run."""
    return "".join(character if character.isprintable() else "�" for character in text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `ev`; returns its exit code: 0, 1 (the run failed), 2 (a mistake in the input), 130 or 143 (signals)."""
    _prepare_output()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"ev: {_printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # The reader of our output, such as `head`, has enough.
        _drop_output()
        return 0
    except OSError as error:
        if not _output_fails():
            raise
        _drop_output()
        print(f"ev: cannot write to standard output: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _prepare_output() -> None:
    """Let standard output take every text: what it cannot encode is a question mark, and it may be closed."""
    for name in ("stdout", "stderr"):
        if (
            getattr(sys, name) is None
        ):  # Closed, as with `>&-`. Its descriptor must not become that of a file.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _output_fails() -> bool:
    """Whether standard output takes nothing, such as on a full disk; before a traceback an empty line does no harm."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _drop_output() -> None:
    """Let what is still buffered go nowhere; Python would complain about it when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    try:
        if not arguments:
            print(welcome(), end="")
            return 0
        if arguments[0] == "help":  # `ev help train`, as git has it.
            arguments = [*arguments[1:], "--help"]
        if arguments[0] in ("-h", "--help"):
            print(usage())
            return 0
        if arguments[0] == "--version":
            from escapevelocity import __version__

            print(f"escapevelocity {__version__}")
            return 0
        return _command(arguments[0])(arguments[1:])
    finally:
        sys.stdout.flush()  # Here, where a broken pipe is understood.


def _command(name: str) -> Callable[[Sequence[str]], int]:
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(COMMANDS)}"
        raise UserError(f"command = {name!r}: not a command of ev; {hint}")
    return importlib.import_module(f"escapevelocity.cli.{COMMANDS[name].module}").main
