"""Returns on HalfCheetah-v4 and Hopper-v4 after a million steps: ours and Stable-Baselines3 on the same terms.

`python -m benchmarks.returns` trains every (task, contender, seed) that has no result yet in the work folder,
one after the other, each in its own process on one core; started again, it goes on. Then, and with `--report` at
once, it writes the table into `benchmarks/README.md`, and numbers and figure into `benchmarks/results/`.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import _common as common
from benchmarks import _returns_report as reporting
from benchmarks._returns_runs import BATCH

TASKS = ("HalfCheetah-v4", "Hopper-v4")
CONTENDERS = ("ours", "sb3")
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}


def result_path(work: Path, task: str, contender: str, seed: int, steps: int) -> Path:
    """Where a finished run's result lies; runs of other lengths have other names."""
    return work / f"{task}.{contender}.{seed}.{steps}.json"


def train_missing(arguments: argparse.Namespace) -> None:
    """Train whatever has no result yet, seed by seed, so that an early stop leaves whole comparisons."""
    jobs = [
        {"task": task, "contender": contender, "seed": seed, "steps": arguments.steps, "core": arguments.core}
        for seed in arguments.seeds
        for task in arguments.tasks
        for contender in ([arguments.only] if arguments.only else CONTENDERS)
    ]
    for number, job in enumerate(jobs, start=1):
        path = result_path(arguments.work, job["task"], job["contender"], job["seed"], job["steps"])
        name = f"[{number}/{len(jobs)}] {job['task']} {job['contender']} seed {job['seed']}"
        if path.exists():
            print(f"{name}: done before", flush=True)
            continue
        print(name, flush=True)
        result = common.run_child(
            "benchmarks._returns_runs", {**job, "folder": str(path.with_suffix(".run").resolve())}, ONE_THREAD
        )
        common.write_json(path, result)


def finished_runs(work: Path, tasks: Sequence[str], seeds: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """The results that are there."""
    paths = [
        result_path(work, task, one, seed, steps) for task in tasks for one in CONTENDERS for seed in seeds
    ]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def write_report(runs: Sequence[dict[str, Any]], steps: int, out: Path, readme: Path | None) -> str:
    """Print and write table, numbers, curves and figure."""
    found = reporting.outcomes(runs)
    differences = reporting.comparisons(found)
    where = common.machine()
    text = common.machine_line(where) + "\n\n" + reporting.report(found, differences, steps)
    out.mkdir(parents=True, exist_ok=True)
    reporting.draw(runs, out / "returns.png")
    pq.write_table(pa.table(reporting.curves_table(runs)), out / "returns.parquet")
    common.write_json(
        out / "returns.json", {"machine": where, "steps": steps, **reporting.as_json(found, differences)}
    )
    if readme is not None:
        common.replace_section(readme, "returns", text)
    print("\n" + text, flush=True)
    return text


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.returns", description=__doc__)
    parser.add_argument("--only", choices=CONTENDERS, help="train one contender; no report")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="tasks (HalfCheetah-v4 Hopper-v4)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="seeds (1 2 3 4 5)")
    parser.add_argument("--steps", type=common.positive, default=1_000_000, help="steps per run (1000000)")
    parser.add_argument(
        "--core", type=int, default=max(os.sched_getaffinity(0)), help="the core to run on (the last)"
    )
    parser.add_argument(
        "--work", type=Path, default=common.ROOT / "runs" / "benchmark-returns", help="unfinished work"
    )
    parser.add_argument("--out", type=Path, default=common.RESULTS, help="where numbers and figure go")
    parser.add_argument("--readme", type=Path, default=common.README, help="README to write the table into")
    parser.add_argument("--no-readme", dest="readme", action="store_const", const=None, help="write none")
    parser.add_argument("--report", action="store_true", help="train nothing, report what is finished")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, then report."""
    arguments = _arguments(argv)
    if arguments.steps < BATCH:
        raise SystemExit(f"--steps {arguments.steps}: must be at least one batch of {BATCH}")
    if arguments.core not in os.sched_getaffinity(0):
        raise SystemExit(f"--core {arguments.core}: must be one of {sorted(os.sched_getaffinity(0))}")
    if not arguments.report:
        train_missing(arguments)
        if arguments.only:
            return
    runs = finished_runs(arguments.work, arguments.tasks, arguments.seeds, arguments.steps)
    if not runs:
        raise SystemExit(
            f"no finished run of {arguments.steps} steps in {arguments.work}; run without --report first"
        )
    write_report(runs, arguments.steps, arguments.out, arguments.readme)


if __name__ == "__main__":
    main()
