"""How large the studies of adaptive sampling are: images, steps and seeds of each scale."""

from collections.abc import Mapping
from typing import Any

from escapevelocity.study.grid import Study
from escapevelocity.study.papers.figure import Scale

TASKS = ("digits", "omniglot", "mnist", "fashion-mnist")
"""What `--task` accepts: images for the small CNN. All but the digits lie where EV_DATA_DIR says."""

_STEPS: Mapping[Scale, Mapping[str, int]] = {
    "small": {"digits": 900, "omniglot": 600, "mnist": 600, "fashion-mnist": 600},
    "paper": {"digits": 900, "omniglot": 1500, "mnist": 900, "fashion-mnist": 900},
}
"""The papers give no number of steps for these images; at scale paper two cores need about an hour for a grid."""
_SEEDS: Mapping[Scale, tuple[int, ...]] = {"small": (1, 2, 3), "paper": (1, 2, 3, 4, 5)}


def asr_study(name: str, task: str, scale: Scale, axes: Mapping[str, tuple[Any, ...]]) -> Study:
    """A grid over `axes` on the images `task`, at a scale.

    Args:
        name: of the figure, which names the study with task and scale.
        task: one of `TASKS`.
        scale: fixes steps and seeds.
        axes: see `Study`.
    """
    base = {"data": task, "steps": _STEPS[scale][task]}
    return Study(f"asr-{name}-{task}-{scale}", base, axes, seeds=_SEEDS[scale], job="asr")
