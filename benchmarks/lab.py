"""The lab's speed: bandit starts × steps against vectorised NumPy, scaling with starts, one four-rooms iteration.

    python -m benchmarks.lab [--steps 2000]

Times are per step and so independent of --steps, but for a fixed start of a few milliseconds. Compilation is left
out of all times: every program runs once before.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from escapevelocity.lab import Bandit, corner_starts, four_rooms, spg, trajectory

ACTIONS, RATE = 10, 0.4
REWARDS = np.linspace(0.2, 0.7, ACTIONS)


def numpy_spg(starts: np.ndarray, steps: int) -> np.ndarray:
    """Softmax policy gradient as one would write it in NumPy, starts first, in place where that is faster."""
    theta = np.ascontiguousarray(np.log(starts).T)
    for _ in range(steps):
        probs = np.exp(theta - theta.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        probs *= RATE * (REWARDS - (probs @ REWARDS)[:, None])
        theta += probs
    probs = np.exp(theta - theta.max(axis=1, keepdims=True))
    return (probs / probs.sum(axis=1, keepdims=True)).T


def numpy_spg_batch_last(starts: np.ndarray, steps: int) -> np.ndarray:
    """The same with starts last and no temporaries: the fastest NumPy that we found."""
    theta = np.log(starts)
    probs, rewards = np.empty_like(theta), REWARDS[:, None]
    for _ in range(steps):
        np.subtract(theta, theta.max(axis=0), out=probs)
        np.exp(probs, out=probs)
        probs /= probs.sum(axis=0)
        probs *= RATE * (rewards - REWARDS @ probs)
        theta += probs
    probs = np.exp(theta - theta.max(axis=0))
    return probs / probs.sum(axis=0)


METHOD = spg(RATE)


def lab_spg(starts: np.ndarray, steps: int) -> np.ndarray:
    """The lab's own loop."""
    return trajectory(Bandit(REWARDS), METHOD, starts, [steps]).probs[0]


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time of `call` after one call that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def starts_of(count: int) -> np.ndarray:
    """So many starts at one corner, from bad to hopeless."""
    return corner_starts(ACTIONS, 0, np.geomspace(1e-6, 1e-2, count))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000, help="steps per measurement")
    steps = parser.parse_args().steps
    starts = starts_of(4096)
    results = [run(starts, 100) for run in (lab_spg, numpy_spg, numpy_spg_batch_last)]
    for other in results[1:]:
        np.testing.assert_allclose(results[0], other, rtol=1e-9)
    lab = seconds(lambda: lab_spg(starts, steps)) / steps
    print(f"4,096 starts × K = {ACTIONS}, float64, µs per step: lab {lab * 1e6:.0f}")
    for run in (numpy_spg, numpy_spg_batch_last):
        peer = seconds(lambda run=run: run(starts, steps)) / steps
        print(f"  {run.__name__}: {peer * 1e6:.0f}, {peer / lab:.1f} × the lab's time")
    print("starts: ns per (start × step)")
    for count in (1, 10, 100, 1000, 10_000, 100_000):
        many, length = starts_of(count), max(20, steps * 100 // max(count, 100))
        print(f"  {count:7,d}: {seconds(lambda m=many, n=length: lab_spg(m, n)) / length / count * 1e9:.1f}")
    rooms = four_rooms()
    start = rooms.start_policy[..., None]
    per_step = seconds(lambda: trajectory(rooms.mdp, METHOD, start, [500])) / 500
    print(f"four rooms, one exact policy-gradient iteration: {per_step * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
