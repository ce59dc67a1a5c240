"""How fast a store of many finished runs is read: its listing, gathering its history, one column of all runs.

`python -m benchmarks.store` makes 1,000 finished runs of 1,000 rows × 60 columns each in a temporary folder (a few by
the engine, the others as copies of their files under specs of their own) and prints a table; `--write` puts it into
`benchmarks/README.md`. Every reading is done in a fresh process: once as the process's whole wall time with its
imports, once inside it. The files have just been written, so the disk's cache is warm.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _common as common
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import canonical_json, start
from escapevelocity.study.settings import with_settings

SEEDS = (1, 2, 3, 4, 5)
SEGMENTS, ROWS, COLUMNS = 10, 1000, 60
MADE = 4  # Runs that the engine makes; the others are copies.
TARGET = 3.0  # seconds, issue 6
COLUMN = "perf/return_mean"


class Noise:
    """A job that says it is PPO and emits rows of noise: the floats of real records do not repeat either."""

    name = "ppo"

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def segments(self, spec: PPOSpec) -> int:
        """Give the number of segments."""
        return SEGMENTS

    def step(self, spec: PPOSpec, k: int) -> int:
        """Give the steps after k segments."""
        return spec.num_batches * spec.batch_size * k // SEGMENTS

    def initial_state(self, spec: PPOSpec) -> dict[str, np.ndarray]:
        """Make a state."""
        return {"x": np.zeros(1)}

    def segment(
        self, spec: PPOSpec, state: dict[str, np.ndarray], k: int, emit: Any
    ) -> dict[str, np.ndarray]:
        """Emit a tenth of the rows."""
        rng = np.random.default_rng([self._seed, k])
        names = [COLUMN, *(f"health/actor/measure_{index}" for index in range(COLUMNS - 7))]
        points = ROWS // len(SEEDS) // SEGMENTS
        for point in range(points):
            batch = k * points + point
            for seed in SEEDS:
                row = dict(zip(names, rng.normal(size=len(names)).tolist(), strict=True))
                steps = spec.steps * (batch + 1) // (SEGMENTS * points)
                emit({"seed": seed, "batch": batch, "env_steps": steps, "fault": "", **row})
        return state


def make_store(folder: Path, runs: int) -> None:
    """Make a store of finished runs."""
    specs = [_spec(index) for index in range(runs)]
    for index, spec in enumerate(specs):
        path = folder / f"Hopper-v4-{index:010d}"
        if index < MADE:
            start(Noise(index), spec, path)
            continue
        like = folder / f"Hopper-v4-{index % MADE:010d}"
        shutil.copytree(like, path, copy_function=os.link)  # Files of a finished run are only ever replaced.
        for name, text in (("spec.json", canonical_json(spec, "ppo")), ("status.json", "")):
            (path / name).unlink()
            (path / name).write_text(text or (like / name).read_text(encoding="utf-8"), encoding="utf-8")


def _spec(index: int) -> PPOSpec:
    axes = {"epochs": 1 + index % 20, "learning_rate": 1e-4 * (1 + index // 20)}
    return with_settings(PPOSpec(seeds=SEEDS, steps=1_024_000), axes)


def list_store(store: Path) -> str:
    """List it."""
    from escapevelocity.study.index import list_indexed

    return f"{sum(run.state == 'finished' for run in list_indexed(store))} finished runs"


def watch_store(store: Path) -> str:
    """What `ev study watch --once` does."""
    from escapevelocity.study.watch import look
    from escapevelocity.study.watch_view import plain_lines

    return plain_lines(look(store))[0]


def collect_store(store: Path) -> str:
    """Gather the history."""
    from escapevelocity.study.history import collect

    return f"{collect(store).stat().st_size / 1e6:.0f} MB"


def read_column(store: Path) -> str:
    """Read one column of all runs, as a figure does."""
    from escapevelocity.study.history import read_history

    history = read_history(store)
    points = sum(history.values(run, COLUMN).values.size for run in history.where(task="Hopper-v4").runs)
    return f"{points:,} points of {len(history.runs)} runs"


READINGS: Mapping[str, tuple[str, Callable[[Path], str]]] = {
    "list": ("listing, no index yet", list_store),
    "list-again": ("listing, indexed", list_store),
    "watch": ("`ev study watch --once`, indexed", watch_store),
    "collect": ("gathering the history, nothing there yet", collect_store),
    "collect-again": ("gathering the history, nothing new", collect_store),
    "column": ("one column of all runs, from the history", read_column),
}


def main() -> None:
    """Make the store, read it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=common.positive, default=1000)
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder), arguments.runs)
        rows = [_read(name, Path(folder)) for name in READINGS]
    header = ["", "process, wall (s)", "inside, wall (s)", "inside, CPU (s)", "peak memory (MiB)", "found"]
    title = f"{arguments.runs:,} finished runs of {ROWS:,} rows × {COLUMNS} columns; target {TARGET:.0f} s for each"
    text = "\n\n".join(
        [
            common.machine_line(common.machine()),
            f"{title} but gathering anew. Load average {os.getloadavg()[0]:.1f} at the end.",
            common.table(header, rows),
        ]
    )
    print(text)
    if arguments.write:
        common.replace_section(common.README, "store", text)


def _read(name: str, store: Path) -> list[str]:
    began = time.perf_counter()
    found = common.run_child("benchmarks.store", {"reading": name, "store": str(store)})
    whole = time.perf_counter() - began
    numbers = [f"{value:.2f}" for value in (whole, found["wall"], found["cpu"])]
    return [READINGS[name][0], *numbers, f"{found['peak']:.0f}", found["found"]]


def child(job: Mapping[str, str], result: Path) -> None:
    """Do one reading in this process."""
    reading = READINGS[job["reading"]][1]
    wall, cpu = time.perf_counter(), time.process_time()
    found = reading(Path(job["store"]))
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    common.write_json(result, {**seconds, "found": found, "peak": common.process_memory()["peak"]})


if __name__ == "__main__":
    with contextlib.suppress(ValueError, IndexError):
        child(json.loads(sys.argv[1]), Path(sys.argv[2]))
        sys.exit()
    main()
