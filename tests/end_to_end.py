"""Helpers of the end-to-end tests: the command as a real process, and all that a run must repeat bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

# 128 steps per batch, and segments of at least 10 × 20 steps per environment: many short segments.
SMALL = (
    *("--num-envs", "2", "--rollout-length", "64", "--minibatch-size", "32", "--epochs", "2"),
    *("--normalization-steps", "200", "--episode-limit", "20"),
)


def process_environment(cache: Path | None = None) -> dict[str, str]:
    """The variables of a process of ours: its compiled programs go to `cache`, not to the user's.

    Without `cache` they go to the folder of all tests (conftest.py), where many are already. A process that may be
    killed gets one of its own: it could leave half a program there.
    """
    own = {"XDG_CACHE_HOME": str(cache)} if cache else {}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}


def launch(cache: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start `ev` with arguments."""
    return subprocess.Popen(
        [sys.executable, "-m", "escapevelocity.cli", *map(str, arguments)],
        env=process_environment(cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ev(cache: Path, *arguments: str | Path) -> tuple[int, str, str]:
    """Run `ev` to its end: exit code, standard output, standard error."""
    process = launch(cache, *arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def records(run: Path) -> pa.Table:
    """A run's records as Parquet has them, in order; read without the library."""
    tables = [pq.ParquetFile(path).read() for path in sorted((run / "records").glob("*.parquet"))]
    table = pa.concat_tables(tables, promote_options="permissive")
    return table.sort_by([("batch", "ascending"), ("seed", "ascending")])


def checkpoint(run: Path, number: int) -> dict[str, np.ndarray]:
    """A checkpoint's arrays by name; read without the library."""
    return load_file(run / "checkpoints" / f"{number:05d}.safetensors")


def contents(run: Path) -> dict[str, Any]:
    """All that two runs of one spec must share: records but for the clock, checkpoints and snapshots, bit for bit."""
    table = records(run)
    clock = [name for name in table.column_names if name == "wall_time" or name.startswith("time/")]
    # NaN equals itself in its repr, which also tells every two floats apart.
    found: dict[str, Any] = {
        f"records:{name}": repr(table[name].to_pylist()) for name in table.column_names if name not in clock
    }
    for path in sorted(run.glob("*/*.safetensors")):
        for name, array in load_file(path).items():
            found[f"{path.relative_to(run)}:{name}"] = (array.dtype.name, array.shape, array.tobytes())
    return found
