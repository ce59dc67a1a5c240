"""A saved Stable-Baselines3 model looked at after the fact: ranks, dead neurons, diversity, return."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv

from escapevelocity.errors import UserError, require
from escapevelocity.health.signs import Sign
from escapevelocity.interop._checkup_rollout import Row, environment, measure, rollout
from escapevelocity.interop._checkup_signs import Finding, finding, static_signs, undecided
from escapevelocity.interop._sb3_zip import ACTIVATIONS, SavedModel, load_trusted, read_model, rebuild

__all__ = ["Checkup", "Finding", "checkup"]

_RESAMPLES = 10_000
_UNSEEN = (
    "since when: a model has no history; `ev diagnose` reads the logs of its training",
    "trust region, ratios, capacity and gradients: they belong to training, and a model at rest has none",
    "whether the return has fallen, or could be better",
)


@dataclass(frozen=True)
class Checkup:
    """What a model does on a rollout of its own.

    Attributes:
        path: the model's file.
        env: id of the environment.
        steps: states of the rollout.
        actions: how they were chosen: "most likely" or "sampled".
        seed: of the environment and of sampled actions.
        training_steps: of the model, by the file's own word; None where it does not say.
        width: units of the actor's last hidden layer.
        row: columns of docs/metrics.md on the states of the rollout; NaN where undefined, with the reasons in
            `health/undefined`. Empty when the parameters are not finite.
        fresh: the same columns for a network of the same shape as it is initialised, on the same states.
        returns: of the episodes that ended.
        interval: 95 % percentile bootstrap interval of their mean; NaN with fewer than two.
        findings: signs that it shows.
        not_measured: what a model at rest cannot show.
        trusted: what was believed of the file, and what stayed unopened.
    """

    path: Path
    env: str
    steps: int
    actions: str
    seed: int
    training_steps: int | None
    width: int
    row: Row
    fresh: Row
    returns: tuple[float, ...]
    interval: tuple[float, float]
    findings: tuple[Finding, ...]
    not_measured: tuple[str, ...]
    trusted: tuple[str, ...]

    @property
    def return_mean(self) -> float:
        """Mean of the returns; NaN without episodes."""
        return float(np.mean(self.returns)) if self.returns else math.nan

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values, null for NaN."""
        findings = [one._asdict() for one in self.findings]
        values = {**vars(self), "path": str(self.path), "return_mean": self.return_mean, "findings": findings}
        return _without_nan(values)


def checkup(
    path: str | os.PathLike[str],
    env: str,
    *,
    steps: int = 4096,
    seed: int = 0,
    stochastic: bool = False,
    activation: str | None = None,
    vec_normalize: str | os.PathLike[str] | None = None,
    raw_observations: bool = False,
    trust: bool = False,
) -> Checkup:
    """Load a PPO or A2C of Stable-Baselines3, let it act, and measure its networks on the states it meets.

    The file is read as data: weights as tensors, the policy built anew from their shapes and from the settings that
    are plain text. Nothing that is pickled is opened, unless `trust` is set.

    Args:
        path: the zip that `model.save` wrote.
        env: id of the environment it was trained on.
        steps: states to measure on, at least 2.
        seed: of the environment, of sampled actions and of the fresh network.
        stochastic: sample the actions, as in training, rather than take the most likely ones.
        activation: of the hidden layers, where the file names none that is known.
        vec_normalize: the statistics that `VecNormalize.save` wrote, a pickle; needs `trust`.
        raw_observations: go on without them for a model that was trained inside a VecNormalize.
        trust: load with `PPO.load`, which runs whatever code the file holds.

    Raises:
        UserError: numbers out of range, a file that cannot be read safely, an unknown environment, or one that the
            model does not fit.
    """
    path = Path(path)
    require(steps >= 2, "steps", steps, "at least 2")
    require(0 <= seed < 2**31, "seed", seed, "from 0 to 2147483647")
    require(activation in (None, *ACTIVATIONS), "activation", activation, f"one of {', '.join(ACTIVATIONS)}")
    pickled = vec_normalize is None or trust
    require(pickled, "vec-normalize", vec_normalize, "given with --trust, since the file is a pickle")
    model = read_model(path)
    if model.saw_normalised and vec_normalize is None and not raw_observations:
        raise UserError(
            f"{path} was trained inside a VecNormalize, without whose statistics it sees other numbers than in "
            "training: add --vec-normalize FILE --trust, or --raw-observations if only rewards were normalised"
        )
    with (
        torch.random.fork_rng(devices=[]),
        environment(env, seed, model.observation_shape, vec_normalize) as venv,
    ):
        torch.manual_seed(seed)
        if trust:
            policy, fresh = load_trusted(model)
        else:
            policy, fresh = rebuild(model, venv.observation_space, venv.action_space, activation)
        examined = _examine(policy, fresh, venv, steps, stochastic)
    return Checkup(
        path=path,
        env=env,
        actions="sampled" if stochastic else "most likely",
        seed=seed,
        training_steps=model.training_steps,
        interval=_interval(examined["returns"], seed),
        trusted=_trusted(model, trust),
        **examined,
    )


def _examine(
    policy: ActorCriticPolicy, fresh: ActorCriticPolicy, venv: VecEnv, steps: int, stochastic: bool
) -> dict[str, Any]:
    """Let the policy act and measure it: the fields of a `Checkup` that come of it."""
    broken = [name for name, x in policy.named_parameters() if not bool(torch.isfinite(x).all())]
    if broken:
        spoilt = finding(Sign.NON_FINITE, f"parameters that are not finite: {', '.join(broken)}")
        return {
            "steps": 0, "width": policy.mlp_extractor.latent_dim_pi, "row": {}, "fresh": {}, "returns": (),
            "findings": (spoilt,), "not_measured": _UNSEEN,
        }  # fmt: skip
    states, returns = rollout(policy, venv, steps, stochastic)
    (row, width), (start, _), actions = measure(policy, states), measure(fresh, states), venv.action_space
    dimensions = int(np.prod(actions.shape)) if isinstance(actions, spaces.Box) else None
    found = static_signs(row, start, width, dimensions)
    return {
        "steps": steps,
        "width": width,
        "row": row,
        "fresh": start,
        "returns": tuple(returns),
        "findings": tuple(found),
        "not_measured": (*undecided(row, start, width, dimensions, found), *_UNSEEN),
    }


def _trusted(model: SavedModel, trust: bool) -> tuple[str, ...]:
    if trust:
        return ("everything: the file was loaded as PPO.load does, which runs what it holds",)
    return (
        "the weights, as tensors, and the settings that are plain text; the policy was built anew from them",
        f"not opened, since they are pickled: {', '.join(model.pickled) or 'nothing'}",
    )


def _interval(returns: tuple[float, ...], seed: int) -> tuple[float, float]:
    if len(returns) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    means = rng.choice(np.array(returns), (_RESAMPLES, len(returns))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
