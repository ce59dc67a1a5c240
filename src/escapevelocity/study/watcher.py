"""Looks at a study again and again. Planning is what takes long in a large one, so a plan is used for a while."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence

from escapevelocity.study.groups import Group
from escapevelocity.study.plan import Planned, plan
from escapevelocity.study.store import StoreOutOfReach
from escapevelocity.study.target import open_target
from escapevelocity.study.watch import Overview, look

PLANNED_FOR = 60.0
"""Seconds for which a plan is used, unless a run ends."""
FETCHED_FOR = 10.0
"""Seconds for which what was fetched from a store behind a URL is shown."""


class Watcher:
    """Looks at one study.

    Args:
        target: its file, or its store (`open_target`).
        store: the store of a study's file; by default runs/NAME.
        clock: seconds, monotonic.
        kept: runs that are kept elsewhere and not trained here, which are only counted (`ended.ended_runs`).
        imports: modules that the study imports beside those that it names.

    Raises:
        UserError: a mistake in the study's file, or a store that is missing.
    """

    def __init__(
        self,
        target: str,
        store: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        kept: Mapping[str, Group] | None = None,
        imports: Sequence[str] = (),
    ) -> None:
        self._study, self._store = open_target(target, store, imports)
        self._clock, self._kept = clock, kept or {}
        self._planned: list[Planned] | None = None
        self._planned_at = self._fetched_at = -float("inf")
        self._finished, self._num_kept = -1, 0
        self._out_of_reach = ""

    def look(self) -> Overview:
        """See how it stands now, or how it stood when the store was last in reach.

        Raises:
            StoreOutOfReach: at the first look.
        """
        if self._clock() - self._fetched_at > FETCHED_FOR:
            self._fetch()
        return dataclasses.replace(self._look(), out_of_reach=self._out_of_reach, kept=self._num_kept)

    def _fetch(self) -> None:
        try:
            self._store.refresh()
            self._out_of_reach = ""
        except StoreOutOfReach as error:
            if self._fetched_at == -float("inf"):
                raise
            self._out_of_reach = str(error)
        self._fetched_at = self._clock()

    def _look(self) -> Overview:
        if self._study is None:
            return look(self._store)
        if self._clock() - self._planned_at > PLANNED_FOR:
            self._plan()
        overview = look(self._store, self._planned, self._study.name)
        if overview.counts["finished"] != self._finished:
            if self._finished >= 0:  # A run that ends tells what those like it will take.
                self._plan()
                overview = look(self._store, self._planned, self._study.name)
            self._finished = overview.counts["finished"]
        return overview

    def _plan(self) -> None:
        assert self._study is not None
        with contextlib.nullcontext() if self._planned is None else contextlib.suppress(StoreOutOfReach):
            planned = plan(self._study, self._store, record=False, kept=self._kept)
            self._planned = [one for one in planned if one.state != "kept"]
            self._num_kept = len(planned) - len(self._planned)
        self._planned_at = self._clock()
