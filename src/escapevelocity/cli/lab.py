"""`ev lab`: exact experiments on wells, a subcommand each, with table, figures and data."""

import dataclasses
import difflib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from escapevelocity.cli._options import HELP
from escapevelocity.cli._parse import parse
from escapevelocity.errors import UserError


class Entry(NamedTuple):
    """One experiment: class of `lab.experiments`, whose module has the name's own, and what it shows."""

    experiment: str
    summary: str


FIGURES = {
    "trajectories": Entry(
        "Trajectories", "paths of SPG and EPG on the simplex, sub-optimality, NŁ coefficient"
    ),
    "escape": Entry("Escape", "escape times of every method against the start, beside the laws"),
    "rooms": Entry("FourRooms", "four rooms: value against iterations, with the value map"),
    "damping": Entry("Damping", "how fast cross-entropy falls: softmax's 1/t against escort"),
    "classify": Entry("Classify", "image classification: SPG, EPG, SCE, ECE at their own best rates"),
    "toy": Entry("Toy", "the two states whose features break PPO's clipping"),
    "p-study": Entry("PStudy", "which escort exponent p when: a table to follow"),
}
QUESTIONS = {
    "uniform-starts": Entry(
        "UniformStarts", "how often is a run from uniform starts trapped, and what is lost?"
    ),
    "stable-rate": Entry("StableRate", "the largest stable learning rate of softmax and escort"),
    "adaptive-rates": Entry(
        "AdaptiveRates", "do naive adaptive rates escape, and what do they cost when sampled?"
    ),
    "exponent": Entry("Exponent", "does the NŁ exponent predict the escape rate across methods?"),
    "optimisers": Entry("Optimisers", "SGD, momentum and Adam, each at its own best rate"),
    "many-classes": Entry("ManyClasses", "up to 1,000 actions, and characters"),
}
EXPERIMENTS = FIGURES | QUESTIONS


@dataclasses.dataclass(frozen=True)
class Output:
    """Where the results go, and how long it may take."""

    quick: tyro.conf.FlagCreatePairsOff[bool] = False
    """A smaller version that takes seconds; options given beside it still count."""
    out: Path | None = None
    """Folder for table, figures, data and page; by default runs/lab, and runs/lab-quick with --quick."""

    @property
    def folder(self) -> Path:
        """Where they go: a first look replaces no result of full size."""
        return self.out or Path("runs/lab-quick" if self.quick else "runs/lab")


@dataclasses.dataclass(frozen=True)
class All:
    """Run every experiment of the lab, one after the other, each with its default settings."""

    output: Output = dataclasses.field(default_factory=Output)
    """Where the results go, and how long it may take."""


def usage() -> str:
    """The help text of `ev lab`."""
    lines = [
        "usage: ev lab EXPERIMENT [--quick] [--out DIR] [settings]",
        "",
        "Exact experiments on the wells of policy optimisation. Each prints a small table and writes",
        "NAME.png, NAME.pdf, NAME.parquet and a page NAME.md to --out (default runs/lab;",
        "with --quick runs/lab-quick).",
        "",
        "figures:",
        *(f"  {name:<15} {entry.summary}" for name, entry in FIGURES.items()),
        "",
        "questions:",
        *(f"  {name:<15} {entry.summary}" for name, entry in QUESTIONS.items()),
        "  all             every experiment, one after the other",
        "",
        "Start here:",
        "  ev lab escape --quick        seconds; without --quick minutes",
        "  ev lab escape --help         every setting, with its meaning",
        "",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Run `ev lab`; returns the exit code."""
    if not argv or argv[0] in HELP:
        print(usage())
        return 0
    name, arguments = argv[0], list(argv[1:])
    if name == "all":
        parse(All, arguments, "ev lab all")
        for one in EXPERIMENTS:
            _run(one, arguments)
    else:
        _run(name, arguments)
    return 0


def _run(name: str, arguments: list[str]) -> None:
    experiment, output = _parse(name, experiment_class(name), arguments)
    from rich.text import Text

    from escapevelocity.cli._console import console, print_numbers
    from escapevelocity.report.lab.page import write
    from escapevelocity.report.lab.progress import track
    from escapevelocity.report.lab.table import table
    from escapevelocity.runs.atomic import require_writable

    draw = importlib.import_module(f"escapevelocity.report.lab.{_module(name)}").draw
    require_writable(output.folder)  # Told now, not after minutes of work.
    findings = experiment.run(track)
    screen = console()
    print_numbers(table(findings.summary, experiment.question))
    for answer in findings.answers:
        screen.print(Text(answer), soft_wrap=True)
    for path in write(name, experiment, findings, draw, output.folder, ["ev", "lab", name, *arguments]):
        print(path)


def experiment_class(name: str) -> Any:
    """The class of an experiment, whose fields are its settings.

    Raises:
        UserError: there is no such experiment.
    """
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, [*EXPERIMENTS, "all"], n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join([*EXPERIMENTS, 'all'])}"
        raise UserError(f"experiment = {name!r}: not an experiment of the lab; {hint}")
    module = importlib.import_module(f"escapevelocity.lab.experiments.{_module(name)}")
    return getattr(module, EXPERIMENTS[name].experiment)


def _module(name: str) -> str:
    return name.replace("-", "_")


def _parse(name: str, settings: Any, arguments: list[str]) -> tuple[Any, Output]:
    """The experiment's settings and the output options; --quick changes the settings' defaults."""
    # A subclass, not a field: help then shows the settings first and their text once.
    extended = dataclasses.make_dataclass(
        settings.__name__,
        [("output", Output, dataclasses.field(default_factory=Output))],
        bases=(settings,),
        frozen=True,
        namespace={"__doc__": settings.__doc__},
    )
    default = extended(**settings.quick) if "--quick" in arguments else extended()
    given = parse(extended, arguments, f"ev lab {name}", default=default)
    values = {field.name: getattr(given, field.name) for field in dataclasses.fields(settings)}
    return settings(**values), given.output
