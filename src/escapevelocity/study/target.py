"""What `ev study watch` and `ev study history` are given: a study's file, or the folder that holds runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

from escapevelocity.errors import require
from escapevelocity.study.grid import Study, read_study
from escapevelocity.study.plan import default_store
from escapevelocity.study.store import Store, open_store


def open_target(
    target: str, store: str | None = None, imports: Sequence[str] = ()
) -> tuple[Study | None, Store]:
    """Open a study and its store, or a store alone.

    Args:
        target: a TOML file or module:attribute, or a folder or an fsspec URL.
        store: the store of a study; by default runs/NAME.
        imports: modules that a study imports beside those that it names.

    Returns:
        The study, None where `target` is a store; and the store.

    Raises:
        UserError: it is neither; or a store is given twice.
    """
    if os.path.isdir(target) or "://" in target:
        require(store is None, "store", store, f"left out: {target} is a store already")
        return None, open_store(target)
    study = read_study(target)
    study = dataclasses.replace(study, imports=(*study.imports, *imports))
    return study, open_store(store or default_store(study))
