"""Stable-Baselines3's PPO as a job of our engine: their trainer and environments, our settings file and callback."""

from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO

from escapevelocity.interop.sb3 import HealthCallback
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import Emit
from escapevelocity.study.kinds import register_kind
from studies.job_kind import JobKind
from studies.sb3_replication.environments import make_environments, measure_observations
from studies.sb3_replication.settings import model_arguments, require_expressible

Parameters = dict[str, np.ndarray]
"""The policy's parameters by their names in PyTorch."""

_REFUSED = "to satisfy the constraint"
"""PyTorch's words for a distribution whose parameters are not finite."""


class SB3Job:
    """Trains one seed with Stable-Baselines3's PPO, unchanged, and records what `HealthCallback` measures.

    A run is one segment: Stable-Baselines3 keeps its environments for all of a training, and so does this. A run
    that is stopped begins again. One whose parameters stop being finite ends there, and its last row says why.
    """

    name = "ppo-sb3"

    def segments(self, spec: PPOSpec) -> int:
        """One.

        Raises:
            UserError: a setting that Stable-Baselines3 does not have.
        """
        require_expressible(spec)
        return 1

    def step(self, spec: PPOSpec, k: int) -> int:
        """Environment steps done when `k` segments are done."""
        return k * spec.num_batches * spec.batch_steps

    def initial_state(self, spec: PPOSpec) -> Parameters:
        """The parameters of a new policy."""
        model = make_model(spec)
        model.get_env().close()  # pyright: ignore[reportOptionalMemberAccess]
        return parameters_of(model)

    def segment(self, spec: PPOSpec, state: Parameters, k: int, emit: Emit) -> Parameters:
        """Train; `state` is what the seed gives, and is made again from it."""
        model = make_model(spec)
        watch = HealthCallback(lambda row: _pass_on(row, emit), every=1)
        try:
            model.learn(self.step(spec, 1), callback=watch)
        except ValueError as error:
            if _REFUSED not in str(error):
                raise
            if not (watch.rows and watch.rows[-1]["fault"]):  # It happened within an update.
                emit(_last_row(model, len(watch.rows), str(error)))
        finally:
            model.get_env().close()  # pyright: ignore[reportOptionalMemberAccess]
        return parameters_of(model)


def make_model(spec: PPOSpec) -> PPO:
    """Build the model of a seed and its environments, on one thread."""
    torch.set_num_threads(1)  # A core for each run; the networks are small.
    env = spec.environment
    environments = make_environments(spec.task, env.num_envs)
    model = PPO("MlpPolicy", environments, **model_arguments(spec))
    if env.normalization == "fixed":
        measure_observations(environments, env.normalization_steps, spec.seeds[0])
    return model


def parameters_of(model: PPO) -> Parameters:
    """Copy the policy's parameters."""
    return {name: value.detach().numpy().copy() for name, value in model.policy.state_dict().items()}


def _pass_on(row: dict[str, Any], emit: Emit) -> str | None:
    """Record a row; why to stop, if so."""
    if not emit(row):
        return "the run was stopped"
    return row["fault"] or None


def _last_row(model: PPO, batch: int, message: str) -> dict[str, Any]:
    """The row of an update that could not be ended."""
    fault = f"the policy gives numbers that are not finite: {message.splitlines()[0]}"
    return {"seed": model.seed, "batch": batch, "env_steps": model.num_timesteps, "fault": fault}


register_kind(JobKind(SB3Job()))
