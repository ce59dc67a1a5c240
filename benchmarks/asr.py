"""How fast adaptive sampling trains and is evaluated, against pytorch-metric-learning with the same network.

`python -m benchmarks.asr` prints the tables; `--write` puts them into `benchmarks/README.md` as well. Omniglot is used
where `--data-dir`, EV_DATA_DIR or the cache folder has it, else random images of the same shape: the time of a step
does not depend on what is in the images.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import _common as common

PARTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "ours": ("ours", {}),
    "peer": ("peer", {}),
    # Threads that wait for each other lose more than they win where something else runs on the machine.
    "peer, one thread": ("peer", {"OMP_NUM_THREADS": "1"}),
    "evaluation": ("evaluation", {}),
}
"""Name of a part -> what its process runs, and its environment."""

LIMITS = {"ratio": 1.0, "share": 0.05, "evaluation": 5.0}
"""The issue's: steps/s against the peer, the sampler's share of a step, seconds for 10,000 embeddings."""

Round = Mapping[str, Mapping[str, float]]


def run_rounds(rounds: int, job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Time each part in a fresh process, `rounds` times over; every other round in reverse order."""
    found = []
    for number in range(rounds):
        one: dict[str, Any] = {}
        for name in [*PARTS] if number % 2 == 0 else [*PARTS][::-1]:
            what, variables = PARTS[name]
            one[name] = common.run_child("benchmarks._asr_peers", {**job, "what": what}, variables)
        found.append(one)
        print(
            f"round {number + 1}/{rounds}  {ratios([one])[0]:.2f} × the peer's steps/s,"
            f" sampler {shares([one])[0]:.1%} of a step, evaluation {one['evaluation']['evaluation']:.1f} s",
            flush=True,
        )
    return found


def ratios(found: Sequence[Round]) -> list[float]:
    """Our steps/s over the peer's at its fastest, round by round."""
    return [fastest_peer(one) / one["ours"]["adaptive"] for one in found]


def fastest_peer(one: Round) -> float:
    """The peer's seconds per step with the memory format and the threads that suit it best in this round."""
    return min(seconds for name in PARTS if name.startswith("peer") for seconds in one[name].values())


def shares(found: Sequence[Round]) -> list[float]:
    """Time of distances and sampling by themselves over that of a whole step, round by round."""
    return [one["ours"]["alone"] / one["ours"]["adaptive"] for one in found]


def differences(found: Sequence[Round]) -> list[float]:
    """How much longer a step takes than one with random negatives, as a share of it, round by round."""
    return [1 - one["ours"]["random"] / one["ours"]["adaptive"] for one in found]


def report(found: Sequence[Round], embeddings: int) -> str:
    """The tables; numbers are medians over the rounds, with the lowest and highest in brackets."""
    peers = {
        f"pytorch-metric-learning, {form}{part.removeprefix('peer')}": (part, form)
        for part in PARTS
        if part.startswith("peer")
        for form in found[0][part]
    }
    names = {
        **peers,
        "escapevelocity, random sampler": ("ours", "random"),
        "escapevelocity, adaptive sampler": ("ours", "adaptive"),
    }
    rows = []
    for name, (part, key) in names.items():
        seconds = [one[part][key] for one in found]
        against = [fastest_peer(one) / one[part][key] for one in found]
        rows.append(
            [
                name,
                spread([1e3 * s for s in seconds], "{:.1f}"),
                spread([1 / s for s in seconds], "{:.1f}"),
                f"{spread(against, '{:.2f}')} ×",
            ]
        )
    steps = common.table(["", "ms per step", "steps/s", "against the peer at its fastest"], rows)
    return f"{steps}\n\n{common.table(['what', 'target', 'measured', 'reached'], goals(found, embeddings))}"


def goals(found: Sequence[Round], embeddings: int) -> list[list[str]]:
    """One row for each target of the issue."""
    ratio, share, difference = (median(f(found)) for f in (ratios, shares, differences))
    evaluation = median(one["evaluation"]["evaluation"] for one in found)
    return [
        ["steps/s, adaptive sampler / peer", "≥ 1.0 ×", f"{ratio:.2f} ×", yes(ratio >= LIMITS["ratio"])],
        ["distances and sampling alone / a step", "< 5 %", f"{share:.1%}", yes(share < LIMITS["share"])],
        [
            "step with adaptive − with random sampler / a step",
            "< 5 %",
            f"{difference:.1%}",
            yes(difference < LIMITS["share"]),
        ],
        [
            f"all retrieval metrics of {embeddings:,} embeddings",
            "< 5 s",
            f"{evaluation:.2f} s",
            yes(evaluation < LIMITS["evaluation"]),
        ],
    ]


def spread(values: Sequence[float], form: str) -> str:
    """median (lowest–highest)."""
    middle, low, high = (form.format(value) for value in (median(values), min(values), max(values)))
    return f"{middle} ({low}–{high})"


def yes(reached: bool) -> str:
    """The word in the table."""
    return "yes" if reached else "**no**"


def which_images(data_dir: Path | None) -> str:
    """Whether Omniglot is to be had; a folder that was named must have it.

    Raises:
        UserError: `data_dir` was given and does not have Omniglot.
    """
    from escapevelocity.errors import UserError
    from escapevelocity.metric_learning.config import DataConfig
    from escapevelocity.metric_learning.splits import load_split

    try:
        load_split(DataConfig("omniglot"), data_dir)
    except UserError:
        if data_dir is not None:
            raise
        return "random"
    return "omniglot"


def main(argv: Sequence[str] | None = None) -> None:
    """Run, print and, if asked, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asr", description=__doc__)
    parser.add_argument("--rounds", type=common.positive, default=5, help="rounds of all parts in turn (5)")
    parser.add_argument("--steps", type=common.positive, default=200, help="timed steps of each (200)")
    parser.add_argument("--embeddings", type=common.positive, default=10_000, help="to evaluate (10,000)")
    parser.add_argument("--data-dir", type=Path, default=None, help="folder of Omniglot's files")
    parser.add_argument("--write", action="store_true", help="write the section of benchmarks/README.md")
    parser.add_argument("--readme", type=Path, default=common.README, help="another README to write into")
    arguments = parser.parse_args(argv)
    images = which_images(arguments.data_dir)
    folder = None if arguments.data_dir is None else str(arguments.data_dir.resolve())
    job = {
        "steps": arguments.steps,
        "embeddings": arguments.embeddings,
        "images": images,
        "data_dir": folder,
    }
    where, before = common.machine(), os.getloadavg()[0]
    found = run_rounds(arguments.rounds, job)
    named = "Omniglot" if images == "omniglot" else "random images of Omniglot's shape"
    rounds = (
        f"Medians of {arguments.rounds} interleaved round{'s' * (arguments.rounds > 1)} of {arguments.steps} steps on "
        f"{named}, lowest–highest in brackets; load average before and after: {before:.1f} and "
        f"{os.getloadavg()[0]:.1f}."
    )
    text = f"{common.machine_line(where)}\n\n{rounds}\n\n{report(found, arguments.embeddings)}"
    print("\n" + text, flush=True)
    if arguments.write:
        common.replace_section(arguments.readme, "asr", text)


if __name__ == "__main__":
    main()
