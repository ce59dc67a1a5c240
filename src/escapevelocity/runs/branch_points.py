"""Where a run can be branched: its checkpoints behind the start, found by a step or a share of the run; and where a
branch says that it began.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

from escapevelocity.branch_point import BranchPoint
from escapevelocity.errors import UserError
from escapevelocity.runs.branch import Parent, parent_at, seen_from
from escapevelocity.runs.browse import Run, Saved

SpecT = TypeVar("SpecT")


def branch_points(run: Run) -> list[Saved]:
    """Checkpoints that a branch of `run` may begin at: all but the start, which is shared by any run of its seeds.

    Raises:
        UserError: there are none.
    """
    points = [saved for saved in run.checkpoints() if saved.number > 0]
    if not points:
        raise UserError(
            f"{run.path} has no checkpoint behind its start to branch from: {run.status.segments_done} of its "
            f"{run.status.segments_total} segments are done; `ev resume {quote(str(run.path))}` goes on with an "
            f"unfinished run, a longer one has more"
        )
    return points


def nearest_point(run: Run, step: float, at: str, longer: bool = True) -> Saved:
    """The branch point nearest to an environment step; of two equally near ones the earlier.

    Args:
        run: the parent.
        step: environment steps.
        at: what the user wrote, for the message.
        longer: whether the branch may be longer than the parent; if not, it cannot begin at the parent's end unless
            that was asked for.

    Raises:
        UserError: the step lies nearer to the start than to the first checkpoint, or there is none.
    """
    points = branch_points(run)
    total = run.status.steps_total
    if not longer and step < total:
        points = [point for point in points if point.step < total] or points
    if 2 * step < points[0].step:
        raise UserError(f"at = {at!r}: before the first checkpoint; {points_of(run, points)}")
    return min(points, key=lambda point: abs(point.step - step))


def last_point_before(run: Run, step: int, at: str) -> Saved:
    """The last branch point before an environment step; arguments and errors as in `nearest_point`."""
    points = branch_points(run)
    before = [point for point in points if point.step < step]
    if not before:
        raise UserError(
            f"at = {at!r}: step {step:,} lies before the first checkpoint; {points_of(run, points)}, or train anew "
            f"with `ev train --config {run.path}`"
        )
    return before[-1]


def points_of(run: Run, points: Sequence[Saved]) -> str:
    """Say where a run can be branched, in words."""
    total = max(1, run.status.steps_total)
    inside = " ".join(f"{point.step / total:.3g}" for point in points if point.step < total)
    end = "1, its end, with more --steps" if points[-1].step >= total else ""
    return f"{run.path} can be branched at {' and at '.join(part for part in (inside, end) if part)}"


def parent_of(point: BranchPoint) -> Parent:
    """What the engine records of a branch's parent."""
    return Parent(point.path, point.parent, point.checkpoint, point.step, point.sha256)


def require_unchanged(parent: Run, point: BranchPoint) -> None:
    """Refuse a parent whose checkpoint is no longer the one that the branch was made for.

    Raises:
        UserError: it was computed again, or is damaged.
    """
    if parent_at(parent, point.checkpoint).sha256 != point.sha256:
        raise UserError(
            f"{parent.path}: checkpoint {point.checkpoint} is no longer the one that was branched from"
        )


def placed(spec: SpecT, run_dir: Path) -> SpecT:
    """The same settings, with the parent's folder as seen from the branch's: both can then be moved together.

    Args:
        spec: settings with a field `branch`, a `BranchPoint` or None.
        run_dir: the branch's folder.
    """
    given: Any = spec
    if given.branch is None or not os.path.isabs(given.branch.path):
        return spec
    point = dataclasses.replace(given.branch, path=seen_from(run_dir, given.branch.path))
    return dataclasses.replace(given, branch=point)
