"""What `ev study watch` and `ev study history` are given: a study's file, or the folder that holds runs."""

from __future__ import annotations

import os

from escapevelocity.errors import require
from escapevelocity.study.grid import Study, read_study
from escapevelocity.study.plan import default_store
from escapevelocity.study.store import Store, open_store


def open_target(target: str, store: str | None = None) -> tuple[Study | None, Store]:
    """Open a study and its store, or a store alone.

    Args:
        target: a TOML file or module:attribute, or a folder or an fsspec URL.
        store: the store of a study; by default runs/NAME.

    Returns:
        The study, None where `target` is a store; and the store.

    Raises:
        UserError: it is neither; or a store is given twice.
    """
    if os.path.isdir(target) or "://" in target:
        require(store is None, "store", store, f"left out: {target} is a store already")
        return None, open_store(target)
    study = read_study(target)
    return study, open_store(store or default_store(study))
