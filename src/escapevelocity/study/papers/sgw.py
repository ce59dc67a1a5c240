"""Escaping the gravitational pull of softmax (Mei et al., NeurIPS 2020): theory.md's figures 1–8, from the lab."""

from escapevelocity.study.papers import sgw_verdicts as verdicts
from escapevelocity.study.papers.figure import LabFigure

_P_STUDY = {
    "powers": (1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 32.0),
    "limit_powers": (1024.0,),
    "best_probs": (1e-2, 1e-4),
    "rates": (0.1, 1.0, 10.0, 100.0),
    "bandits": 100,
    "steps": 1000,
    "sampled_rates": (0.4, 1.6),
    "runs": 300,
    "horizons": (200, 2000),
}
_CLASSIFY = {
    "optimisers": ("SGD", "Adam"),
    "scaled_powers": (),
    "epochs": 15,
    "selection_seeds": 2,
    "report_seeds": 5,
}

FIGURES = (
    LabFigure(
        id="sgw/figure-1",
        title="paths of SPG and EPG on the simplex, with the reward gap",
        claim="Softmax policy gradient can be drawn first towards a corner of the simplex whose action is not the "
        "best; from such corners it needs more updates to come near the best action than the escort transform does.",
        experiment="trajectories",
        kind="Trajectories",
        small={},
        cost="5 s of CPU, as at scale paper",
        pictures=("", "surface"),
        verdict=verdicts.paths,
    ),
    LabFigure(
        id="sgw/figure-2",
        title="sub-optimality against time from good and bad starts",
        claim="In the end softmax's sub-optimality falls as 1/t whatever the start, but a wrong corner costs it a "
        "plateau that grows as 1/π₁; the escort leaves the same corners in fewer updates.",
        experiment="trajectories",
        kind="Trajectories",
        small={},
        cost="5 s of CPU, as at scale paper",
        pictures=("suboptimality",),
        verdict=verdicts.plateaus,
    ),
    LabFigure(
        id="sgw/figure-3",
        title="escape time against the start's probability of the best action",
        claim="Softmax needs at least C/(Δ·π₁) updates to leave a wrong corner, with C = 1/(2η). With the escort the "
        "wait grows as π₁^−(1 − 2/p) for p > 2, as ln(1/π₁) for p = 2, and is bounded for p < 2 (laws of the "
        "gradient flow).",
        experiment="escape",
        kind="Escape",
        small={"best_probs": (1e-2, 1e-3, 1e-4, 1e-5, 1e-6), "max_steps": 300_000},
        cost="10 s of CPU",
        verdict=verdicts.escapes,
    ),
    LabFigure(
        id="sgw/figure-4",
        title="NŁ coefficient along the trajectories",
        claim="The gradient's norm is at least C·(π* − π)ᵀr, with C = π(a*) for softmax and (p/‖θ‖_p)·π(a*)^(1 − 1/p) "
        "for the escort, whose C vanishes more slowly the deeper a wrong corner.",
        experiment="trajectories",
        kind="Trajectories",
        small={},
        cost="5 s of CPU, as at scale paper",
        pictures=("lojasiewicz",),
        verdict=verdicts.coefficients,
    ),
    LabFigure(
        id="sgw/figure-5",
        title="four rooms: value against iterations, with the value map",
        claim="From a policy that walks to the nearest sub-goal the escort closes nine tenths of the gap to the "
        "optimum's value in fewer iterations than softmax policy gradient, each at its own best rate.",
        experiment="rooms",
        kind="FourRooms",
        small={"rates": tuple(10.0**k for k in range(1, 6)), "iterations": 1000, "snapshots": (10, 100)},
        cost="22 s of CPU",
        pictures=("", "maps", "cells"),
        verdict=verdicts.rooms,
    ),
    LabFigure(
        id="sgw/figure-6",
        title="softmax damping: KL and gradient norm of SCE and ECE",
        claim="Softmax cross-entropy falls as 1/t near a one-hot target; escort cross-entropy falls as "
        "t^−p/(p − 2) for p > 2 and exponentially for p = 2.",
        experiment="damping",
        kind="Damping",
        small={},
        cost="4 s of CPU, as at scale paper",
        verdict=verdicts.damping,
    ),
    LabFigure(
        id="sgw/figure-7",
        title="image classification, each method at its own best rate",
        claim="On image classification, with the exponent that ends best, the escort's policy gradient gets a higher "
        "reward than softmax's (EPG against SPG), and its cross-entropy a lower loss (ECE against SCE).",
        experiment="classify",
        kind="Classify",
        small=_CLASSIFY,
        cost="2 minutes of CPU",
        verdict=verdicts.classification,
    ),
    LabFigure(
        id="sgw/figure-8",
        title="which escort exponent p when",
        claim="The exponent is a trade-off: a smaller p leaves wells sooner but bears only smaller learning rates, "
        "from the uniform policy and from anywhere; p → ∞ escapes when softmax does.",
        experiment="p-study",
        kind="PStudy",
        small=_P_STUDY,
        cost="23 s of CPU",
        verdict=verdicts.exponents,
    ),
)
