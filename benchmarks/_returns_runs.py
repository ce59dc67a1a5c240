"""One training run of the returns benchmark in one process: `python -m benchmarks._returns_runs JOB RESULT`.

Both contenders train in the same environments with the same settings; see "Returns" in the README.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import write_json

NUM_ENVS, ROLLOUT_LENGTH = 2, 1024
BATCH = NUM_ENVS * ROLLOUT_LENGTH


class Progress:
    """Prints a line at every 5 % of a run."""

    def __init__(self, name: str, steps: int):
        self._name, self._steps, self._printed = name, steps, 0

    def show(self, done: int, return_mean: float) -> None:
        """`done` steps are done, and the last batch's episodes returned `return_mean` on average."""
        if done * 20 // self._steps > self._printed:
            self._printed = done * 20 // self._steps
            print(f"{self._name:<32} {done:>9,} steps   return {return_mean:9.1f}", flush=True)


def our_spec(job: Mapping[str, Any]) -> Any:
    """Our settings: Stable-Baselines3's head, initialisation, Adam and joint clip; the rest is the preset `mujoco`."""
    from escapevelocity.ppo.config import EnvironmentConfig, NetworkConfig, OptimizerConfig, PPOSpec

    return PPOSpec(
        task=job["task"],
        seeds=(job["seed"],),
        steps=job["steps"],
        environment=EnvironmentConfig(
            backend="envpool",
            num_envs=NUM_ENVS,
            rollout_length=ROLLOUT_LENGTH,
            time_limit="truncation",
            append_time=False,
        ),
        network=NetworkConfig(initialization="orthogonal", head="normal_independent"),
        optimizer=OptimizerConfig(adam_eps=1e-5, clip_gradients="jointly"),
    )


def sb3_model(envs: Any, seed: int) -> Any:
    """Stable-Baselines3's PPO; written out, although most is its default, because it is what "the same" means."""
    import torch
    from stable_baselines3 import PPO

    return PPO(
        "MlpPolicy",
        envs,
        learning_rate=3e-4,
        n_steps=ROLLOUT_LENGTH,
        batch_size=64,
        n_epochs=10,
        gamma=0.99,
        gae_lambda=0.95,
        clip_range=0.2,
        clip_range_vf=None,
        normalize_advantage=True,
        ent_coef=0.0,
        vf_coef=0.5,
        max_grad_norm=0.5,
        policy_kwargs={
            "net_arch": {"pi": [64, 64], "vf": [64, 64]},
            "activation_fn": torch.nn.Tanh,
            "ortho_init": True,
            "log_std_init": 0.0,
            "optimizer_kwargs": {"eps": 1e-5},
        },
        seed=seed,
        device="cpu",
    )


def train_ours(job: Mapping[str, Any]) -> list[dict[str, float]]:
    """Our trainer, resumed where it was left; one mapping per batch."""
    import escapevelocity
    from escapevelocity.runs import Observer

    spec = our_spec(job)
    progress = Progress(_name(job), spec.num_batches * BATCH)

    class Watch(Observer):
        def on_row(self, row: Mapping[str, Any]) -> None:
            progress.show(row["env_steps"], row["perf/return_mean"])

    folder = Path(job["folder"])
    begun = (folder / "spec.json").exists()
    run = escapevelocity.open_run(folder) if begun else None
    if run is None:
        run = escapevelocity.train(spec, folder.parent, folder.name, [Watch()])
    elif run.status.state != "finished":
        run = escapevelocity.resume_training(folder, [Watch()])
    if run.status.state != "finished":
        raise RuntimeError(f"the run ended {run.status.state}: {run.status.why}")
    columns = run.records().select(["env_steps", "perf/return_mean", "perf/episodes"]).to_pydict()
    return [
        {"env_steps": steps, "return_sum": mean * episodes if episodes else 0.0, "episodes": episodes}
        for steps, mean, episodes in zip(*columns.values(), strict=True)
    ]


def train_sb3(job: Mapping[str, Any]) -> list[dict[str, float]]:
    """Stable-Baselines3's PPO in the same environments; one mapping per batch."""
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    from benchmarks._sb3_environments import SharedEnvironments

    torch.set_num_threads(1)
    envs = SharedEnvironments(job["task"], job["seed"], NUM_ENVS)
    total = job["steps"] // BATCH * BATCH
    progress = Progress(_name(job), total)
    batches: list[dict[str, float]] = []

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            returns: Sequence[float] = envs.finished_returns()
            batches.append(
                {"env_steps": self.num_timesteps, "return_sum": sum(returns), "episodes": len(returns)}
            )
            progress.show(self.num_timesteps, float(np.mean(returns)) if returns else float("nan"))

    sb3_model(envs, job["seed"]).learn(total, callback=Watch())
    return batches


def _name(job: Mapping[str, Any]) -> str:
    return f"{job['task']} {job['contender']} seed {job['seed']}"


def main(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a job: contender (ours or sb3), task, seed, steps, core, and the folder for our run."""
    # Before JAX and PyTorch are imported, so that their thread pools are born on this core.
    os.sched_setaffinity(0, {job["core"]})
    train = {"ours": train_ours, "sb3": train_sb3}[job["contender"]]
    batches = train(job)
    return {**{key: job[key] for key in ("contender", "task", "seed", "steps")}, "batches": batches}


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), main(json.loads(sys.argv[1])))
