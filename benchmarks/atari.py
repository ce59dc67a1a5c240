"""How fast PPO trains on Phoenix with the paper's trunks: ours against Stable-Baselines3.

`python -m benchmarks.atari` runs all contenders in turn, each in a fresh process, several rounds over, prints the
table and writes it into `benchmarks/README.md` and `benchmarks/results/atari.json`. `--device gpu` runs ours alone on
a GPU, with the projected time of the paper's 100 million frames, and `--quick` is a smoke run on tiny sizes; both
leave the README alone.
"""

import argparse
import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _common as common
from benchmarks._atari_run import FRAME_SKIP
from benchmarks._contenders import Sizes
from benchmarks._speed_summary import Goal, Spread, Training, as_json, summarise_training

CORES = len(os.sched_getaffinity(0))
CONTENDERS: dict[str, dict[str, Any]] = {
    "Stable-Baselines3": {"contender": "sb3", "shared": False, "threads": CORES},
    "Stable-Baselines3, one thread": {"contender": "sb3", "shared": False, "threads": 1},
    "Stable-Baselines3, shared trunk": {"contender": "sb3", "shared": True, "threads": CORES},
    "escapevelocity": {"contender": "ours", "health": True},
    "escapevelocity, health off": {"contender": "ours", "health": False},
}
OURS, PEERS = "escapevelocity", ("Stable-Baselines3", "Stable-Baselines3, one thread")
FRAMES = 100_000_000
"""Of a run in Moalla et al. 2024, Table 2."""


def sizes_of(quick: bool, batches: int) -> Sizes:
    """The preset's sizes, or tiny ones."""
    if quick:
        return Sizes("ALE/Phoenix-v5", num_envs=2, rollout_length=16, minibatch_size=16, epochs=1, batches=3)
    return Sizes(
        "ALE/Phoenix-v5", num_envs=8, rollout_length=128, minibatch_size=256, epochs=4, batches=batches
    )


