"""One contender of the speed benchmark in one fresh process: `python -m benchmarks._contenders JOB RESULT`.

Every trainer is timed batch by batch from outside, by the same clock: the first batch holds the compile, the
others do not, and the last one ends when the trainer returns, so that saving and closing are in the time too.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import process_memory, write_json


@dataclass(frozen=True)
class Sizes:
    """What every trainer does; the defaults are the paper's setting (Moalla et al. 2024, Table 3)."""

    task: str = "Hopper-v4"
    num_envs: int = 2
    rollout_length: int = 1024
    minibatch_size: int = 64
    epochs: int = 10
    batches: int = 30
    """Batches measured after the first one: 30 × 2,048 = 61,440 steps per seed."""
    pool_steps: int = 122_880
    """Steps of the simulator alone, all environments together, per layout."""

    @property
    def batch_size(self) -> int:
        """Environment steps per batch and seed."""
        return self.num_envs * self.rollout_length


class Clock:
    """When each batch ended, and the memory then."""

    def __init__(self) -> None:
        self.created = time.perf_counter()
        self.ends: list[float] = []
        self.rss: list[float] = []

    def start(self) -> None:
        """The first batch begins."""
        self.started = time.perf_counter()

    def batch_ended(self) -> None:
        """A batch ended."""
        self.ends.append(time.perf_counter())
        self.rss.append(process_memory()["rss"])

    def result(self) -> dict[str, Any]:
        """Everything measured; called as soon as the trainer returns."""
        self.ends[-1] = time.perf_counter()
        return {
            "batch_s": np.diff([self.started, *self.ends]).tolist(),
            "first_batch_done_s": self.ends[0] - self.created,
            "rss_mib": self.rss,
            "peak_mib": process_memory()["peak"],
        }


def train_ours(sizes: Sizes, seeds: int, health: bool) -> dict[str, Any]:
    """Our trainer with records, checkpoints and, but for the control, health on every batch."""
    import escapevelocity
    from escapevelocity.ppo.config import EnvironmentConfig, MonitoringConfig, OptimizerConfig, PPOSpec
    from escapevelocity.runs import Observer

    spec = PPOSpec(
        task=sizes.task,
        seeds=tuple(range(1, seeds + 1)),
        steps=(sizes.batches + 1) * sizes.batch_size,
        environment=EnvironmentConfig(num_envs=sizes.num_envs, rollout_length=sizes.rollout_length),
        optimizer=OptimizerConfig(epochs=sizes.epochs, minibatch_size=sizes.minibatch_size),
        monitoring=MonitoringConfig(health_every=int(health)),
    )
    clock = Clock()

    class Watch(Observer):
        rows = 0

        def on_start(self, info: Any) -> None:
            clock.start()

        def on_row(self, row: Mapping[str, Any]) -> None:
            self.rows += 1
            if self.rows % seeds == 0:
                clock.batch_ended()

    with tempfile.TemporaryDirectory() as folder:
        run = escapevelocity.train(spec, folder, "run", [Watch()])
        result = clock.result()
        if run.status.state != "finished":
            raise RuntimeError(f"the run ended {run.status.state}: {run.status.why}")
        records = run.records()
    for part in ("collect", "update", "health"):
        # Two halves of a population learn side by side, each with its own times: the longer one counts.
        seconds = records[f"time/{part}"].to_numpy().reshape(-1, seeds)
        result[f"{part}_s"] = seconds.max(axis=1).tolist()
    return result


def train_sb3(sizes: Sizes, sbx: bool) -> dict[str, Any]:
    """Stable-Baselines3's or SBX's PPO, by default with separate 64×64 tanh networks."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import DummyVecEnv

    if sbx:
        from sbx import PPO
    torch.set_num_threads(1)  # Its best: more threads only wait for each other with so small networks.
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

    envs = make_vec_env(sizes.task, n_envs=sizes.num_envs, seed=1, vec_env_cls=DummyVecEnv)
    model = PPO(
        "MlpPolicy",
        envs,
        n_steps=sizes.rollout_length,
        batch_size=sizes.minibatch_size,
        n_epochs=sizes.epochs,
        seed=1,
        device="cpu",
    )
    model.learn((sizes.batches + 1) * sizes.batch_size, callback=Watch())
    result = clock.result()
    starts = np.array([clock.started, *clock.ends])
    result["collect_s"] = (np.array(collected) - starts[:-1]).tolist()
    result["update_s"] = (starts[1:] - np.array(collected)).tolist()
    return result


def simulator_alone(sizes: Sizes, num_envs: int) -> dict[str, Any]:
    """EnvPool without any agent: steps/s for each layout of pools and threads, by its send / receive loop.

    An ended environment is reset by the next action that it is sent, which is the fastest way; those rows are
    no transitions and are not counted.
    """
    cores = len(os.sched_getaffinity(0))
    layouts = [
        (pools, threads) for pools in (1, 2) for threads in sorted({1, cores}) if num_envs % pools == 0
    ]
    rates = {}
    for pools, threads in layouts:
        threads_used = min(threads, num_envs // pools)
        each = num_envs // pools
        name = f"{pools} × {each} environments, threads in each: {threads_used}"
        rates[name] = _pool_rate(sizes, pools, each, threads_used)
    return {"steps_per_s": rates, "peak_mib": process_memory()["peak"]}


def _pool_rate(sizes: Sizes, pools: int, each: int, threads: int) -> float:
    import envpool

    ids = np.arange(each, dtype=np.int32)
    made = [
        envpool.make_gymnasium(sizes.task, num_envs=each, num_threads=threads, seed=i) for i in range(pools)
    ]
    low, high = made[0].action_space.low, made[0].action_space.high
    kind = made[0].spec.action_array_spec["action"].dtype
    actions = np.random.default_rng(1).uniform(low, high, (1024, each, len(low))).astype(kind)
    done = made[0]._state_keys.index("done")
    for pool in made:
        pool._reset(ids)
        pool._recv()
        pool._send([ids, ids, actions[0]])
    steps, ended = max(2, sizes.pool_steps // (pools * each)), 0
    for measured in (min(200, steps), steps):  # The first pass only warms up.
        began, ended = time.perf_counter(), 0
        for t in range(measured):
            for pool in made:
                ended += int(np.count_nonzero(pool._recv()[done]))
                pool._send([ids, ids, actions[t % 1024]])
        seconds = time.perf_counter() - began
    for pool in made:
        pool._recv()
        pool.close()
    return (steps * pools * each - ended) / seconds


def main(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run one contender: `{"contender": name, "sizes": {...}, ...}`."""
    sizes = Sizes(**job["sizes"])
    match job["contender"]:
        case "ours":
            return train_ours(sizes, job["seeds"], job["health"])
        case "sb3" | "sbx" as name:
            return train_sb3(sizes, sbx=name == "sbx")
        case "simulator":
            return simulator_alone(sizes, job["num_envs"])
        case name:
            raise ValueError(f"contender = {name!r}: must be ours, sb3, sbx or simulator")


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), main(json.loads(sys.argv[1])))
