"""Returns of a rollout, as a Monitor of Stable-Baselines3 reports them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, is_vecenv_wrapped

from escapevelocity import health

UNREPORTED = (
    "episodes end and no environment reports a return, so perf/return_mean and its like stay NaN: wrap each "
    "environment in stable_baselines3's Monitor, or all in VecMonitor"
)


def is_monitored(env: Any) -> bool:
    """Say whether a Monitor watches; an episode may then end without a return, as a life of an Atari game does."""
    try:
        return is_vecenv_wrapped(env, VecMonitor) or any(env.env_is_wrapped(Monitor))
    except (AttributeError, NotImplementedError):  # Environments that hold none of Gymnasium's.
        return False


def returns_of(episodes: Sequence[Mapping[str, float]], unreported: bool) -> health.Measured:
    """Give the columns perf/ of the episodes that ended in a rollout; NaN with the reason when there were none."""
    returns = [float(episode["r"]) for episode in episodes]
    lengths = [float(episode["l"]) for episode in episodes]
    values = {
        "return_mean": float(np.mean(returns)) if returns else np.nan,
        "return_max": max(returns, default=np.nan),
        "length_mean": float(np.mean(lengths)) if lengths else np.nan,
        "episodes": np.nan if unreported and not episodes else len(episodes),
    }
    reason = "no environment has a Monitor" if unreported else "no episode ended in this rollout"
    return health.explain(values, reason)