def run_rounds(
    names: Sequence[str], sizes: Sizes, rounds: int, variables: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Every contender in turn, `rounds` times over, so that a slow minute of the machine hits all alike."""
    raw: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:
            job = {**CONTENDERS[name], "sizes": asdict(sizes)}
            raw[name].append(common.run_child("benchmarks._atari_run", job, variables))
            rate = summarise_training(raw[name][-1:], 1, sizes.batch_size).rate.median
            print(f"round {number + 1}/{rounds}  {name:<32} {rate:10,.0f} agent steps/s", flush=True)
    return raw


def fastest_peer(trainings: Mapping[str, Training]) -> Training | None:
    """Stable-Baselines3 with separate trunks, in whichever number of threads is faster here."""
    found = [trainings[name] for name in PEERS if name in trainings]
    return max(found, key=lambda training: training.rate.median, default=None)


def goals(trainings: Mapping[str, Training]) -> list[Goal]:
    """The issue's targets for the CPU, as far as the contenders that they need have run."""
    peer, ours = fastest_peer(trainings), trainings.get(OURS)
    if ours is None:
        return []
    found = []
    if peer is not None:
        ratio = ours.rate.median / peer.rate.median
        what = "escapevelocity against Stable-Baselines3 with separate trunks"
        found = [
            Goal(f"{what}, {kind}", f"≥ {least} ×", f"{ratio:.2f} ×", ratio >= least)
            for kind, least in (("at least", 0.9), ("aim", 1.1))
        ]
    peak = ours.peak_mib.median
    return [*found, Goal("escapevelocity: peak memory", "< 1,024 MiB", f"{peak:,.0f} MiB", peak < 1024)]


def cpu_per_batch(rounds: Sequence[Mapping[str, Any]]) -> Spread:
    """Seconds of CPU time per batch after the first one."""
    return Spread.of([float(np.mean(raw["cpu_s"][1:])) for raw in rounds])


def report(trainings: Mapping[str, Training], cpu: Mapping[str, Spread], rounds: int, batches: int) -> str:
    """The tables: medians over the rounds, with the lowest and highest in brackets."""
    peer = fastest_peer(trainings)
    rows = []
    for name, training in trainings.items():
        against = f"{training.rate.median / peer.rate.median:.2f} ×" if peer else "–"
        shares = (training.collect.median, training.update.median, training.health.median, training.other)
        rows.append(
            [
                name,
                training.rate.text(),
                against,
                cpu[name].text(2),
                *(f"{100 * share:.0f}" for share in shares),
                training.compile_s.text(1),
                training.peak_mib.text(),
            ]
        )
    header = [
        "",
        "agent steps/s",
        "against SB3, separate",
        "CPU s per batch",
        "collect, %",
        "update, %",
        "health, %",
        "other, %",
        "first batch beyond the others (s)",
        "peak memory (MiB)",
    ]
    parts = [
        f"Medians of {rounds} interleaved round{'s' * (rounds > 1)} of {batches} batches after the first, "
        "lowest–highest in brackets.",
        common.table(header, rows),
    ]
    targets = [
        [goal.what, goal.target, goal.measured, "yes" if goal.reached else "**no**"]
        for goal in goals(trainings)
    ]
    if targets:
        parts.append(common.table(["what", "target", "measured", "reached"], targets))
    return "\n\n".join(parts)


def projection(training: Training) -> str:
    """How long the paper's 100 million frames would take at this rate."""
    minutes = FRAMES / FRAME_SKIP / training.rate.median / 60
    return f"100 million frames at this rate: {minutes:,.0f} minutes ({training.rate.text()} agent steps/s)."


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.atari", description=__doc__)
    parser.add_argument(
        "--rounds", type=common.positive, default=3, help="rounds of all contenders in turn (3)"
    )
    parser.add_argument("--batches", type=common.positive, default=8, help="timed batches of 1,024 steps (8)")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help="these contenders")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="gpu: ours alone, on a GPU")
    parser.add_argument("--quick", action="store_true", help="smoke run: tiny sizes, one round")
    parser.add_argument("--out", type=Path, default=common.RESULTS, help="where atari.json goes")
    parser.add_argument(
        "--readme", type=Path, help="README to write into (benchmarks/README.md; of a partial run none)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print and write."""
    arguments = _arguments(argv)
    on_gpu = arguments.device == "gpu"
    partial = arguments.quick or on_gpu or arguments.only is not None
    if partial and arguments.out == common.RESULTS:
        raise SystemExit("give --out DIR too; a partial run must not replace the full one's results")
    sizes = sizes_of(arguments.quick, arguments.batches)
    rounds = 1 if arguments.quick else arguments.rounds
    names = [name for name in CONTENDERS if arguments.only is None or name in arguments.only]
    if on_gpu:
        names = [name for name in names if CONTENDERS[name]["contender"] == "ours"]
    if importlib.util.find_spec("stable_baselines3") is None:
        print("Stable-Baselines3 is left out: stable_baselines3 is not installed", flush=True)
        names = [name for name in names if CONTENDERS[name]["contender"] != "sb3"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    variables = {"JAX_PLATFORMS": "cuda", "CUDA_VISIBLE_DEVICES": visible} if on_gpu else {}
    where = common.machine()
    raw = run_rounds(names, sizes, rounds, variables)
    trainings = {name: summarise_training(raw[name], 1, sizes.batch_size) for name in names}
    cpu = {name: cpu_per_batch(raw[name]) for name in names}
    text = f"{common.machine_line(where)}\n\n{report(trainings, cpu, rounds, sizes.batches)}"
    if on_gpu and OURS in trainings:
        text += f"\n\n{raw[OURS][0]['device']}. {projection(trainings[OURS])}"
    if arguments.quick:
        text = f"**A smoke run on tiny sizes: these numbers mean nothing.**\n\n{text}"
    print("\n" + text, flush=True)
    summary = {
        "machine": where,
        "sizes": asdict(sizes),
        "rounds": rounds,
        "trainings": {name: as_json(value) for name, value in trainings.items()},
        "cpu_s_per_batch": {name: asdict(value) for name, value in cpu.items()},
        "targets": [as_json(goal) for goal in goals(trainings)],
        "raw": raw,
    }
    common.write_json(arguments.out / "atari.json", summary)
    readme = arguments.readme or (None if partial else common.README)
    if readme is not None:
        common.replace_section(readme, "atari", text)


if __name__ == "__main__":
    main()
