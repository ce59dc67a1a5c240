"""What the health callback costs Stable-Baselines3: the same PPO run with and without it, in turn.

`python -m benchmarks.interop` prints the table; `--write` puts it into `benchmarks/README.md` as well. The same
seed gives the same run with and without the callback, so the two do exactly the same work beside it.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import _common as common

LIMIT = 1.10
"""The issue's: under 10 % more wall time."""


def run_rounds(tasks: Sequence[str], batches: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Per task and round, the run without and the run with the callback, each in a fresh process.

    Which of the two goes first changes from round to round, so that a machine that slows down favours neither.
    """
    raw: dict[str, list[dict[str, Any]]] = {task: [] for task in tasks}
    for number in range(rounds):
        for task in tasks:
            pair: dict[str, Any] = {}
            for health in (False, True) if number % 2 == 0 else (True, False):
                job = {"task": task, "batches": batches, "health": health}
                threads = {"OMP_NUM_THREADS": "1"}
                pair["with" if health else "without"] = common.run_child(
                    "benchmarks._interop_run", job, threads
                )
            raw[task].append(pair)
            print(
                f"round {number + 1}/{rounds}  {task:<12} {ratios([pair], 'wall_s')[0]:.3f} × wall",
                flush=True,
            )
    return raw


def ratios(pairs: Sequence[Mapping[str, Any]], what: str) -> list[float]:
    """Time with the callback over time without it, round by round."""
    return [pair["with"][what] / pair["without"][what] for pair in pairs]


def report(raw: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The table, and whether the limit holds for every task's median."""
    rows, over = [], []
    for task, pairs in raw.items():
        wall, cpu = ratios(pairs, "wall_s"), ratios(pairs, "cpu_s")
        share = [pair["with"]["health_s"] / pair["with"]["wall_s"] for pair in pairs]
        seconds = [median(pair[which]["wall_s"] for pair in pairs) for which in ("without", "with")]
        rows.append(
            [
                task,
                *(f"{x:.1f}" for x in seconds),
                *(f"{median(x):.3f} ({min(x):.3f}–{max(x):.3f})" for x in (wall, cpu)),
                f"{median(share):.1%}",
            ]
        )
        if median(wall) >= LIMIT:
            over.append(task)
    header = [
        "task",
        "without (s)",
        "with (s)",
        "ratio of wall time",
        "ratio of CPU time",
        "share by `time/health`",
    ]
    verdict = (
        f"**Not under {LIMIT:.2f} ×: {', '.join(over)}.**"
        if over
        else f"Every median is under {LIMIT:.2f} ×."
    )
    return f"{common.table(header, rows)}\n\n{verdict}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interop", description=__doc__)
    parser.add_argument("--rounds", type=common.positive, default=5, help="rounds of all runs in turn (5)")
    parser.add_argument(
        "--batches", type=common.positive, default=10, help="timed batches of 2,048 steps (10)"
    )
    parser.add_argument("--tasks", nargs="+", default=["CartPole-v1", "Hopper-v4"], help="Gymnasium ids")
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/README.md")
    parser.add_argument("--readme", type=Path, default=common.README, help="another README to write into")
    arguments = parser.parse_args(argv)
    where = common.machine()
    raw = run_rounds(arguments.tasks, arguments.batches, arguments.rounds)
    rounds = (
        f"Medians of {arguments.rounds} rounds of {arguments.batches} batches, lowest–highest in brackets; "
        "a ratio is of the two runs of one round."
    )
    text = f"{common.machine_line(where)}\n\n{rounds}\n\n{report(raw)}"
    print("\n" + text, flush=True)
    if arguments.write:
        common.replace_section(arguments.readme, "interop", text)


if __name__ == "__main__":
    main()
