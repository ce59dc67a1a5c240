"""Logs as other trainers write them: the same tags, the same columns, numbers of our choice."""

import csv
import json
from pathlib import Path

import pytest

CLEANRL_ARGUMENTS = {
    "env_id": "CartPole-v1",
    "clip_coef": "0.1",
    "update_epochs": "4",
    "learning_rate": "0.00025",
    "total_timesteps": "1000",
}


def write_csv(path: Path, columns: dict[str, list]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_events(
    folder: Path, scalars: list[tuple[str, float, int]], arguments: dict[str, str] | None = None
) -> Path:
    """Tag, value and step, in this order of writing. CleanRL's arguments as its `ppo.py` writes them."""
    writer = pytest.importorskip("tensorboardX").SummaryWriter(str(folder))
    if arguments is not None:
        rows = "\n".join(f"|{key}|{value}|" for key, value in arguments.items())
        writer.add_text("hyperparameters", f"|param|value|\n|-|-|\n{rows}")
    for tag, value, step in scalars:
        writer.add_scalar(tag, value, step)
    writer.close()
    (file,) = folder.glob("*tfevents*")
    return file


def write_json_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def sb3_rows(steps: int, **columns: list) -> dict[str, list]:
    """Columns of SB3's progress.csv; the first row has no train/ values, as in a real one."""
    found = {"time/total_timesteps": [2048 * (i + 1) for i in range(steps)]}
    for name, values in columns.items():
        room, tag = name.split("_", 1)
        found[f"{room}/{tag}"] = ["", *values[1:]] if room == "train" else values
    return found


def rllib_result(steps: int, learner: dict[str, float], returns: float) -> dict:
    """One line of result.json of the old API stack, as in ray-project/ray #27093."""
    return {
        "episode_reward_max": returns + 10,
        "episode_reward_mean": returns,
        "episode_len_mean": 22.5,
        "episodes_this_iter": 175,
        "hist_stats": {"episode_reward": [1.0, 2.0]},
        "info": {"learner": {"default_policy": {"learner_stats": learner, "model": {}}}},
        "timesteps_total": steps,
        "training_iteration": steps // 4000,
        "done": False,
        "config": {"env": "CartPole-v1", "clip_param": 0.3, "num_sgd_iter": 30, "lr": 5e-5},
    }


def rllib_new_result(steps: int, learner: dict[str, float], returns: float) -> dict:
    """One line of result.json of the new API stack."""
    return {
        "env_runners": {
            "episode_return_mean": returns,
            "episode_return_max": returns + 10,
            "episode_len_mean": 22.5,
            "num_episodes": 175,
        },
        "learners": {"default_policy": learner, "__all_modules__": {"num_env_steps_trained": 1}},
        "num_env_steps_sampled_lifetime": steps,
        "training_iteration": steps // 4000,
    }
