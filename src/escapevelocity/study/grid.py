"""A study is a grid: settings that all runs share, axes whose values are crossed, exclusions, rules for some cells."""

import contextlib
import dataclasses
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from escapevelocity.errors import UserError, require
from escapevelocity.study.settings import nearest, plain_number

Label: TypeAlias = str | int | float | bool
"""What a cell is called on one axis."""

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where a cell's labels are those of `match`, the settings in `set` are added."""

    match: Mapping[str, Any]
    """Labels by axis."""
    set: Mapping[str, Any]
    """Settings by name."""


@dataclasses.dataclass(frozen=True)
class Study:
    """A grid of runs.

    A setting is named as the option of `ev train` without dashes: `learning_rate`, `task`, `steps`. `remedy` is a name,
    a list of names, a table of names with their fields, or "none"; `pfo.coef` is a field of a remedy.

    Raises:
        UserError: whatever is wrong, in one line that names it.
    """

    name: str
    """Names the default store, runs/NAME."""
    base: Mapping[str, Any]
    """Settings of every run."""
    axes: Mapping[str, tuple[Any, ...]]
    """Values by axis. A value is a number, text or list, then the axis is a setting's name and the value its own label;
    or a table of several settings with a `label`."""
    seeds: tuple[int, ...] = (1,)
    """Seeds of every cell."""
    job: str = "ppo"
    """The kind of the runs; see `kinds.kind`."""
    population: int | None = None
    """Seeds that are trained as one program; None: all of them."""
    exclude: tuple[Mapping[str, Any], ...] = ()
    """Labels by axis; a cell that has all of one entry is left out."""
    when: tuple[Rule, ...] = ()
    """Settings for some cells, applied in order."""
    imports: tuple[str, ...] = ()
    """Modules to import first: those that register environments, remedies or kinds."""
    source: str = dataclasses.field(default="", compare=False)
    """The file that it was read from, which messages name."""

    def __post_init__(self) -> None:
        accepted = "letters, digits, dots and dashes: it names a folder"
        require(_NAME.fullmatch(self.name) is not None, "name", self.name, accepted)
        require(len(self.seeds) > 0, "seeds", list(self.seeds), "one or more integers")
        for seed in self.seeds:
            fits = type(seed) is int and 0 <= seed < 2**31
            require(fits, "seeds", seed, "integers between 0 and 2147483647")
        for seed, times in Counter(self.seeds).items():
            require(times == 1, "seeds", seed, "different each: it is given twice")
        least = self.population is None or self.population >= 1
        require(least, "population", self.population, "at least 1 seed per run (left out: all seeds)")
        for axis, values in self.axes.items():
            _require_axis(axis, values)
        for number, labels in enumerate(self.exclude, 1):
            _require_labels(f"exclude {number}", labels, self.axes)
        for number, rule in enumerate(self.when, 1):
            _require_labels(f"when {number}", rule.match, self.axes)
            require(len(rule.set) > 0, f"when {number}: set", dict(rule.set), "one or more settings")
            _require_free(f"when {number}", rule, self.axes)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of the grid: a configuration, for all seeds."""

    labels: Mapping[str, Label]
    """Its label on each axis."""
    settings: Mapping[str, Any]
    """All its settings."""

    def __str__(self) -> str:
        """Give the labels in one line, such as "epochs 10, activation relu"."""
        return ", ".join(f"{axis} {label}" for axis, label in self.labels.items()) or "the base"


def cells(study: Study) -> list[Cell]:
    """Cross the axes, in the order given: the last axis runs fastest.

    Returns:
        The cells that are not excluded. A study without axes has one.

    Raises:
        UserError: an exclusion or a rule that matches no cell, two axes that set one setting, or no cell left.

    Example:
        >>> study = Study("small", {"task": "Hopper-v4"}, {"epochs": (10, 20), "activation": ("tanh", "relu")})
        >>> [str(cell) for cell in cells(study)][:2]
        ['epochs 10, activation tanh', 'epochs 10, activation relu']
    """
    combinations = itertools.product(*study.axes.values())
    grid = [_cell(study, values) for values in combinations]
    for number, labels in enumerate(study.exclude, 1):
        if not any(_matches(cell, labels) for cell in grid):
            raise UserError(
                f"exclude {number} = {_write(labels)}: matches no cell of the grid; leave it out, or name labels of "
                "its axes"
            )
    kept = [cell for cell in grid if not any(_matches(cell, labels) for labels in study.exclude)]
    if not kept:
        raise UserError(f"study {study.name}: its exclusions leave no run of {len(grid)}; take some away")
    for number, rule in enumerate(study.when, 1):
        if not any(_matches(cell, rule.match) for cell in kept):
            raise UserError(
                f"when {number}: match = {_write(rule.match)}: matches no cell that is left; see exclude"
            )
        kept = [_ruled(cell, rule) for cell in kept]
    return kept


def read_study(path: str | Path) -> Study:
    """Read a study from a TOML file, or take one from Python.

    Args:
        path: a file, or `module:attribute` naming a `Study`; the module is imported.

    Raises:
        UserError: whatever is wrong with it, in one line that names the file.
    """
    if _ATTRIBUTE.fullmatch(str(path)) and not os.path.exists(path):
        return _from_python(str(path))
    from escapevelocity.study.study_file import study_fields

    fields = study_fields(Path(path))
    rules = tuple(Rule(rule["match"], rule["set"]) for rule in fields.pop("when", ()))
    with naming(str(path)):
        return Study(**fields, when=rules, source=str(path))


@contextlib.contextmanager
def naming(source: str) -> Iterator[None]:
    """Put a study's file before what is found wrong with it; nothing where it has none."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{source}: {error}" if source else str(error)) from error


