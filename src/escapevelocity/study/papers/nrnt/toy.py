"""Figure 5: the two-state example, computed by the lab."""

from typing import TYPE_CHECKING

import numpy as np

from escapevelocity.study.papers.figure import LabFigure

if TYPE_CHECKING:
    from escapevelocity.lab.experiments.experiment import Findings

_ROUNDING = 5e-4
"""The published ratios have three decimals."""


def verdict(findings: "Findings") -> list[str]:
    """Hold the final ratios against the published ones. Rule: confirmed when α = 3 ends with both states above 1.1,
    every state with α < 0 below that, and all six final ratios agree with the paper's to their three decimals.
    """
    from escapevelocity.lab.experiments.toy import PUBLISHED_RATIOS

    steps = {name: np.asarray(column) for name, column in findings.tables[""].items()}
    last = steps["step"] == steps["step"].max()
    finals = {
        float(alpha): (float(x), float(y))
        for alpha, x, y in zip(
            steps["alpha"][last], steps["ratio_x"][last], steps["ratio_y"][last], strict=True
        )
    }
    errors = [
        abs(a - b)
        for alpha, pair in PUBLISHED_RATIOS.items()
        for a, b in zip(finals[alpha], pair, strict=True)
    ]
    agree = max(errors) <= _ROUNDING * (1 + 1e-9)
    over = min(finals[3.0]) > 1.1
    outcome = "confirmed" if agree and over else "not confirmed"
    return [
        f"The six final ratios differ from the published ones by at most {max(errors):.1g}; with α = 3 both states end "
        f"{'' if over else 'not '}above 1.1 = 1 + ε. Judgement: {outcome}."
    ]


FIGURES = (
    LabFigure(
        id="nrnt/figure-5",
        title="The two-state clipping example",
        claim="Two states that share features carry each other's ratio past the clip range (α = 3), or hold each other "
        "back (α < 0): clipping every sample does not bound the policy.",
        experiment="toy",
        kind="Toy",
        small={"num_draws": 500},
        cost="3 s of CPU",
        pictures=("", "sweeps"),
        verdict=verdict,
    ),
)
