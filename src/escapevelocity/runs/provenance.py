"""Where a run was computed: versions, commit, machine, threads, flags; elsewhere floats may differ."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGES = (
    "escapevelocity",
    "jax",
    "jaxlib",
    "numpy",
    "equinox",
    "optax",
    "envpool",
    "ale-py",
    "gymnax",
    "gymnasium",
    "mujoco",
    "pyarrow",
)
PROVENANCE_FILE = "provenance.json"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_FLAG_VARIABLES = ("JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION", "XLA_FLAGS")


def collect() -> dict[str, Any]:
    """Describe this process: what may change a floating-point result, or tell a reader where it came from.

    Returns:
        A flat mapping of JSON values. Nothing is imported to find a version; a package that is not there is
        null.
    """
    found: dict[str, Any] = {f"version/{name}": _version(name) for name in PACKAGES}
    found["version/python"] = platform.python_version()
    found["commit"] = _commit()
    found["platform"] = f"{platform.system()}-{platform.machine()}"
    found["cpu"] = _cpu()
    found["cpus"] = _cpu_count()
    found["device"] = _device()
    found |= {f"threads/{name}": os.environ.get(name) for name in _THREAD_VARIABLES}
    found |= {f"flag/{name}": os.environ.get(name) for name in _FLAG_VARIABLES}
    return found


def sessions_of(run_dir: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The sessions in a run's provenance.json, the first one first; none where the file is missing or damaged."""
    try:
        sessions = json.loads((Path(run_dir) / PROVENANCE_FILE).read_text(encoding="utf-8"))["sessions"]
        return [dict(session) for session in sessions]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List, one line each, what differs between where a run began and where it goes on.

    Example:
        >>> differences({"cpu": "A"}, {"cpu": "B"})
        ["cpu was 'A', is now 'B'"]
    """
    return [
        f"{key} was {old.get(key)!r}, is now {new.get(key)!r}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Give the commit of the checkout this code lies in, "+changes" when files differ; None elsewhere."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    return commit + (
        "+changes" if _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src") else ""
    )


def _git(root: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _cpu() -> str:
    if sys.platform == "linux":
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        except (OSError, StopIteration):
            pass
    return platform.processor() or platform.machine()


def _device() -> str | None:
    """Name what JAX computes on, such as "gpu: NVIDIA H200"; None where JAX was not imported."""
    jax = sys.modules.get("jax")
    if jax is None:
        return None
    device = jax.devices()[0]
    return f"{device.platform}: {device.device_kind}"


def _cpu_count() -> int | None:
    """Count the processors this process may use; XLA's and EnvPool's thread pools follow it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
