"""The plan of a study: its runs, what is done of each, and what the rest will cost."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from escapevelocity.errors import UserError
from escapevelocity.imports import import_modules
from escapevelocity.runs import spec_from_json
from escapevelocity.study.cost import Prices, leaves_of
from escapevelocity.study.grid import Cell, Label, Study, cells, naming
from escapevelocity.study.groups import Group, choose_groups, only_planner, read_groups, write_groups
from escapevelocity.study.kinds import Kind, kind
from escapevelocity.study.standing import Standing, State, groups_in, recorded_runs, standing, unedited
from escapevelocity.study.store import Store, open_for_planning
from escapevelocity.study.wanted import write_wanted


@dataclasses.dataclass(frozen=True)
class Order:
    """One run to be done: all that a worker on another machine needs to know."""

    name: str
    """Its folder in the store."""
    job: str
    """Its kind; see `kinds.kind`."""
    spec: str
    """Canonical JSON of its spec."""
    labels: Mapping[str, Label]
    """What it is called on each axis of the study."""
    seeds: tuple[int, ...]
    """Its population."""
    steps: int
    """Environment steps of the whole run, per seed."""
    imports: tuple[str, ...] = ()
    """Modules to import first."""

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {"seeds": list(self.seeds), "imports": list(self.imports)}
        return {**fields, **lists, "labels": dict(self.labels)}

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "Order":
        """Read what `to_json` gave.

        Raises:
            UserError: an unknown or missing key, or a value of another type.
        """
        return spec_from_json(Order, document)


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a plan."""

    order: Order
    """What is to be run."""
    state: State | Literal["kept"]
    """How it stands in the store; "kept": it is not finished there, but a kept history has it."""
    steps_done: int
    """Environment steps of its committed segments, per seed."""
    wall_time: float
    """Seconds that it has run so far."""
    seconds_left: float | None
    """Expected seconds of running until it is finished; None: nothing comparable was recorded."""
    why: str
    """One line: why it was interrupted, failed, or cannot be read."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be trained."""
        return self.state in ("finished", "kept")


def plan(
    study: Study,
    store: Store | str | os.PathLike[str],
    record: bool = True,
    kept: Mapping[str, Group] | None = None,
) -> list[Planned]:
    """Plan a study: make each run's spec, decide which seeds run together, and look at what is done.

    The groups of seeds are kept in STORE/_study/plan.json, which is written when there are new ones, and what is
    wanted in STORE/_study/wanted (`wanted`); nothing else is.

    Args:
        study: the grid.
        store: where the runs are or will be; a folder that is missing is made.
        record: keep both. To look on, leave it off: the next plan that is kept decides as this one does.
        kept: runs that need not be trained, by name, with their seeds, though the store may lack them
            (`ended.ended_runs`).

    Returns:
        The runs, cell by cell.

    Raises:
        UserError: a mistake in the study, naming the cell; or a store that cannot be read or written.
    """
    import_modules(study.imports)
    with naming(study.source):
        the_kind = kind(study.job)
        grid = _by_key(the_kind, cells(study))
    if not isinstance(store, Store):
        store = open_for_planning(store)
    store.refresh()
    kept = kept or {}
    made = _all_made(the_kind, study, grid, store, record, kept)
    standings = [unedited(store.run_path(one.order.name), one.spec, one.order.spec) for one in made]
    prices = Prices(recorded_runs(store.path))
    planned = [_planned(one.order, at, prices) for one, at in zip(made, standings, strict=True)]
    return [
        dataclasses.replace(one, state="kept", steps_done=one.order.steps, seconds_left=0.0, why="")
        if one.order.name in kept and one.state != "finished"
        else one
        for one in planned
    ]


def default_store(study: Study) -> str:
    """Where a study's runs are when nothing else is said."""
    return f"runs/{study.name}"


def _by_key(the_kind: Kind, grid: list[Cell]) -> dict[str, Cell]:
    """The cells by what they compute, whatever the seeds: the name that each would have with seed 0 alone."""
    found: dict[str, Cell] = {}
    for cell in grid:
        key = the_kind.folder(_spec(the_kind, cell, (0,)))
        if key in found:
            raise UserError(
                f"study: the cells ({found[key]}) and ({cell}) are the same run; exclude one, or set them apart"
            )
        found[key] = cell
    return found


