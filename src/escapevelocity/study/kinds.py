"""Kinds of runs that a study can hold: how settings become a spec, and how that is run. PPO is one; others register."""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer, Status
from escapevelocity.study.settings import nearest

ENTRY_POINTS = "escapevelocity.study_kinds"
"""Group of entry points, each a kind under its name, by which installed packages add kinds."""


@runtime_checkable
class Kind(Protocol):
    """What a study needs to know of one job of the engine."""

    @property
    def name(self) -> str:
        """The job's name, as in spec.json."""
        ...

    def spec(self, settings: Mapping[str, Any], seeds: tuple[int, ...]) -> Any:
        """Make the spec of one run from a cell's settings; a mistake raises `UserError` naming the setting."""
        ...

    def folder(self, spec: Any) -> str:
        """Give the run's default name: the same spec has the same name wherever it is run."""
        ...

    def spec_text(self, spec: Any) -> str:
        """Write the spec as the canonical JSON of `runs.spec`."""
        ...

    def steps(self, spec: Any) -> int:
        """Give the environment steps of the whole run, per seed."""
        ...

    def run(self, spec_text: str, path: Path, observers: Sequence[Observer]) -> Status:
        """Start the run in the folder `path`, or resume what is there; a finished run is returned as it is."""
        ...


KINDS: dict[str, Kind] = {}
"""Every kind known so far, by its name; ask `kind`, which also makes the built-in ones."""

_OURS = {
    "ppo": ("escapevelocity.study.ppo_kind", "PPOKind"),
    "asr": ("escapevelocity.study.asr_kind", "ASRKind"),
}

KindT = TypeVar("KindT")


def register_kind(kind: KindT) -> KindT:
    """Make a kind known by its name; one registered again under its name takes the older one's place.

    Raises:
        UserError: not a kind.
    """
    if not isinstance(kind, Kind) or isinstance(kind, type):
        raise UserError(
            f"kind = {kind!r}: must be an object with the methods of escapevelocity.study.kinds.Kind"
        )
    KINDS[kind.name] = kind
    return kind


def kind(name: str) -> Kind:
    """The kind of that name; installed packages are asked for it when it is not known yet.

    Raises:
        UserError: no kind of that name; the nearest are named.
    """
    if name in _OURS and name not in KINDS:
        module, made = _OURS[name]
        register_kind(getattr(importlib.import_module(module), made)())
    if name not in KINDS:
        _load_entry_points(name)
    if name not in KINDS:
        hint = nearest(name, {*_OURS, *KINDS})
        raise UserError(f"job = {name!r}: unknown kind of run; {hint} (a module that registers one: imports)")
    return KINDS[name]


def _load_entry_points(name: str) -> None:
    """Register the kind of an installed package; one that fails gets a warning that names the package."""
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        try:
            register_kind(entry.load())
        except Exception as error:  # Whatever a stranger's module raises.
            package = entry.dist.name if entry.dist else "an unknown package"
            text = f"kind {entry.name!r} of {package} ({entry.value}) cannot be used: {error}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)
