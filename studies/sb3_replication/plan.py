"""The runs of the study: two grids, each by Stable-Baselines3's PPO and by ours, from the same settings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from escapevelocity.study.grid import Study

SB3, OURS = "ppo-sb3", "ppo"
JOBS = (SB3, OURS)
TRAINERS = {"sb3": SB3, "ours": OURS}
SEEDS = (1, 2, 3, 4, 5)
QUICK_STEPS, QUICK_SEEDS = 8 * 2048, (1, 2)

BASE: dict[str, Any] = {
    "task": "Hopper-v4",
    "preset": "mujoco",
    # What Stable-Baselines3 does and the paper does not; the README says what it means.
    "time_limit": "truncation",
    "append_time": False,
    "head": "normal_independent",
    "clip_gradients": "jointly",
}
"""Over the preset `mujoco`: 2 × 1,024 steps, minibatches of 64, PyTorch's start, Adam with ε = 1e-8, fixed
normalisation of observations."""

AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    "short": {
        "learning_rate": (0.01, 0.003),
        "activation": ("relu", "tanh"),
        "epochs": (20, 10),
        "steps": (150_000,),
    },
    "long": {
        # With tanh our own runs of this length gain rank and lose no return: there is nothing to replicate.
        "activation": ("relu",),
        "epochs": (20,),
        "steps": (5_000_000,),
    },
}
"""By stage. The rates of the short one are those at which a prototype of ours fell ill within 50,000 steps; it is
three times as long, as was decided before any of its runs had come to an end (they were planned with 400,000)."""
STAGES = tuple(AXES)


def study(stage: str, job: str, quick: bool = False) -> Study:
    """The runs of one stage by one trainer.

    Args:
        stage: "short" or "long".
        job: `SB3` or `OURS`.
        quick: two seeds of a few batches, at the settings' extremes, to see that everything works.
    """
    full = Study(
        name=f"sb3-replication-{stage}-{job}",
        base=BASE,
        axes=AXES[stage],
        seeds=SEEDS,
        job=job,
        population=1 if job == SB3 else None,
        imports=("studies.sb3_replication.job",) if job == SB3 else (),
    )
    if not quick:
        return full
    few = {axis: values[:1] for axis, values in full.axes.items()} | {"steps": (QUICK_STEPS,)}
    return replace(full, name=f"{full.name}-quick", axes=few, seeds=QUICK_SEEDS)


SHORT_SB3, SHORT_OURS = (study("short", job) for job in JOBS)
LONG_SB3, LONG_OURS = (study("long", job) for job in JOBS)
QUICK_SHORT_SB3, QUICK_SHORT_OURS = (study("short", job, quick=True) for job in JOBS)
QUICK_LONG_SB3, QUICK_LONG_OURS = (study("long", job, quick=True) for job in JOBS)


def names(stages: Sequence[str], trainers: Sequence[str], quick: bool = False) -> list[str]:
    """Where `ev study run` finds the studies above.

    Args:
        stages: of `STAGES`.
        trainers: of `TRAINERS`.
        quick: the quick ones.
    """
    prefix = f"{__name__}:" + ("QUICK_" if quick else "")
    return [f"{prefix}{stage.upper()}_{trainer.upper()}" for stage in stages for trainer in trainers]
