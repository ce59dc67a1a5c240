"""How fast a population plays MinAtar Breakout inside jit, against Stable-Baselines3 on the same game.

`python -m benchmarks.device_envs` runs all contenders in turn, each in fresh processes, several rounds over, prints
the table and writes it into `benchmarks/README.md` and `benchmarks/results/device_envs.json`. `--quick` is a smoke
run that leaves both alone; its numbers mean nothing.
"""

import argparse
import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _common as common
from benchmarks._speed_summary import Raw, Spread, Training, summarise_training

BATCH_SIZE = 16 * 64
"""Steps per batch and seed: the preset's 16 environments × 64 steps."""
BATCHES = {"ours": 19, "sb3": 31}
"""Batches of a run; the first holds the compile and is not counted. Health is measured on every ninth of ours."""


@dataclass(frozen=True)
class Contender:
    """One line of the table.

    Attributes:
        title: in words.
        job: what each of its processes does.
        processes: how many of them run at once; their rates are added up.
    """

    title: str
    job: Mapping[str, Any]
    processes: int = 1

    @property
    def seeds(self) -> int:
        """Agents that learn at once."""
        return self.processes * self.job.get("seeds", 1)


def contenders(populations: Sequence[int], cores: int) -> list[Contender]:
    """All contenders in the order of a round."""
    plain, fast = ({"contender": "sb3", "vectorised": x} for x in (False, True))
    peers = [
        Contender("Stable-Baselines3, 16 Gymnasium environments", plain),
        Contender("Stable-Baselines3, one jitted step for all 16", fast),
    ]
    if cores > 1:
        peers.append(Contender(f"the same, {cores} processes at once", fast, cores))
    ours = [
        Contender(f"escapevelocity, {n} seed{'s' * (n > 1)}", {"contender": "ours", "seeds": n})
        for n in populations
    ]
    return [*peers, *ours]


def run_rounds(
    chosen: Sequence[Contender], batches: Mapping[str, int], rounds: int
) -> dict[str, list[list[Raw]]]:
    """Every contender in turn, `rounds` times over; per contender and round what each process measured."""
    raw: dict[str, list[list[Raw]]] = {one.title: [] for one in chosen}
    for number in range(rounds):
        for one in chosen:
            raw[one.title].append(measure(one, batches))
            rate = aggregate(one, raw[one.title][-1:]).median
            print(f"round {number + 1}/{rounds}  {one.title:<48} {rate:10,.0f} steps/s", flush=True)
    return raw


def measure(one: Contender, batches: Mapping[str, int]) -> list[Raw]:
    """Run a contender's processes side by side."""
    job = {**one.job, "batches": batches[one.job["contender"]]}
    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(one.processes) as pool:
        # Where escapevelocity keeps its compiled programs; the peer's best is one thread per process.
        ours = one.job["contender"] == "ours"
        variables = {"XDG_CACHE_HOME": cache} if ours else {"OMP_NUM_THREADS": "1"}
        runs = [
            pool.submit(common.run_child, "benchmarks._device_contenders", job, variables)
            for _ in range(one.processes)
        ]
        return [run.result() for run in runs]


def aggregate(one: Contender, rounds: Sequence[Sequence[Raw]]) -> Spread:
    """Steps/s of all seeds and processes together, after the first batch."""
    each = [summaries(one, processes) for processes in rounds]
    return Spread.of([sum(training.rate.median for training in trainings) for trainings in each])


def summaries(one: Contender, processes: Sequence[Raw]) -> list[Training]:
    """One round's processes, each by itself."""
    return [summarise_training([raw], one.job.get("seeds", 1), BATCH_SIZE) for raw in processes]


def report(chosen: Sequence[Contender], raw: Mapping[str, Sequence[Sequence[Raw]]]) -> str:
    """The table; numbers are medians over the rounds, with the lowest and highest in brackets."""
    rates = {one.title: aggregate(one, raw[one.title]) for one in chosen}
    best = max((rates[one.title].median for one in chosen if one.job["contender"] == "sb3"), default=0.0)
    rows = []
    for one in chosen:
        first = [summaries(one, processes)[0] for processes in raw[one.title]]
        memory = Spread.of(
            [sum(t.peak_mib.median for t in summaries(one, processes)) for processes in raw[one.title]]
        )
        parts = [
            Spread.of([getattr(t, part).median for t in first]) for part in ("collect", "update", "health")
        ]
        rows.append(
            [
                one.title,
                rates[one.title].text(),
                f"{rates[one.title].median / one.seeds:,.0f}",
                f"{rates[one.title].median / best:.2f} ×" if best else "–",
                *(f"{100 * part.median:.1f}" for part in parts),
                Spread.of([t.compile_s.median for t in first]).text(1),
                memory.text(),
            ]
        )
    header = ["", "steps/s, all seeds", "per seed", "against the fastest peer", "collect, %", "update, %"]
    header += ["health, %", "compile (s)", "peak memory (MiB)"]
    rounds = len(next(iter(raw.values())))
    words = f"Medians of {rounds} interleaved round{'s' * (rounds > 1)}, lowest–highest in brackets."
    return f"{words}\n\n{common.table(header, rows)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device_envs", description=__doc__)
    parser.add_argument("--rounds", type=common.positive, default=3, help="rounds of all contenders (3)")
    parser.add_argument(
        "--populations", type=common.positive, nargs="+", default=[1, 64], help="our seeds (1 64)"
    )
    parser.add_argument("--quick", action="store_true", help="smoke run: 2 seeds, two batches, one round")
    parser.add_argument("--out", type=Path, default=common.RESULTS, help="where device_envs.json goes")
    parser.add_argument("--readme", type=Path, default=common.README, help="README to write into")
    arguments = parser.parse_args(argv)
    cores = len(os.sched_getaffinity(0))
    populations, rounds, batches = arguments.populations, arguments.rounds, BATCHES
    if arguments.quick:
        populations, rounds, batches = [2], 1, dict.fromkeys(BATCHES, 2)
    chosen = contenders(populations, cores)
    if importlib.util.find_spec("stable_baselines3") is None:
        print("Stable-Baselines3 is left out: it is not installed", flush=True)
        chosen = [one for one in chosen if one.job["contender"] == "ours"]
    where = common.machine()
    raw = run_rounds(chosen, batches, rounds)
    text = f"{common.machine_line(where)}\n\n{report(chosen, raw)}"
    print("\n" + text, flush=True)
    if arguments.quick:
        return
    summary = {
        "machine": where,
        "rounds": rounds,
        "batches": batches,
        "steps_per_s": {one.title: asdict(aggregate(one, raw[one.title])) for one in chosen},
        "raw": raw,
    }
    common.write_json(arguments.out / "device_envs.json", summary)
    common.replace_section(arguments.readme, "device-envs", text)


if __name__ == "__main__":
    main()
