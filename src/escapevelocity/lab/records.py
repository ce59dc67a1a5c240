"""A trace of the lab in the form of a run's records, so that the diagnosis can read it."""

from typing import Any

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.health.context import Context, UpdateRule
from escapevelocity.health.gravity import Number
from escapevelocity.lab.bounds import PREDICTED_METHODS
from escapevelocity.lab.methods import require_positive
from escapevelocity.lab.problems import Bandit
from escapevelocity.lab.simulate import Trajectory

_RULES: dict[str, UpdateRule] = {
    "SPG": "softmax",
    "EPG": "escort",
    "NPG": "natural",
    "NeuRD": "natural",
    "mirror descent": "natural",
    "GNPG": "normalised",
    "inverse-probability": "inverse-probability",
}


def trace_records(problem: Bandit, trajectory: Trajectory, rate: Number) -> dict[str, np.ndarray]:
    """Turn the trajectory of a bandit into records: one row per (start, recorded step).

    Args:
        problem: a bandit without contexts, K actions.
        trajectory: what `trajectory` recorded on it: R steps, B starts.
        rate: η > 0 of the method, one update of which counts as one step.

    Returns:
        Columns (B·R,): `seed` (the start's index), `env_steps` (updates), `perf/return_mean` (πᵀr), `policy/entropy`
        (nats), `norm/actor_gradient` (‖π∘A‖₂, softmax's gradient whatever the method), `gravity/best_prob` (π(a*)),
        `gravity/gap` (Δ: what the likeliest action pays less than the best, or the second best where that is the
        likeliest), `gravity/rate` (η).

    Raises:
        UserError: on another problem, or a rate that is not positive.
    """
    if not isinstance(problem, Bandit) or len(problem.policy_shape) != 1:
        raise UserError(f"problem = {type(problem).__name__}: must be a Bandit without contexts")
    rate = require_positive(rate, "rate")
    rewards = np.asarray(problem.rewards)
    probs = np.moveaxis(np.asarray(trajectory.probs), -1, 0)  # (B, R, K)
    starts, steps = probs.shape[:2]
    # Relative to the likeliest action, as in `evaluation.exact`: deep in a corner r − πᵀr is lost to rounding.
    likeliest = rewards[probs.argmax(axis=-1)]
    relative = rewards - likeliest[..., None]
    gradient = probs * (relative - (probs * relative).sum(-1, keepdims=True))
    behind = rewards.max() - likeliest
    logs = np.log(probs, out=np.zeros_like(probs), where=probs > 0)
    columns = {
        "seed": np.broadcast_to(np.arange(starts)[:, None], (starts, steps)),
        "env_steps": np.broadcast_to(np.asarray(trajectory.steps), (starts, steps)),
        "perf/return_mean": probs @ rewards,
        "policy/entropy": -(probs * logs).sum(-1),
        "norm/actor_gradient": np.linalg.norm(gradient, axis=-1),
        "gravity/best_prob": probs[..., rewards == rewards.max()].sum(-1),
        "gravity/gap": np.where(behind > 0, behind, float(problem.gap)),
        "gravity/rate": np.full((starts, steps), float(rate)),
    }
    return {name: values.reshape(-1) for name, values in columns.items()}


def trace_context(method: str, p: Any = None) -> Context:
    """Say what the diagnosis should know about a trace.

    Args:
        method: one of `PREDICTED_METHODS`; its escape law is used.
        p: exponent of the escort transform; for "EPG" only.

    Raises:
        UserError: on another method, or p without "EPG".
    """
    if method not in _RULES:
        raise UserError(f"method = {method!r}: must be one of {', '.join(PREDICTED_METHODS)}")
    return Context(continuous=False, tabular=True, update_rule=_RULES[method], escort_p=p)
