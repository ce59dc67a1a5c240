"""From a run on disk to what the study needs of it: its truth, and when each candidate threshold would have warned."""

from dataclasses import dataclass

import numpy as np

from escapevelocity.report.diagnosis import diagnose_run, run_context
from escapevelocity.runs import Run
from studies.early_warning.grid import first_warnings
from studies.early_warning.plan import Setting
from studies.early_warning.readout import readable_shares
from studies.early_warning.truth import Truth, readable_last, representation_onset, return_onset

LOOSE_LEFT = 2 / 3
"""Another bound on what can be read, to see how much hangs on it."""


@dataclass(frozen=True)
class Case:
    """One run: a member of a program.

    Attributes:
        setting: of the plan.
        seed: the member.
        steps: environment steps of the whole run.
        truth: what became of it.
        loose_onset: where the representation is lost already if it counts as lost below `LOOSE_LEFT`.
        return_last: mean return of the last tenth of the batches.
        firsts: (paces, signs, levels), see `grid.first_warnings`.
        verdict: of the library's diagnosis, on the whole run.
    """

    setting: Setting
    seed: int
    steps: int
    truth: Truth
    loose_onset: int | None
    return_last: float
    firsts: np.ndarray
    verdict: str


def cases_of(setting: Setting, run: Run) -> list[Case]:
    """Read one program's runs."""
    rows = run.records().to_pylist()
    context = run_context(run.spec, run.status.steps_total)
    snapshots, shares = readable_shares(run)
    verdicts = {member.seed: member.verdict for member in diagnose_run(run).members}
    cases = []
    for member, seed in enumerate(run.spec["seeds"]):
        own = sorted((row for row in rows if row["seed"] == seed), key=lambda row: row["env_steps"])
        steps = np.array([row["env_steps"] for row in own])
        returns = np.array([row["perf/return_mean"] for row in own], np.float64)
        cases.append(
            Case(
                setting=setting,
                seed=seed,
                steps=run.status.steps_total,
                truth=Truth(
                    return_onset(steps, returns),
                    representation_onset(snapshots, shares[member]),
                    next((row["env_steps"] for row in own if row["fault"]), None),
                    readable_last(shares[member]),
                ),
                loose_onset=representation_onset(snapshots, shares[member], LOOSE_LEFT),
                return_last=float(np.nanmean(returns[-max(3, len(returns) // 10) :])),
                firsts=first_warnings(own, context),
                verdict=str(verdicts[seed]),
            )
        )
    return cases
