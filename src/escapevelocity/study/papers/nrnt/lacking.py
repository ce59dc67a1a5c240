"""What a figure shows but its runs did not measure, in sentences: capacity losses, or a column that older runs lack."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from escapevelocity.study.papers.nrnt.members import Group
from escapevelocity.study.papers.nrnt.panels import PANELS

CAPACITY = "actor capacity"
"""The panel whose column `ev capacity` adds to a run after training."""


def measured_epochs(one: Group, key: str) -> set[int]:
    """The numbers of epochs at which an arm has a value of a panel's column."""
    tracks = one.tracks(PANELS[key].columns[0])
    return {member.epochs for member, track in tracks.items() if np.isfinite(track.values).any()}


def not_measured(groups: Iterable[Group], keys: Sequence[str]) -> list[str]:
    """A sentence for every panel that lacks an arm, or some of its epochs; none where everything was measured.

    Args:
        groups: the arms; those without runs have their own place in the figure and are passed over.
        keys: of `panels.PANELS`.
    """
    there = [one for one in groups if one.runs]
    said = []
    for key in keys:
        lack = {one.label: one.epochs - measured_epochs(one, key) for one in there}
        if any(lack.values()):
            of = _whose({one.label: one.epochs for one in there}, lack)
            capacity = f"Capacity losses{of} are not measured; `ev capacity RUN` adds them to a run."
            said.append(capacity if key == CAPACITY else f"{PANELS[key].title}{of}: not measured.")
    return said


def _whose(there: Mapping[str, set[int]], lack: Mapping[str, set[int]]) -> str:
    """Which arms at which epochs, in words; "" where it is all of them."""
    if lack == there:
        return ""
    if len({frozenset(epochs) for epochs in lack.values()}) == 1:
        return f" at {listed(next(iter(lack.values())))} epochs"
    parts = [
        label if epochs == there[label] else f"{label} at {listed(epochs)} epochs"
        for label, epochs in lack.items()
        if epochs
    ]
    return f" of {' and '.join(parts)}"


def listed(epochs: Iterable[int]) -> str:
    """Numbers of epochs, fewest first."""
    return ", ".join(map(str, sorted(epochs)))
