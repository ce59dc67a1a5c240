"""How fast the theory lab is: starts × steps against NumPy, scaling with starts, one iteration of the four rooms.

`python -m benchmarks.lab` runs the full size, 4,096 starts × 100,000 steps, several rounds over, and prints
tables; `--write` puts them into `benchmarks/README.md`. `--steps` and `--starts` make it smaller.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from benchmarks import _common as common
from benchmarks import _lab_peers as peers
from escapevelocity.lab import four_rooms, trajectory

CONTENDERS: Mapping[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "lab": peers.lab,
    "NumPy, usual": peers.numpy_usual,
    "NumPy, fastest": peers.numpy_fastest,
}
COUNTS = (1, 10, 100, 1_000, 10_000, 100_000)
AGREEMENT_STEPS = 100
SCALING_WORK = 40_000_000  # starts × steps: half a second for each number of starts
ROOMS_STEPS = 500
TARGETS = {"at least": 3.0, "aim": 5.0}


class Seconds(NamedTuple):
    """How long something took: on the clock, and of all cores together, which other people's work changes little."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Measured:
    """Seconds of every round.

    Attributes:
        contenders: per step, of all starts together.
        scaling: CPU time per start and step.
        rooms: wall time per iteration.
        load: the machine's load average before and after.
    """

    contenders: dict[str, list[Seconds]] = field(default_factory=dict)
    scaling: dict[int, list[float]] = field(default_factory=dict)
    rooms: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


def measure(num_starts: int, steps: int, rounds: int, counts: Sequence[int]) -> Measured:
    """Time everything in turn, `rounds` times over, so that a slow minute of the machine hits all alike."""
    starts = peers.starts_of(num_starts)
    require_agreement(starts)
    scaling_steps = {count: max(1, min(steps, max(1_000, SCALING_WORK // count))) for count in counts}
    many = {count: peers.starts_of(count) for count in counts}
    rooms = four_rooms()
    iterate = partial(trajectory, rooms.mdp, peers.SPG, rooms.start_policy[..., None], [ROOMS_STEPS])
    for warm_up in (iterate, *(partial(peers.lab, many[count], 1) for count in counts)):
        warm_up()
    found = Measured(load=[os.getloadavg()[0]])
    for _ in range(rounds):
        for name, run in CONTENDERS.items():
            found.contenders.setdefault(name, []).append(timed(partial(run, starts, steps), steps))
        for count, length in scaling_steps.items():
            cost = timed(partial(peers.lab, many[count], length), count * length)
            found.scaling.setdefault(count, []).append(cost.cpu)
        found.rooms.append(timed(iterate, ROOMS_STEPS).wall)
    found.load.append(os.getloadavg()[0])
    return found


def require_agreement(starts: np.ndarray) -> None:
    """Raise `AssertionError` unless all contenders compute the same policies; compiles the lab's on the way."""
    ours = peers.lab(starts, AGREEMENT_STEPS)
    for run in CONTENDERS.values():
        np.testing.assert_allclose(run(starts, AGREEMENT_STEPS), ours, rtol=1e-9)


def timed(call: Callable[[], object], parts: int) -> Seconds:
    """Time of one call, divided by the number of its parts."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return Seconds((time.perf_counter() - wall) / parts, (time.process_time() - cpu) / parts)


def report(found: Measured, num_starts: int, steps: int) -> str:
    """The tables; numbers are medians over the rounds, with the lowest and highest in brackets."""
    rounds = len(found.rooms)
    rows = []
    for name, per_step in found.contenders.items():
        columns = [[getattr(one, clock) for one in per_step] for clock in Seconds._fields]
        ratios = [f"{spread(ratios_to_lab(found, name, clock), 1, 2)} ×" for clock in Seconds._fields]
        rows.append([name, *(spread(column, 1e6, 1) for column in columns), *ratios])
    header = ["", "wall, µs per step of all starts", "CPU, µs", "wall time / lab's", "CPU time / lab's"]
    size = f"{num_starts:,} starts × {steps:,} steps, K = {peers.ACTIONS}, float64"
    load = " and ".join(f"{load:.1f}" for load in found.load)
    scaling = [[f"{count:,}", spread(costs, 1e9, 1)] for count, costs in found.scaling.items()]
    return "\n\n".join(
        [
            f"Medians of {rounds} interleaved round{'s' * (rounds > 1)}, lowest–highest in brackets; load average "
            f"before and after: {load}.",
            f"### Softmax policy gradient, {size}\n\n{common.table(header, rows)}",
            "### Cost as starts grow\n\n" + common.table(["starts", "CPU, ns per start and step"], scaling),
            "### Goals of the lab\n\n"
            + common.table(["what", "target", "measured", "reached"], goals(found)),
        ]
    )


def goals(found: Measured) -> list[list[str]]:
    """One row for each target of the issue."""
    ratio = median(ratios_to_lab(found, "NumPy, usual", "wall"))
    rows = [
        [f"usual NumPy / lab, wall time, {words}", f"≥ {least:g} ×", f"{ratio:.2f} ×", yes(ratio >= least)]
        for words, least in TARGETS.items()
    ]
    flat = [median(costs) for count, costs in found.scaling.items() if count >= 100]
    if flat:
        worst = max(flat) / min(flat)
        rows.append(
            ["dearest / cheapest from 100 starts on", "flat: ≤ 2 ×", f"{worst:.2f} ×", yes(worst <= 2)]
        )
    rooms = median(found.rooms) * 1e3
    rows.append(["four rooms, one exact iteration", "< 1 ms", f"{rooms:.2f} ms", yes(rooms < 1)])
    return rows


def ratios_to_lab(found: Measured, name: str, clock: str) -> list[float]:
    """A contender's time as a multiple of the lab's in the same round."""
    pairs = zip(found.contenders[name], found.contenders["lab"], strict=True)
    return [getattr(other, clock) / getattr(ours, clock) for other, ours in pairs]


def spread(values: Sequence[float], scale: float, digits: int) -> str:
    """median (lowest–highest), times `scale`."""
    middle, low, high = (f"{scale * v:,.{digits}f}" for v in (median(values), min(values), max(values)))
    return f"{middle} ({low}–{high})"


def yes(reached: bool) -> str:
    """The word in the table."""
    return "yes" if reached else "**no**"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(description="How fast the theory lab is, against NumPy.")
    parser.add_argument("--starts", type=common.positive, default=4096)
    parser.add_argument("--steps", type=common.positive, default=100_000)
    parser.add_argument("--rounds", type=common.positive, default=3)
    parser.add_argument("--write", action="store_true", help="put the tables into the README")
    parser.add_argument("--readme", type=Path, default=common.README, help="the README to write into")
    arguments = parser.parse_args(argv)
    found = measure(arguments.starts, arguments.steps, arguments.rounds, COUNTS)
    text = f"{common.machine_line(common.machine())}\n\n{report(found, arguments.starts, arguments.steps)}"
    print(text, flush=True)
    if arguments.write:
        common.replace_section(arguments.readme, "lab", text)


if __name__ == "__main__":
    main()
