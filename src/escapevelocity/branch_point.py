"""Where a branch leaves its parent, as a setting of the branch: its identity and its segments follow from it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class BranchPoint:
    """The end of the past that a branch shares with its parent.

    A branch counts batches and segments on from there, and its segments end where the parent's would, however long it
    is: batches · k // segments batches are done after segment k, and the last lasts half to one and a half times as
    long as the others. Two branches of one parent thus meet the same environments at the same steps, and one that
    changes nothing repeats the parent's own future.
    """

    parent: str
    """Hash of the parent's settings, its own branch point included."""
    checkpoint: int
    """Segments of the shared past."""
    step: int
    """Environment steps of the shared past, per seed."""
    sha256: str
    """Checksum of the parent's checkpoint."""
    batches: int
    """Batches of the run that planned the segments: the parent, or its first ancestor where it is a branch itself."""
    segments: int
    """Segments that this run was planned to have."""
    path: str = field(default="", metadata={"observer": True})
    """The parent's folder, seen from the branch's."""

    def boundary(self, segment: int, num_batches: int) -> int:
        """Batches done when `segment` segments are done, in a run of `num_batches`."""
        if segment >= self.num_segments(num_batches):
            return num_batches
        return self.batches * segment // self.segments

    def num_segments(self, num_batches: int) -> int:
        """Segments after which `num_batches` are done, those of the shared past included."""
        nearest = (2 * num_batches * self.segments + self.batches) // (2 * self.batches)
        return max(self.checkpoint + 1, nearest)


def pace_of(point: BranchPoint | None, number: int, num_batches: int, segments: int) -> tuple[int, int]:
    """Batches and segments by which a branch of a run goes on.

    They are the run's own, or its first ancestor's where it is a branch itself; unless the branch begins at the end of
    a branch that ends between two boundaries of that ancestor: then again the run's own.

    Args:
        point: where the run itself left its parent; None where it did not.
        number: the run's checkpoint that the branch begins at.
        num_batches: batches of the run.
        segments: segments of the run.
    """
    if point is None or point.boundary(number, num_batches) != point.batches * number // point.segments:
        return num_batches, segments
    return point.batches, point.segments
