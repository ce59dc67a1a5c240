"""Exact, small theory: the wells, the ways out, and the laws, held against each other in float64.

Arrays have the actions on their first axis and independent starts on their last; see `evaluation`.
"""

from escapevelocity.lab.bounds import PREDICTED_METHODS, predicted_escape_time, softmax_lower_bound
from escapevelocity.lab.damping import DampingCurve, damping_curve, damping_exponent, log_log_slope
from escapevelocity.lab.escort_gradient import epg
from escapevelocity.lab.evaluation import Evaluation, Problem
from escapevelocity.lab.garnet import garnet
from escapevelocity.lab.geometry import Lojasiewicz, lojasiewicz, lojasiewicz_along
from escapevelocity.lab.mdp import TabularMDP, dense_mdp, sparse_mdp
from escapevelocity.lab.methods import (
    Method,
    alternate,
    delightful,
    entropy_regularised,
    gnpg,
    inverse_probability,
    kl_penalised,
    mirror_descent,
    neurd,
    npg,
    spg,
    tsallis,
)
from escapevelocity.lab.problems import Bandit, CrossEntropyProblem, classification, corner_starts
from escapevelocity.lab.rewards import (
    Constant,
    Growing,
    Oscillating,
    Piecewise,
    RewardProcess,
    VaryingBandit,
    accumulated_gap_escape_time,
    integrated_escape_time,
    reward_table,
)
from escapevelocity.lab.rooms import FOUR_ROOMS, Rooms, four_rooms
from escapevelocity.lab.sampled import Commitment, commitment, sampled, wilson_interval
from escapevelocity.lab.simulate import (
    EscapeTimes,
    Trajectory,
    escape_time,
    evaluate,
    log_spaced,
    trajectory,
)
from escapevelocity.lab.toy import PUBLISHED_FEATURE, PUBLISHED_THETA, ToyRun, clipping_toy, random_toys

__all__ = [
    "FOUR_ROOMS",
    "PREDICTED_METHODS",
    "PUBLISHED_FEATURE",
    "PUBLISHED_THETA",
    "Bandit",
    "Commitment",
    "Constant",
    "CrossEntropyProblem",
    "DampingCurve",
    "EscapeTimes",
    "Evaluation",
    "Growing",
    "Lojasiewicz",
    "Method",
    "Oscillating",
    "Piecewise",
    "Problem",
    "RewardProcess",
    "Rooms",
    "TabularMDP",
    "ToyRun",
    "Trajectory",
    "VaryingBandit",
    "accumulated_gap_escape_time",
    "alternate",
    "classification",
    "clipping_toy",
    "commitment",
    "corner_starts",
    "damping_curve",
    "damping_exponent",
    "delightful",
    "dense_mdp",
    "entropy_regularised",
    "epg",
    "escape_time",
    "evaluate",
    "four_rooms",
    "garnet",
    "gnpg",
    "integrated_escape_time",
    "inverse_probability",
    "kl_penalised",
    "log_log_slope",
    "log_spaced",
    "lojasiewicz",
    "lojasiewicz_along",
    "mirror_descent",
    "neurd",
    "npg",
    "predicted_escape_time",
    "random_toys",
    "reward_table",
    "sampled",
    "softmax_lower_bound",
    "sparse_mdp",
    "spg",
    "trajectory",
    "tsallis",
    "wilson_interval",
]
