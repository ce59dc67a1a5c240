"""What the benchmarks share: fresh processes, the machine in words, README sections, seeded intervals."""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"

# A child gets exactly the thread settings and flags that its contender asks for, none of the caller's.
_REMOVED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "XLA_FLAGS",
    "JAX_COMPILATION_CACHE_DIR",
)
_PACKAGES = (
    "jax",
    "jaxlib",
    "numpy",
    "envpool",
    "gymnasium",
    "mujoco",
    "torch",
    "stable_baselines3",
    "sbx-rl",
    "pytorch-metric-learning",
)


class ChildFailed(Exception):
    """A benchmark's subprocess ended with an error; the message holds the end of what it said."""


def run_child(
    module: str, job: Mapping[str, Any], variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run `python -m module JOB RESULT` in a fresh process and return the JSON that it wrote to RESULT.

    Args:
        module: its `main` takes a JSON object and the path of the result.
        job: the JSON object.
        variables: environment variables for it.

    Raises:
        ChildFailed: when it ends with an error.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _REMOVED}
    environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", **(variables or {})}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", module, json.dumps(job), str(result)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode or not result.exists():
            raise ChildFailed(
                f"{module} {json.dumps(job)} ended with {done.returncode}:\n{done.stderr[-3000:]}"
            )
        return json.loads(result.read_text())


def process_memory() -> dict[str, float]:
    """Memory of this process in MiB: `rss` now, `peak` (VmHWM) since it began."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    return {name: int(fields[key].split()[0]) / 1024 for name, key in (("rss", "VmRSS"), ("peak", "VmHWM"))}


def machine() -> dict[str, Any]:
    """Where and when a benchmark ran: processor, cores, memory, versions, commit, date and command."""
    from escapevelocity.runs.provenance import collect

    found = collect()
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "date": date.today().isoformat(),
        "command": command_line(),
        "cpu": found["cpu"],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "platform": found["platform"],
        "python": found["version/python"],
        "commit": found["commit"],
        "versions": {name: version for name, version in versions.items() if version},
    }


def command_line() -> str:
    """The command that runs this script again, as one types it in the repository's root."""
    script = Path(sys.argv[0])
    arguments = (
        [f"benchmarks.{script.stem}", *sys.argv[1:]] if script.parent.name == "benchmarks" else sys.argv
    )
    return " ".join(["python", "-m", *arguments]) if arguments is not sys.argv else " ".join(arguments)


def machine_line(found: Mapping[str, Any]) -> str:
    """`machine()` as one paragraph."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"Printed by `{found['command']}` on {found['date']}: {found['cpu']}, {found['cores']} cores, "
        f"{found['memory_gib']} GiB, {found['platform']}, Python {found['python']}, {versions}; "
        f"commit {str(found['commit'])[:12]}."
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    align = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, align, *rows])


def replace_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers `<!-- name:start -->` and `<!-- name:end -->` of a file.

    Raises:
        ValueError: when the file does not hold each marker exactly once, in this order.
    """
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    whole = path.read_text(encoding="utf-8")
    if whole.count(start) != 1 or whole.count(end) != 1 or whole.index(start) > whole.index(end):
        raise ValueError(f"{path} must hold {start} and, after it, {end}, once each")
    before, rest = whole.split(start)
    path.write_text(f"{before}{start}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def bootstrap_means(
    values: np.ndarray, generator: np.random.Generator, resamples: int = 10_000
) -> np.ndarray:
    """Means of `values` (seeds, …) over seeds that are drawn with replacement; (resamples, …)."""
    drawn = generator.integers(len(values), size=(resamples, len(values)))
    return values[drawn].mean(axis=1)


def interval(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % percentile interval of bootstrap samples (resamples, …)."""
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    return low, high


def write_json(path: Path, value: Any) -> None:
    """Write JSON by way of a temporary file, so that a reader or a killed process never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
