"""One training run of the interop benchmark in a fresh process: `python -m benchmarks._interop_run JOB RESULT`."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks._common import write_json


def main(job: Mapping[str, Any]) -> dict[str, Any]:
    """Train Stable-Baselines3's PPO on `{"task", "batches", "health"}`; the first batch is not timed."""
    import torch
    from stable_baselines3 import PPO

    from escapevelocity.interop import HealthCallback

    torch.set_num_threads(1)  # Its best: more threads only wait for each other with so small networks.
    watch = HealthCallback()
    callback = watch if job["health"] else None
    model = PPO("MlpPolicy", job["task"], seed=1, device="cpu")
    model.learn(model.n_steps, callback=callback)
    wall, cpu = time.perf_counter(), time.process_time()
    model.learn(job["batches"] * model.n_steps, callback=callback)
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "health_s": sum(row["time/health"] for row in watch.rows),
        "rows": len(watch.rows),
    }


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), main(json.loads(sys.argv[1])))
