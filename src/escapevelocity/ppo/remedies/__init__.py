"""Remedies against a collapse of the representation: composable dataclasses, each a change of training."""

from escapevelocity.ppo.remedies.adam_beta2 import AdamBeta2
from escapevelocity.ppo.remedies.adam_reset import AdamReset
from escapevelocity.ppo.remedies.c_chain import CChain
from escapevelocity.ppo.remedies.continual_backprop import ContinualBackprop
from escapevelocity.ppo.remedies.crelu import CReLU
from escapevelocity.ppo.remedies.delightful import Delightful
from escapevelocity.ppo.remedies.entropy_schedule import EntropySchedule
from escapevelocity.ppo.remedies.escort import Escort
from escapevelocity.ppo.remedies.kl_early_stop import KLEarlyStop
from escapevelocity.ppo.remedies.kl_penalty import KLPenalty
from escapevelocity.ppo.remedies.l2_init import L2Init
from escapevelocity.ppo.remedies.layer_norm import LayerNorm
from escapevelocity.ppo.remedies.pfo import PFO
from escapevelocity.ppo.remedies.redo import ReDo
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
from escapevelocity.ppo.remedies.shrink_perturb import ShrinkPerturb
from escapevelocity.ppo.remedies.spectral_norm import SpectralNorm
from escapevelocity.ppo.remedies.weight_clipping import WeightClipping
from escapevelocity.ppo.remedies.weight_decay import WeightDecay
from escapevelocity.ppo.remedy import Remedy

__all__ = [
    "PFO",
    "REMEDIES",
    "AdamBeta2",
    "AdamReset",
    "CChain",
    "CReLU",
    "ContinualBackprop",
    "Delightful",
    "EntropySchedule",
    "Escort",
    "KLEarlyStop",
    "KLPenalty",
    "L2Init",
    "LayerNorm",
    "ReDo",
    "Remedy",
    "RewardMask",
    "SharedTrunk",
    "ShrinkPerturb",
    "SpectralNorm",
    "WeightClipping",
    "WeightDecay",
    "apply_remedies",
    "load_entry_points",
    "register",
    "remedy_class",
    "remedy_types",
]
