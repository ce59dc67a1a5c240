"""Stable-Baselines3's PPO as a job of our engine: their trainer and environments, our settings file and callback."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from escapevelocity.interop.sb3 import HealthCallback
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import Emit, RunFailed
from escapevelocity.study.kinds import register_kind
from studies.job_kind import JobKind
from studies.sb3_replication.environments import make_environments, measure_observations
from studies.sb3_replication.settings import model_arguments, require_expressible

State = dict[str, dict[str, np.ndarray]]
"""By names in PyTorch: the policy's parameters under "policy", and Adam's counts and moments of each."""

_REFUSED = "to satisfy the constraint"
"""PyTorch's words for a distribution whose parameters are not finite."""
_MOMENTS = ("exp_avg", "exp_avg_sq")


class SB3Job:
    """Trains one seed with Stable-Baselines3's PPO, unchanged, and records what `HealthCallback` measures.

    Its segments are those of our trainer: each goes on with the parameters and Adam's moments, in fresh environments
    seeded from (seed, segment). A run whose numbers stop being finite fails there, and its last row says why.
    """

    name = "ppo-sb3"

    def segments(self, spec: PPOSpec) -> int:
        """Number of segments.

        Raises:
            UserError: a setting that Stable-Baselines3 does not have.
        """
        require_expressible(spec)
        return spec.num_segments(gym.spec(spec.task).max_episode_steps)

    def step(self, spec: PPOSpec, k: int) -> int:
        """Environment steps done when `k` segments are done."""
        return spec.boundary(k, self.segments(spec)) * spec.batch_steps

    def initial_state(self, spec: PPOSpec) -> State:
        """A new policy."""
        model = make_model(spec)
        _environments(model).close()
        return state_of(model)

    def segment(self, spec: PPOSpec, state: State, k: int, emit: Emit) -> State:
        """Train from boundary `k` to boundary `k + 1`."""
        first = spec.boundary(k, self.segments(spec))
        model = make_model(spec)
        if k > 0:  # The first goes on from how the model was made.
            restore(model, state)
            model.set_random_seed(_boundary_seed(spec.seeds[0], k))
            model.num_timesteps = self.step(spec, k)
        watch = HealthCallback(lambda row: _pass_on({**row, "batch": first + row["batch"]}, emit), every=1)
        try:
            steps = self.step(spec, k + 1) - self.step(spec, k)
            model.learn(steps, callback=watch, reset_num_timesteps=k == 0)
        except ValueError as error:
            if _REFUSED not in str(error):
                raise
            if not (watch.rows and watch.rows[-1]["fault"]):  # It happened within an update.
                emit(_last_row(model, first + len(watch.rows), str(error)))
            raise RunFailed(f"seed {spec.seeds[0]}: {str(error).splitlines()[0]}") from error
        finally:
            _environments(model).close()
        if watch.rows[-1]["fault"]:
            raise RunFailed(f"seed {spec.seeds[0]}: {watch.rows[-1]['fault']}")
        return state_of(model)


def make_model(spec: PPOSpec) -> PPO:
    """Build the model of a seed and its environments, on one thread."""
    torch.set_num_threads(1)  # A core for each run; the networks are small.
    env = spec.environment
    environments = make_environments(spec.task, env.num_envs)
    model = PPO("MlpPolicy", environments, **model_arguments(spec))
    if env.normalization == "fixed":
        measure_observations(environments, env.normalization_steps, spec.seeds[0])
    return model


def state_of(model: PPO) -> State:
    """Copy the parameters, and Adam's count and moments of each: zeros before its first step."""
    moments = model.policy.optimizer.state
    state = {"policy": {name: value.numpy().copy() for name, value in model.policy.state_dict().items()}}
    for name, parameter in model.policy.named_parameters():
        zeros = {"step": torch.zeros(()), **dict.fromkeys(_MOMENTS, torch.zeros_like(parameter))}
        own = moments.get(parameter) or zeros
        state[name] = {part: own[part].detach().numpy().copy() for part in zeros}
    return state


def restore(model: PPO, state: State) -> None:
    """Put back what `state_of` has copied."""
    model.policy.load_state_dict({name: torch.tensor(value) for name, value in state["policy"].items()})
    for name, parameter in model.policy.named_parameters():
        own = {part: torch.tensor(value) for part, value in state[name].items()}
        model.policy.optimizer.state[parameter] = own


def _environments(model: PPO) -> VecEnv:
    environments = model.get_env()
    assert environments is not None
    return environments


def _boundary_seed(seed: int, segment: int) -> int:
    """Of environments, policy and minibatches behind a boundary."""
    return int(np.random.SeedSequence((seed, segment)).generate_state(1)[0])


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
