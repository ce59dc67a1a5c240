"""One contender of the Atari benchmark in one fresh process: `python -m benchmarks._atari_run JOB RESULT`."""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import write_json
from benchmarks._contenders import Clock, Sizes

FRAME_SKIP, STICKY_ACTIONS = 3, 0.25  # Moalla et al. 2024, Table 2 and code.


class CpuClock(Clock):
    """Also the process's CPU time, which other work on a shared machine disturbs less than wall time."""

    def start(self) -> None:
        """The first batch begins."""
        super().start()
        self.cpu = [time.process_time()]

    def batch_ended(self) -> None:
        """A batch ended."""
        super().batch_ended()
        self.cpu.append(time.process_time())

    def result(self) -> dict[str, Any]:
        """Everything measured; called as soon as the trainer returns."""
        self.cpu[-1] = time.process_time()
        return super().result() | {"cpu_s": np.diff(self.cpu).tolist()}


def train_ours(sizes: Sizes, health: bool) -> dict[str, Any]:
    """Our trainer by the preset `atari`, with records and checkpoints, and health on every batch or on none."""
    import dataclasses

    import jax

    import escapevelocity
    from escapevelocity.ppo.config import MonitoringConfig
    from escapevelocity.ppo.presets import preset_spec
    from escapevelocity.runs import Observer

    spec = preset_spec("atari", sizes.task, discrete=True)
    spec = dataclasses.replace(
        spec,
        steps=(sizes.batches + 1) * sizes.batch_size * FRAME_SKIP,
        environment=dataclasses.replace(
            spec.environment, num_envs=sizes.num_envs, rollout_length=sizes.rollout_length
        ),
        optimizer=dataclasses.replace(
            spec.optimizer, epochs=sizes.epochs, minibatch_size=sizes.minibatch_size
        ),
        monitoring=MonitoringConfig(health_every=int(health)),
    )
    clock = CpuClock()

    class Watch(Observer):
        def on_start(self, info: Any) -> None:
            clock.start()

        def on_row(self, row: Mapping[str, Any]) -> None:
            clock.batch_ended()

    with tempfile.TemporaryDirectory() as folder:
        run = escapevelocity.train(spec, folder, "run", [Watch()])
        result = clock.result()
        if run.status.state != "finished":
            raise RuntimeError(f"the run ended {run.status.state}: {run.status.why}")
        records = run.records()
    for part in ("collect", "update", "health"):
        result[f"{part}_s"] = records[f"time/{part}"].to_numpy().tolist()
    device = jax.devices()[0]
    return result | {"device": f"{device.platform}: {device.device_kind}"}


def train_sb3(sizes: Sizes, shared: bool, threads: int) -> dict[str, Any]:
    """Stable-Baselines3's PPO with separate trunks for actor and critic, or with its own shared one."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback

    from benchmarks._sb3_atari import AtariGames

    torch.set_num_threads(threads)
    clock = CpuClock()
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

    model = PPO(
        "CnnPolicy",
        AtariGames(sizes.task, sizes.num_envs, FRAME_SKIP, STICKY_ACTIONS, seed=1),
        learning_rate=2.5e-4,
        n_steps=sizes.rollout_length,
        batch_size=sizes.minibatch_size,
        n_epochs=sizes.epochs,
        clip_range=0.1,
        ent_coef=0.01,
        policy_kwargs={"share_features_extractor": shared},
        seed=1,
        device="cpu",
    )
    model.learn((sizes.batches + 1) * sizes.batch_size, callback=Watch())
    result = clock.result()
    starts = np.array([clock.started, *clock.ends])
    result["collect_s"] = (np.array(collected) - starts[:-1]).tolist()
    result["update_s"] = (starts[1:] - np.array(collected)).tolist()
    return result


def main(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run one contender: `{"contender": name, "sizes": {...}, ...}`."""
    sizes = Sizes(**job["sizes"])
    match job["contender"]:
        case "ours":
            return train_ours(sizes, job["health"])
        case "sb3":
            return train_sb3(sizes, job["shared"], job["threads"])
        case name:
            raise ValueError(f"contender = {name!r}: must be ours or sb3")


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), main(json.loads(sys.argv[1])))
