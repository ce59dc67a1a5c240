"""Which seeds run together: decided when a plan is first made, and kept in STORE/_study/plan.json from then on."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from escapevelocity.errors import UserError
from escapevelocity.runs.atomic import write_json
from escapevelocity.runs.turns import taking_turns

PLAN_FILE = "plan.json"
_LOCK = ".plan.lock"  # A hidden file, which is not copied to a store behind a URL.
_VERSION = 1

Group: TypeAlias = tuple[int, ...]
"""Seeds that are trained as one program."""


def choose_groups(
    recorded: Sequence[Group],
    wanted: Sequence[int],
    population: int | None,
    started: Callable[[Group], bool],
) -> list[Group]:
    """Divide the seeds of a cell into groups, so that what has been trained stays what it is.

    A group whose run has begun is taken as it stands if any of its seeds is wanted, the largest first. Then come those
    that were planned before, if all of their seeds are wanted and they are no larger than `population`. Seeds that are
    left form new groups, in the order given.

    Args:
        recorded: groups of earlier plans.
        wanted: the study's seeds.
        population: the largest new group; None for no limit.
        started: whether a group's run is in the store.

    Returns:
        Groups without a common seed that hold all wanted seeds.

    Example:
        >>> choose_groups([(1, 2, 3)], [1, 2, 3, 4, 5], None, started=lambda group: True)
        [(1, 2, 3), (4, 5)]
    """
    wish, covered, chosen = set(wanted), set[int](), []
    begun = [group for group in recorded if not wish.isdisjoint(group) and started(group)]
    room = len(wanted) if population is None else population
    fitting = [group for group in recorded if wish.issuperset(group) and len(group) <= room]
    for group in [*sorted(begun, key=len, reverse=True), *fitting]:
        if covered.isdisjoint(group):
            chosen.append(group)
            covered |= set(group)
    left = [seed for seed in wanted if seed not in covered]
    return chosen + [tuple(left[i : i + room]) for i in range(0, len(left), room)]


def read_groups(study_path: Path) -> dict[str, list[Group]]:
    """Read the groups of every cell that was ever planned in a store, by the cell's key; none where there are none.

    Raises:
        UserError: the file is damaged or of a newer version.
    """
    path = study_path / PLAN_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version, cells = document["schema_version"], document["cells"]
        groups = {str(key): [_group(group) for group in groups] for key, groups in cells.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged: it says which seeds run together; remove it, and the next plan goes by the runs "
            "that are there"
        ) from error
    if version != _VERSION:
        raise UserError(f"{path}: schema_version = {version!r}: must be {_VERSION}; update escapevelocity")
    return groups


def write_groups(study_path: Path, groups: Mapping[str, Sequence[Group]]) -> None:
    """Write what `read_groups` reads, atomically."""
    cells = {key: [list(group) for group in each] for key, each in groups.items()}
    write_json(study_path / PLAN_FILE, {"schema_version": _VERSION, "cells": cells})


@contextlib.contextmanager
def only_planner(study_path: Path, wait: float = 60.0) -> Iterator[None]:
    """Let nobody else change the file from when we read it until we have written it.

    Args:
        study_path: the folder of the file.
        wait: seconds to wait for another planner.

    Raises:
        UserError: another one does not end, or the folder cannot be written.
    """
    with taking_turns(study_path / _LOCK, f"{study_path} is being planned", wait):
        yield


def _group(seeds: Sequence[int]) -> Group:
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        raise ValueError(seeds)
    return tuple(seeds)
