"""Exact, small theory: the wells, the ways out, and the laws, held against each other in float64."""

from escapevelocity.lab.escort_gradient import epg
from escapevelocity.lab.evaluation import Evaluation, Problem
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
from escapevelocity.lab.problems import Bandit, CrossEntropy, classification, corner_starts
from escapevelocity.lab.simulate import EscapeTimes, Trajectory, escape_time, log_spaced, trajectory

__all__ = [
    "Bandit",
    "CrossEntropy",
    "EscapeTimes",
    "Evaluation",
    "Method",
    "Problem",
    "Trajectory",
    "alternate",
    "classification",
    "corner_starts",
    "delightful",
    "entropy_regularised",
    "epg",
    "escape_time",
    "gnpg",
    "inverse_probability",
    "kl_penalised",
    "log_spaced",
    "mirror_descent",
    "neurd",
    "npg",
    "spg",
    "trajectory",
    "tsallis",
]
