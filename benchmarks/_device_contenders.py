"""One contender of the MinAtar benchmark in one fresh process: `python -m benchmarks._device_contenders JOB RESULT`."""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks._common import write_json
from benchmarks._contenders import Clock
from escapevelocity import default_spec, train
from escapevelocity.envs import describe_task
from escapevelocity.envs.device import make_device_environment
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.device_rollout import advance, fresh_environment
from escapevelocity.runs import Observer

GAME = "gymnax:Breakout-MinAtar"


def settings(seeds: int, batches: int) -> PPOSpec:
    """The preset `minatar`, cut to `batches` batches; health keeps the interval of a run of full length."""
    full = default_spec(GAME, "minatar", range(1, seeds + 1))
    monitoring = replace(full.monitoring, health_every=full.health_interval)
    return replace(full, steps=batches * full.batch_steps, monitoring=monitoring)


def train_ours(spec: PPOSpec) -> dict[str, Any]:
    """Our trainer with records, checkpoints and health."""
    clock, members = Clock(), len(spec.seeds)

    class Watch(Observer):
        rows = 0

        def on_start(self, info: Any) -> None:
            clock.start()

        def on_row(self, row: Mapping[str, Any]) -> None:
            self.rows += 1
            if self.rows % members == 0:
                clock.batch_ended()

    with tempfile.TemporaryDirectory() as folder:
        run = train(spec, folder, "run", [Watch()])
        result = clock.result()
        if run.status.state != "finished":
            raise RuntimeError(f"the run ended {run.status.state}: {run.status.why}")
        records = run.records()
    for part in ("collect", "update", "health"):
        seconds = records[f"time/{part}"].to_numpy().reshape(-1, members)
        result[f"{part}_s"] = seconds.max(axis=1).tolist()
    return result


@lru_cache
def programs() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Reset and step of one game, compiled once for all of them."""
    environment = make_device_environment(describe_task(GAME))

    def reset(key: jax.Array, draw: np.uint32) -> Any:
        return environment.reset(jax.random.fold_in(key, draw))

    def step(key: jax.Array, draw: np.uint32, state: Any, action: Any) -> Any:
        return environment.step(jax.random.fold_in(key, draw), state, action)

    return jax.jit(reset), jax.jit(step)


class Game(gymnasium.Env):
    """The game as one usually hands it to a trainer: a Gymnasium environment whose step is one jitted call."""

    def __init__(self) -> None:
        task = describe_task(GAME)
        self.observation_space = spaces.Box(0.0, 1.0, task.observation_shape, np.float32)
        self.action_space = spaces.Discrete(task.actions.size)
        self._reset, self._step = programs()
        self._key, self._draw = jax.random.key(0), 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._key = jax.random.key(seed)
        self._state, observation = self._reset(self._key, self._next_draw())
        return np.array(observation), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._state, row = self._step(self._key, self._next_draw(), self._state, np.int32(action))
        row = jax.device_get(row)
        ended = bool(row.terminated), bool(row.truncated)
        return np.array(row.next_observation), float(row.reward), *ended, {}

    def _next_draw(self) -> np.uint32:
        self._draw += 1
        return np.uint32(self._draw)


class Games(VecEnv):
    """All games of a batch as Stable-Baselines3's `VecEnv`, stepped and reset by one jitted call: its fastest way."""

    def __init__(self, num_envs: int, seed: int = 0):
        task = describe_task(GAME)
        super().__init__(
            num_envs,
            spaces.Box(0.0, 1.0, task.observation_shape, np.float32),
            spaces.Discrete(task.actions.size),
        )
        environment = make_device_environment(task)
        keys = jax.random.split(jax.random.key(seed), num_envs)
        self._begin = jax.jit(lambda: jax.vmap(partial(fresh_environment, environment))(keys))
        self._advance = jax.jit(jax.vmap(partial(advance, environment)))

    def reset(self) -> np.ndarray:
        self._states = self._begin()
        return np.array(self._states.observation)

    def step_async(self, actions: np.ndarray) -> None:
        self._states, self._row = self._advance(self._states, actions.astype(np.int32))

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, row = jax.device_get((self._states.observation, self._row))
        ended = row.terminated | row.truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(ended):
            infos[i]["terminal_observation"] = row.next_observation[i]
            infos[i]["TimeLimit.truncated"] = bool(row.truncated[i])
        return np.array(observations), row.reward, ended, infos

    def close(self) -> None:
        """Nothing to free."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("these environments have no attributes to set")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("these environments have no methods to call")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class Features(BaseFeaturesExtractor):
    """MinAtar's network (Young and Tian 2019): 16 kernels of 3×3 with stride 1, then one hidden layer."""

    def __init__(self, space: spaces.Box, units: int):
        super().__init__(space, units)
        height, width, channels = space.shape
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 16, 3),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(16 * (height - 2) * (width - 2), units),
            torch.nn.ReLU(),
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations.permute(0, 3, 1, 2))


def train_sb3(spec: PPOSpec, vectorised: bool) -> dict[str, Any]:
    """Stable-Baselines3's PPO with the settings of `spec`, actor and critic separate."""
    torch.set_num_threads(1)
    jax.config.update(
        "jax_cpu_enable_async_dispatch", False
    )  # As in our trainer: small calls come back sooner.
    env, optimizer, objective = spec.environment, spec.optimizer, spec.objective
    clock = Clock()
    collected: list[float] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            if model.num_timesteps:
                clock.batch_ended()
            else:
                clock.start()

        def _on_rollout_end(self) -> None:
            collected.append(time.perf_counter())

        def _on_training_end(self) -> None:
            clock.batch_ended()

    games = Games(env.num_envs, seed=1) if vectorised else DummyVecEnv([Game] * env.num_envs)
    games.seed(1)
    (units,) = spec.network.hidden
    model = PPO(
        "MlpPolicy",
        games,
        learning_rate=optimizer.learning_rate,
        n_steps=env.rollout_length,
        batch_size=optimizer.minibatch_size,
        n_epochs=optimizer.epochs,
        gamma=objective.gamma,
        gae_lambda=objective.gae_lambda,
        clip_range=objective.clip_epsilon,
        ent_coef=objective.entropy_coef,
        vf_coef=objective.value_coef,
        max_grad_norm=optimizer.max_grad_norm,
        policy_kwargs={
            "features_extractor_class": Features,
            "features_extractor_kwargs": {"units": units},
            "share_features_extractor": False,
            "net_arch": [],
        },
        seed=1,
        device="cpu",
    )
    model.learn(spec.num_batches * spec.batch_size, callback=Watch())
    result = clock.result()
    starts = np.array([clock.started, *clock.ends])
    result["collect_s"] = (np.array(collected) - starts[:-1]).tolist()
    result["update_s"] = (starts[1:] - np.array(collected)).tolist()
    return result


def main(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run one contender: `{"contender": "ours", "seeds": n, "batches": n}` or sb3 with `"vectorised"`."""
    spec = settings(job.get("seeds", 1), job["batches"])
    return train_ours(spec) if job["contender"] == "ours" else train_sb3(spec, job["vectorised"])


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), main(json.loads(sys.argv[1])))