class _Made(NamedTuple):
    """A run, and the spec that its order is written from."""

    order: Order
    spec: Any


def _all_made(
    the_kind: Kind,
    study: Study,
    grid: Mapping[str, Cell],
    store: Store,
    record: bool,
    kept: Mapping[str, Group],
) -> list[_Made]:
    """Each cell's runs, by the groups of seeds of earlier plans and of this one, which are written down."""
    recorded = read_groups(store.study_path)
    made, groups = _divide(the_kind, study, grid, store, recorded, kept)
    if not record:
        return made
    if groups == recorded:
        with contextlib.suppress(UserError):  # A store that we may only read is planned all the same.
            if write_wanted(store.study_path, study.name, [one.order for one in made], kept):
                store.push_study()
        return made
    with only_planner(store.study_path):
        # Another planner may have been here since: what it has planned counts as what was planned before.
        store.refresh()
        found = read_groups(store.study_path)
        if found != recorded:
            made, groups = _divide(the_kind, study, grid, store, found, kept)
        is_new = write_wanted(store.study_path, study.name, [one.order for one in made], kept)
        if groups != found:
            write_groups(store.study_path, groups)
        if is_new or groups != found:
            store.push_study()
    return made


def _divide(
    the_kind: Kind,
    study: Study,
    grid: Mapping[str, Cell],
    store: Store,
    recorded: Mapping[str, list[Group]],
    kept: Mapping[str, Group],
) -> tuple[list[_Made], dict[str, list[Group]]]:
    """Each cell's runs, and the recorded groups with those of the new ones among them.

    What is trained or kept counts though plan.json does not name it: the file may have been removed because it was
    damaged, or another planner of a store behind a URL, where no lock holds, has written over ours.
    """
    groups = dict(recorded)
    every: list[_Made] = []
    wish = set(study.seeds)
    elsewhere = sorted({group for group in (*kept.values(), *groups_in(store.path)) if wish & {*group}})
    for key, cell in grid.items():
        made: dict[Group, _Made] = {}

        def of(seeds: Group, cell: Cell = cell, made: dict[Group, _Made] = made) -> _Made:
            if seeds not in made:
                made[seeds] = _make(the_kind, study, cell, seeds)
            return made[seeds]

        def started(seeds: Group, of: Callable[[Group], _Made] = of) -> bool:
            name = of(seeds).order.name
            return name in kept or standing(store.run_path(name)).state != "missing"

        before = list(recorded.get(key, []))
        before += [seeds for seeds in elsewhere if seeds not in before and started(seeds)]
        chosen = choose_groups(before, study.seeds, study.population, started)
        groups[key] = [*before, *(group for group in chosen if group not in before)]
        every += [of(group) for group in chosen]
    return every, groups


def _make(the_kind: Kind, study: Study, cell: Cell, seeds: Group) -> _Made:
    spec = _spec(the_kind, cell, seeds)
    name, text = the_kind.folder(spec), the_kind.spec_text(spec)
    order = Order(name, study.job, text, cell.labels, seeds, the_kind.steps(spec), study.imports)
    return _Made(order, spec)


def _spec(the_kind: Kind, cell: Cell, seeds: Group) -> Any:
    try:
        return the_kind.spec(cell.settings, seeds)
    except UserError as error:
        raise UserError(f"{error} (cell: {cell})" if cell.labels else str(error)) from error


def _planned(order: Order, at: Standing, prices: Prices) -> Planned:
    """Add what is left of a run: at its own pace, or before it has one at that of the runs most like it."""
    if at.state in ("finished", "damaged"):
        left = 0.0 if at.state == "finished" else None
    else:
        pace = at.seconds_per_step
        if pace is None:
            spec = json.loads(order.spec)["spec"]
            pace = prices.seconds_per_step(leaves_of(order.job, spec, len(order.seeds)))
        left = None if pace is None else pace * max(0, order.steps - at.steps_done)
    return Planned(order, at.state, at.steps_done, at.wall_time, left, at.why)
