"""What each study wants: its runs as it was planned last, kept in STORE/_study/wanted/STUDY.json.

Who looks at a store without the study's file, such as the dashboard, learns from it what is still to come.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from escapevelocity.runs.atomic import make_folder, write_json
from escapevelocity.study._flat import flat_settings, frozen
from escapevelocity.study.index import Indexed

if TYPE_CHECKING:
    from escapevelocity.study.plan import Order

WANTED = "wanted"
_VERSION = 1


def write_wanted(study_path: Path, study: str, orders: Sequence[Order], kept: Collection[str] = ()) -> bool:
    """Keep what a study wants, in place of what it wanted before.

    Args:
        study_path: the store's folder of what studies add.
        study: its name.
        orders: all its runs.
        kept: names of those that need not be trained.

    Returns:
        Whether that is anything new.
    """
    path = study_path / WANTED / f"{study}.json"
    runs = [
        {
            "name": order.name,
            "seeds": list(order.seeds),
            "steps": order.steps,
            "settings": flat_settings(json.loads(order.spec)),
        }
        for order in orders
        if order.name not in kept
    ]
    document = {"schema_version": _VERSION, "runs": runs}
    try:
        if json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(document)):
            return False
    except (OSError, ValueError):  # Missing or damaged: written anew.
        pass
    make_folder(path.parent)
    write_json(path, document)
    return True


def wanted_files(study_path: Path) -> list[Path]:
    """What there is to read, sorted. Only plain files: a pipe would be waited for."""
    return sorted(path for path in (study_path / WANTED).glob("*.json") if path.is_file())


def read_wanted(path: Path) -> Iterator[Indexed]:
    """Give one study's runs as they are before they begin: in the state "missing".

    Args:
        path: one of `wanted_files`.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: it is gone, damaged or of another version.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    if document["schema_version"] != _VERSION:
        raise ValueError(f"schema_version = {document['schema_version']!r}")
    for run in document["runs"]:
        settings = {name: frozen(value) for name, value in run["settings"].items()}
        yield Indexed(
            run["name"],
            "missing",
            steps_total=run["steps"],
            seeds=tuple(run["seeds"]),
            settings=settings,
        )
