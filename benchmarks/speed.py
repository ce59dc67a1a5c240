"""How fast PPO trains on Hopper-v4 in the paper's setting: ours, Stable-Baselines3, SBX, the simulator alone.

`python -m benchmarks.speed` runs all contenders in turn, each in a fresh process, several rounds over, prints
the table and writes it into `benchmarks/README.md` and `benchmarks/results/speed.json`. `--quick` is a smoke
run on tiny sizes that leaves the README alone; its numbers mean nothing.
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import _common as common
from benchmarks._contenders import Sizes
from benchmarks._speed_report import report
from benchmarks._speed_summary import (
    Simulator,
    Spread,
    Training,
    as_json,
    goals,
    summarise_simulator,
    summarise_training,
)

PEERS = {"sb3": ("stable_baselines3",), "sbx": ("stable_baselines3", "sbx")}
QUICK = Sizes(num_envs=2, rollout_length=64, epochs=1, batches=3, pool_steps=400)


@dataclass(frozen=True)
class Contender:
    """One line of the table: its process's job, and whether it is run once more with a warm compile cache."""

    name: str
    job: Mapping[str, Any]
    cached: bool = False


def contenders(populations: Sequence[int], envs_per_seed: int, only: Sequence[str] | None) -> list[Contender]:
    """All contenders in the order of a round, or those named in `only`."""
    ours = [
        Contender(
            f"ours-{seeds}{'' if health else '-no-health'}",
            {"contender": "ours", "seeds": seeds, "health": health},
            health,
        )
        for seeds in populations
        for health in (True, False)
    ]
    peers = [Contender(name, {"contender": name}) for name in PEERS]
    pools = [
        Contender(
            f"simulator-{seeds * envs_per_seed}",
            {"contender": "simulator", "num_envs": seeds * envs_per_seed},
        )
        for seeds in populations
    ]
    everyone = [*peers, *ours, *pools]
    unknown = sorted(set(only or ()) - {one.name for one in everyone})
    if unknown:
        raise SystemExit(f"--only {unknown[0]}: must be one of {', '.join(one.name for one in everyone)}")
    return [one for one in everyone if only is None or one.name in only]


def measure(one: Contender, sizes: Sizes) -> dict[str, Any]:
    """Run a contender in a fresh process; a cached one again, briefly, for its warm compile time."""
    job = {**one.job, "sizes": asdict(sizes)}
    if one.job["contender"] in PEERS:  # Their best: more threads only wait for each other.
        return common.run_child("benchmarks._contenders", job, {"OMP_NUM_THREADS": "1"})
    if one.job["contender"] == "simulator":
        return common.run_child("benchmarks._contenders", job)
    with tempfile.TemporaryDirectory() as cache:
        variables = {"XDG_CACHE_HOME": cache}  # Where escapevelocity keeps its compiled programs.
        raw = common.run_child("benchmarks._contenders", job, variables)
        if one.cached:
            # The steps are part of no program, so that a short run finds what the long one left.
            short = {**job, "sizes": asdict(replace(sizes, batches=3))}
            raw["warm"] = common.run_child("benchmarks._contenders", short, variables)
    return raw


def run_rounds(chosen: Sequence[Contender], sizes: Sizes, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Every contender in turn, `rounds` times over, so that a slow minute of the machine hits all alike."""
    raw: dict[str, list[dict[str, Any]]] = {one.name: [] for one in chosen}
    for number in range(rounds):
        for one in chosen:
            raw[one.name].append(measure(one, sizes))
            print(
                f"round {number + 1}/{rounds}  {one.name:<20} {_brief(one, raw[one.name][-1], sizes)}",
                flush=True,
            )
    return raw


def summarise(
    chosen: Sequence[Contender], raw: Mapping[str, Sequence[Mapping[str, Any]]], sizes: Sizes
) -> tuple[dict[str, Training], dict[str, Spread], dict[int, Simulator]]:
    """Trainers by name, their compile time with a warm cache, and simulators by number of environments."""
    trainings, warm, simulators = {}, {}, {}
    for one in chosen:
        if one.job["contender"] == "simulator":
            simulators[one.job["num_envs"]] = summarise_simulator(raw[one.name], one.job["num_envs"])
            continue
        seeds = one.job.get("seeds", 1)
        trainings[one.name] = summarise_training(raw[one.name], seeds, sizes.batch_size)
        if one.cached:
            again = [measured["warm"] for measured in raw[one.name]]
            warm[one.name] = summarise_training(again, seeds, sizes.batch_size).compile_s
    return trainings, warm, simulators


def _brief(one: Contender, raw: Mapping[str, Any], sizes: Sizes) -> str:
    if one.job["contender"] == "simulator":
        return f"{max(raw['steps_per_s'].values()):10,.0f} steps/s"
    summary = summarise_training([raw], one.job.get("seeds", 1), sizes.batch_size)
    return f"{summary.rate.median:10,.0f} steps/s   compile {summary.compile_s.median:5.1f} s"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument(
        "--rounds", type=common.positive, default=3, help="rounds of all contenders in turn (3)"
    )
    parser.add_argument(
        "--populations", type=common.positive, nargs="+", default=[1, 5, 10], help="our seeds (1 5 10)"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="these contenders, such as sb3 ours-1 simulator-20"
    )
    parser.add_argument("--quick", action="store_true", help="smoke run: tiny sizes, one round")
    parser.add_argument("--out", type=Path, default=common.RESULTS, help="where speed.json goes")
    parser.add_argument(
        "--readme", type=Path, help="README to write into (benchmarks/README.md; of a partial run none)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print and write."""
    arguments = _arguments(argv)
    partial = arguments.quick or arguments.only is not None
    if partial and arguments.out == common.RESULTS:
        flag = "--quick" if arguments.quick else "--only"
        raise SystemExit(f"{flag}: give --out DIR too; a partial run must not replace the full one's results")
    sizes, rounds = (QUICK, 1) if arguments.quick else (Sizes(), arguments.rounds)
    chosen = contenders(arguments.populations, sizes.num_envs, arguments.only)
    for one in list(chosen):
        missing = [name for name in PEERS.get(one.name, ()) if importlib.util.find_spec(name) is None]
        if missing:
            print(f"{one.name} is left out: {missing[0]} is not installed", flush=True)
            chosen.remove(one)
    where = common.machine()
    raw = run_rounds(chosen, sizes, rounds)
    trainings, warm, simulators = summarise(chosen, raw, sizes)
    targets = goals(trainings, simulators, sizes.num_envs)
    text = (
        common.machine_line(where)
        + "\n\n"
        + report(trainings, warm, simulators, targets, sizes.num_envs, rounds)
    )
    if arguments.quick:
        text = f"**A smoke run on tiny sizes: these numbers mean nothing.**\n\n{text}"
    print("\n" + text, flush=True)
    summary = {
        "machine": where,
        "sizes": asdict(sizes),
        "rounds": rounds,
        "trainings": {name: as_json(value) for name, value in trainings.items()},
        "compile_warm_s": {name: asdict(value) for name, value in warm.items()},
        "simulators": {str(number): as_json(value) for number, value in simulators.items()},
        "targets": [as_json(goal) for goal in targets],
        "raw": raw,
    }
    common.write_json(arguments.out / "speed.json", summary)
    readme = arguments.readme or (None if partial else common.README)
    if readme is not None:
        common.replace_section(readme, "speed", text)


if __name__ == "__main__":
    main()
