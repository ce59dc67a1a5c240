"""Health, PFO and the escort head for Stable-Baselines3's PPO and A2C."""

from escapevelocity.interop._sb3_escort import EscortPolicy
from escapevelocity.interop._sb3_health import HealthCallback
from escapevelocity.interop._sb3_pfo import PFOPPO

__all__ = ["PFOPPO", "EscortPolicy", "HealthCallback"]
