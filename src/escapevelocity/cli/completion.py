"""`ev completion`: a script that completes commands, options and their choices in bash, zsh or fish."""

import dataclasses
import importlib
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from escapevelocity.cli._completion_scripts import SCRIPTS, Word
from escapevelocity.cli._options import options_of
from escapevelocity.cli._parse import parse
from escapevelocity.cli.remedies import summaries

_ONE_OF = "one of "


@dataclasses.dataclass(frozen=True)
class Completion:
    """Print a script that lets your shell complete commands, options and their choices.

    bash: ev completion bash > ~/.local/share/bash-completion/completions/ev. zsh: ev completion zsh > ~/.zfunc/_ev,
    with fpath+=~/.zfunc before compinit. fish: ev completion fish > ~/.config/fish/completions/ev.fish.
    """

    shell: Annotated[tyro.conf.Positional[Literal["bash", "zsh", "fish"]], tyro.conf.arg(metavar="SHELL")]
    """bash, zsh or fish."""


def main(argv: Sequence[str]) -> int:
    """Run `ev completion`; returns the exit code."""
    command = parse(Completion, argv, "ev completion")
    print(SCRIPTS[command.shell](words()), end="")
    return 0


def words() -> list[Word]:
    """Every command and every command of a group, with its options.

    The lab's experiments and the remedies have options of their own, for which they are imported, and JAX with them.
    """
    from escapevelocity.cli import COMMANDS, asr, lab, study

    values = {"completion": tuple(SCRIPTS), "remedies": tuple(sorted(summaries()))}
    groups = {"asr": asr.COMMANDS, "study": study.COMMANDS}
    found = []
    for name, command in COMMANDS.items():
        if name in groups:
            found.append(Word((name,), command.summary, {}))
            found += [
                Word((name, one), summary, _options(f"{name}_{one}")) for one, summary in groups[name].items()
            ]
        elif name == "lab":
            found.append(Word((name,), command.summary, {}))
            found += [
                Word(
                    (name, one),
                    entry.summary,
                    _flags(lab.experiment_class(one)) | _options("lab", lab.Output),
                )
                for one, entry in lab.EXPERIMENTS.items()
            ]
            found.append(
                Word((name, "all"), "every experiment, one after the other", _options("lab", lab.Output))
            )
        else:
            found.append(Word((name,), command.summary, _options(command.module), values.get(name, ())))
    return found


def settings_of(module: str) -> type:
    """The dataclass that a command's module parses its arguments into."""
    loaded = importlib.import_module(f"escapevelocity.cli.{module}")
    (settings,) = [
        value
        for value in vars(loaded).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == loaded.__name__
    ]
    return settings


def _options(module: str, settings: type | None = None) -> dict[str, tuple[str, ...]]:
    """Flags of a command, each with the words that it takes; () where those are not known beforehand."""
    options = _flags(settings or settings_of(module))
    if "--remedy" in options:
        from escapevelocity.ppo.remedies import REMEDIES

        options["--remedy"] = tuple(sorted(summaries()))
        for name, remedy in sorted(REMEDIES.items()):
            options |= _flags(remedy, f"{name}.")
    return options | {"--help": ()}


def _flags(settings: type, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Flags of a dataclass's fields with the words that each takes, but not those that begin with no-."""
    return {
        f"--{prefix}{option.name}": _choices(option.accepted)
        for flag, option in options_of(settings).items()
        if not flag.startswith("--no-")
    }


def _choices(accepted: str) -> tuple[str, ...]:
    """The words in "one of a, b" or "one of a, b or None"; () for anything else."""
    if not accepted.startswith(_ONE_OF):
        return ()
    return tuple(accepted.removeprefix(_ONE_OF).removesuffix(" or None").split(", "))
