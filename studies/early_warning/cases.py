"""From a run on disk to what the study needs of it: its truth, and when each candidate threshold would have warned."""

from dataclasses import dataclass

import numpy as np

from escapevelocity.report.diagnosis import run_context
from escapevelocity.runs import Run
from studies.early_warning.grid import first_warnings
from studies.early_warning.plan import Setting
from studies.early_warning.readout import readable_shares
from studies.early_warning.truth import Truth, representation_onset, return_onset

STRICT_LEFT = 0.5
"""Another bound on what can be read, to see how much hangs on it."""


@dataclass(frozen=True)
class Case:
    """One run: a member of a program.

    Attributes:
        setting: of the plan.
        seed: the member.
        steps: environment steps of the whole run.
        truth: what became of it.
        strict: what became of it if the representation counts as lost only below `STRICT_LEFT`.
        readable_last: share of what could be read at the start that can be read at the end.
        return_last: mean return of the last tenth of the batches.
        firsts: (paces, signs, levels), see `grid.first_warnings`.
    """

    setting: Setting
    seed: int
    steps: int
    truth: Truth
    strict: Truth
    readable_last: float
    return_last: float
    firsts: np.ndarray


def cases_of(setting: Setting, run: Run) -> list[Case]:
    """Read one program's runs."""
    rows = run.records().to_pylist()
    context = run_context(run.spec, run.status.steps_total)
    snapshots, shares = readable_shares(run)
    cases = []
    for member, seed in enumerate(run.spec["seeds"]):
        own = sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["env_steps"])
        steps = np.array([row["env_steps"] for row in own])
        returns = np.array([row["perf/return_mean"] for row in own], np.float64)
        fault = next((row["env_steps"] for row in own if row["fault"]), None)
        lost_return = return_onset(steps, returns)
        cases.append(
            Case(
                setting=setting,
                seed=seed,
                steps=run.status.steps_total,
                truth=Truth(lost_return, representation_onset(snapshots, shares[member]), fault),
                strict=Truth(
                    lost_return, representation_onset(snapshots, shares[member], STRICT_LEFT), fault
                ),
                readable_last=float(shares[member, -1] / shares[member, 0]),
                return_last=float(np.nanmean(returns[-max(3, len(returns) // 10) :])),
                firsts=first_warnings(own, context),
            )
        )
    return cases
