"""The runs of the study: the same settings and seeds, trained in 40 segments and in one."""

from dataclasses import replace
from typing import Any

from escapevelocity.study.grid import Study
from studies.segment_rule.kind import OneSegmentPPO

FORTY, ONE = "ppo", OneSegmentPPO.name
JOBS = {"40 segments": FORTY, "1 segment": ONE}
SEEDS = tuple(range(1, 11))
EPOCHS = (10, 20)
QUICK_STEPS, QUICK_SEEDS = 60_000, (1, 2, 3)
"""3 segments of 20,000 steps, the least that the rule allows."""

BASE: dict[str, Any] = {
    "task": "Hopper-v4",
    "preset": "mujoco",
    "activation": "relu",
    "learning_rate": 3e-4,
    "steps": 1_000_000,
}


def study(job: str, quick: bool = False) -> Study:
    """The runs under one rule.

    Args:
        job: `FORTY` or `ONE`.
        quick: short runs of three seeds, to see that everything works.
    """
    full = Study(
        name=f"segment-rule-{job}",
        base=BASE,
        axes={"epochs": EPOCHS},
        seeds=SEEDS,
        job=job,
        population=5,
        imports=("studies.segment_rule.kind",) if job == ONE else (),
    )
    if not quick:
        return full
    return replace(
        full,
        name=f"{full.name}-quick",
        base=BASE | {"steps": QUICK_STEPS},
        axes={"epochs": (4,)},
        seeds=QUICK_SEEDS,
    )


IN_FORTY, IN_ONE = (study(job) for job in (FORTY, ONE))
QUICK_IN_FORTY, QUICK_IN_ONE = (study(job, quick=True) for job in (FORTY, ONE))
