"""What a batch of features, ratios or action distributions says about an agent's health.

Pure functions of arrays (..., N, D): N states, D units, any leading axes (members of a population). Ranks and
trust are computed in NumPy float64 on the host; neurons and diversity follow the Array API and work on NumPy,
JAX and torch arrays alike. A value that is undefined is NaN with a reason (`Measured`), never missing.

Beside them the laws of gravity wells: how many updates a policy needs to leave the corner of a wrong action; and the
wells of curves, measured: depth, onset, duration, area.
What a whole run's records say: `diagnose` afterwards, `Watch` while it goes on, by the same rules and thresholds.
"""

from escapevelocity.health._metric import HealthyRange, Metric
from escapevelocity.health.context import Context
from escapevelocity.health.diagnosis import Diagnosis, RunDiagnosis, combine, diagnose
from escapevelocity.health.diversity import FeatureChange, feature_change, policy_variance, value_std
from escapevelocity.health.gravity import (
    ESCAPE_ODDS,
    ESCAPE_PROB,
    accumulated_gap_needed,
    escape_time_slope,
    escort_escape_time,
    inverse_probability_escape_time,
    natural_escape_time,
    normalised_escape_time,
    softmax_escape_time,
)
from escapevelocity.health.measured import Measured, explain, member, merge, undefined_text
from escapevelocity.health.metrics import METRICS, metric, outside_healthy_range
from escapevelocity.health.neurons import ACTIVATIONS, dead_neurons, preactivation_norm, state_norms
from escapevelocity.health.rank import (
    effective_rank,
    feature_rank_lyle,
    feature_rank_pca,
    feature_ranks,
    numerical_rank,
    singular_values,
    srank,
    stable_rank,
)
from escapevelocity.health.signs import CIRCUMSTANCES, SIGNS, Sign
from escapevelocity.health.thresholds import Threshold, Thresholds
from escapevelocity.health.trust import trust_region
from escapevelocity.health.verdict import CAUSES, MULTIPLICATIVE_WELL, SAMPLER_CAUSES, Verdict
from escapevelocity.health.watch import Onset, Watch
from escapevelocity.health.wells import curve_noise, measure_well, noise_depth

__all__ = [
    "ACTIVATIONS",
    "CAUSES",
    "CIRCUMSTANCES",
    "ESCAPE_ODDS",
    "ESCAPE_PROB",
    "METRICS",
    "MULTIPLICATIVE_WELL",
    "SAMPLER_CAUSES",
    "SIGNS",
    "Context",
    "Diagnosis",
    "FeatureChange",
    "HealthyRange",
    "Measured",
    "Metric",
    "Onset",
    "RunDiagnosis",
    "Sign",
    "Threshold",
    "Thresholds",
    "Verdict",
    "Watch",
    "accumulated_gap_needed",
    "combine",
    "curve_noise",
    "dead_neurons",
    "diagnose",
    "effective_rank",
    "escape_time_slope",
    "escort_escape_time",
    "explain",
    "feature_change",
    "feature_rank_lyle",
    "feature_rank_pca",
    "feature_ranks",
    "inverse_probability_escape_time",
    "measure_well",
    "member",
    "merge",
    "metric",
    "natural_escape_time",
    "noise_depth",
    "normalised_escape_time",
    "numerical_rank",
    "outside_healthy_range",
    "policy_variance",
    "preactivation_norm",
    "singular_values",
    "softmax_escape_time",
    "srank",
    "stable_rank",
    "state_norms",
    "trust_region",
    "undefined_text",
    "value_std",
]
