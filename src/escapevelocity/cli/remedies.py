"""`ev remedies`: what there is against a collapse, and the fields of each."""

import ast
import dataclasses
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.imports import import_modules

REGISTRY = "escapevelocity.ppo.remedies.registry"
_FOLDER = Path(__file__).parents[1] / "ppo" / "remedies"


@dataclasses.dataclass(frozen=True)
class Remedies:
    """List the remedies that `ev train` and `ev branch` take, or show what some of them do and their fields.

    `ev train TASK --remedy pfo redo --pfo.coef 10` takes two of them, one with a field of its own.
    """

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME ...]")] = ()
    """Remedies to show in full; by default all are listed."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own remedies, from the current folder or installed."""


def main(argv: Sequence[str]) -> int:
    """Run `ev remedies`; returns the exit code."""
    command = parse(Remedies, argv, "ev remedies")
    import_modules(command.import_modules)
    if command.names:
        from escapevelocity.cli._remedy_options import print_fields

        print_fields(command.names, f"ev train TASK --remedy {' '.join(command.names)}")
    else:
        print(remedy_list())
    return 0


def remedy_list() -> str:
    """Every remedy with a line on what it is."""
    found = summaries()
    width = max(map(len, found))
    lines = [f"  {name:<{width}}  {text}" for name, text in sorted(found.items())]
    return "\n".join(["remedies (ev remedies NAME shows the fields of one):", *lines])


def summaries() -> dict[str, str]:
    """Remedies by name, each with the first sentence of its documentation.

    Importing them would take JAX, and a second. So the package's own are read from their source; those that were
    registered otherwise are asked, where something has imported the registry already.
    """
    found = {}
    for path in sorted(_FOLDER.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and (name := _name(node)):
                found[name] = _first_sentence(ast.get_docstring(node))
    for entry in entry_points(group="escapevelocity.remedies"):
        found.setdefault(entry.name, f"of the package {entry.dist.name if entry.dist else entry.value}")
    registry = sys.modules.get(REGISTRY)
    if registry is not None:
        found |= {name: _first_sentence(cls.__doc__) for name, cls in registry.REMEDIES.items()}
    return found


def _name(node: ast.ClassDef) -> str:
    """The remedy that a class defines: the value of its `name`."""
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id == "name":
            return (
                item.value.value
                if isinstance(item.value, ast.Constant) and isinstance(item.value.value, str)
                else ""
            )
    return ""


def _first_sentence(text: str | None) -> str:
    """The first paragraph up to the end of its first line."""
    return (text or "").strip().split("\n")[0].strip()