def label_of(value: Any) -> Label:
    """The label of an axis's value: its own ("none" for None), that of a table, or a list's parts joined by +.

    Example:
        >>> label_of(10), label_of(["pfo", "layer-norm"]), label_of({"label": "wide", "hidden": [256, 256]})
        (10, 'pfo+layer-norm', 'wide')
    """
    if isinstance(value, Mapping):
        value = value["label"]
    if isinstance(value, list | tuple):
        return "+".join(str(plain_number(part)) for part in value)
    if value is None:
        return "none"
    return plain_number(value)


def _from_python(path: str) -> Study:
    from escapevelocity.imports import import_modules

    module, _, attribute = path.partition(":")
    study = getattr(import_modules([module])[0], attribute, None)
    if not isinstance(study, Study):
        raise UserError(f"{path}: must be a Study, is {type(study).__name__}")
    return study


def _cell(study: Study, values: tuple[Any, ...]) -> Cell:
    labels, own = {}, {}
    for axis, value in zip(study.axes, values, strict=True):
        labels[axis] = label_of(value)
        settings = {axis: value}
        if isinstance(value, Mapping):
            settings = {name: setting for name, setting in value.items() if name != "label"}
        for name in _names(settings):
            if name in _names(own):
                raise UserError(f"axis {axis} = {labels[axis]!r}: sets {name}, which another axis sets too")
        own |= settings
    return Cell(labels, _over(study.base, own))


def _over(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over others. A remedy's table goes before `pfo.coef` of the others too: it is what was said last."""
    said = _names(own)
    return {name: value for name, value in settings.items() if name not in said} | dict(own)


def _names(settings: Mapping[str, Any]) -> set[str]:
    """The settings' names; a table of tables, such as remedy = {pfo = {coef = 10}}, sets pfo.coef as well."""
    tables = [value for value in settings.values() if isinstance(value, Mapping)]
    fields = {
        f"{name}.{field}"
        for table in tables
        for name, own in table.items()
        if isinstance(own, Mapping)
        for field in own
    }
    return fields | settings.keys()


def _ruled(cell: Cell, rule: Rule) -> Cell:
    if not _matches(cell, rule.match):
        return cell
    return dataclasses.replace(cell, settings=_over(cell.settings, rule.set))


def _matches(cell: Cell, labels: Mapping[str, Any]) -> bool:
    return all(_same(cell.labels[axis], value) for axis, value in labels.items())


def _same(label: Label, value: Any) -> bool:
    other = label_of(value)
    return label == other and isinstance(label, bool) == isinstance(other, bool)  # In Python, True == 1.


def _require_axis(axis: str, values: tuple[Any, ...]) -> None:
    require(len(values) > 0, f"axis {axis}", list(values), "a list of one or more values")
    seen: list[Label] = []
    for value in values:
        if isinstance(value, Mapping):
            label = value.get("label")
            named = isinstance(label, str | int | float) and len(value) > 1
            require(named, f"axis {axis}", dict(value), "values, or tables of settings with a label")
        if any(_same(label, value) for label in seen):
            raise UserError(f"axis {axis}: {label_of(value)!r} is given twice; each value must be different")
        seen.append(label_of(value))


def _require_labels(where: str, labels: Mapping[str, Any], axes: Mapping[str, tuple[Any, ...]]) -> None:
    require(len(labels) > 0, where, dict(labels), "one or more axes with a value")
    for axis, value in labels.items():
        if axis not in axes:
            raise UserError(f"{where}: {axis} is not an axis; {nearest(axis, axes)}")
        if isinstance(value, Mapping) or not any(_same(label_of(known), value) for known in axes[axis]):
            values = ", ".join(repr(label_of(known)) for known in axes[axis])
            raise UserError(
                f"{where}: {axis} = {value!r}: matches nothing; the values of {axis} are {values}"
            )


def _require_free(where: str, rule: Rule, axes: Mapping[str, tuple[Any, ...]]) -> None:
    """A rule must leave alone what an axis sets in the cells that it matches."""
    for name in sorted(_names(rule.set)):
        if name in axes:
            raise UserError(
                f"{where}: sets {name}, which is an axis; its label would no longer say what is trained"
            )
        for axis, values in axes.items():
            for value in values:
                sets = isinstance(value, Mapping) and name != "label" and name in _names(value)
                if sets and (axis not in rule.match or _same(label_of(value), rule.match[axis])):
                    raise UserError(
                        f"{where}: sets {name}, which axis {axis} = {label_of(value)!r} sets too;"
                        " its label would no longer say what is trained"
                    )


def _write(labels: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{axis} = {value!r}" for axis, value in labels.items()) + "}"
