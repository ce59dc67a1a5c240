"""Remedies against a collapse of the representation: composable dataclasses, each a change of training."""

from escapevelocity.ppo.remedies.adam_beta2 import AdamBeta2
from escapevelocity.ppo.remedies.adam_reset import AdamReset
from escapevelocity.ppo.remedies.kl_early_stop import KLEarlyStop
from escapevelocity.ppo.remedies.kl_penalty import KLPenalty
from escapevelocity.ppo.remedies.pfo import PFO
from escapevelocity.ppo.remedies.registry import (
    REMEDIES,
    apply_remedies,
    load_entry_points,
    register,
    remedy_class,
    remedy_types,
)
from escapevelocity.ppo.remedies.reward_mask import RewardMask
from escapevelocity.ppo.remedies.shared_trunk import SharedTrunk
from escapevelocity.ppo.remedy import Remedy

__all__ = [
    "PFO",
    "REMEDIES",
    "AdamBeta2",
    "AdamReset",
    "KLEarlyStop",
    "KLPenalty",
    "Remedy",
    "RewardMask",
    "SharedTrunk",
    "apply_remedies",
    "load_entry_points",
    "register",
    "remedy_class",
    "remedy_types",
]
