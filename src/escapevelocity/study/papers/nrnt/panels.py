"""The measures that the paper's figures show: title, unit, column, and whether it is read before or after the update.

Ranks after the update in Figures 1, 3 and 6 and before it in Figure 4; norm and dead neurons before it, but after it in
Figure 6; entropy before; variance before in Figure 2 and after in Figure 3 (Moalla et al. 2024, published code).
"""

from escapevelocity.report._panels import Panel

RANK_BEFORE = "health/actor/feature_rank_pca"
DEAD = "health/actor/dead_neurons"
NORM = "health/actor/preactivation_norm"
BELOW = "trust/ratio_below_mean"
ABOVE = "trust/ratio_above_mean"

PANELS = {
    "return": Panel("Return", "episode return", ("perf/return_mean",)),
    "actor rank": Panel(
        "Actor feature rank", "rank (PCA)", ("health/actor/feature_rank_pca_after",), of_width=True
    ),
    "critic rank": Panel(
        "Critic feature rank", "rank (PCA)", ("health/critic/feature_rank_pca_after",), of_width=True
    ),
    "norm": Panel("Actor pre-activation norm", "mean L2 norm", (NORM,), scale="log"),
    "norm after": Panel("Actor pre-activation norm", "mean L2 norm", (NORM + "_after",), scale="log"),
    "actor capacity": Panel("Actor capacity loss", "KL, nats", ("capacity/actor",), scale="log"),
    "critic capacity": Panel("Critic capacity loss", "squared error", ("capacity/critic",), scale="log"),
    "entropy": Panel("Policy entropy", "nats", ("policy/entropy",)),
    "variance": Panel("Policy variance", "across states", ("policy/variance",), scale="log"),
    "variance after": Panel("Policy variance", "across states", ("policy/variance_after",), scale="log"),
    "dead": Panel("Actor dead neurons", "units", (DEAD,), of_width=True),
    "dead after": Panel("Actor dead neurons", "units", (DEAD + "_after",), of_width=True),
    "low ratios": Panel("Mean ratio below 1 − ε", "mean ratio", (BELOW,)),
    "excess": Panel("Excess ratio", "above / below", ("trust/excess_ratio",), scale="log"),
    "objective": Panel("Objective, last minibatch", "clipped objective", ("loss/objective_last",)),
}
"""Panels by a short name."""
