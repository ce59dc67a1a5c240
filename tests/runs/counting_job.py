"""A job that counts and draws, with NumPy only: the smallest engine job. Also a command, to be killed."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from escapevelocity.runs import Observer, RunFailed, checkpoint, read_records, resume, start


@dataclasses.dataclass(frozen=True)
class CountingSpec:
    """What to count."""

    segments: int = 4
    rows: int = 3
    seeds: tuple[int, ...] = (1, 2)
    fault: str = ""  # "segment:batch:kind", kind one of fail, raise, survive
    pause: float = dataclasses.field(default=0.0, metadata={"observer": True})  # seconds per row


class CountingJob:
    """Counts rows and walks at random, each segment seeded from the spec and its number alone."""

    name = "count"

    def segments(self, spec: CountingSpec) -> int:
        return spec.segments

    def step(self, spec: CountingSpec, k: int) -> int:
        return k * spec.rows * 10

    def initial_state(self, spec: CountingSpec) -> dict[str, Any]:
        return {"count": np.zeros((), np.int64), "walk": {"position": np.zeros((len(spec.seeds), 3))}}

    def segment(self, spec: CountingSpec, state: dict[str, Any], k: int, emit: Any) -> dict[str, Any]:
        generators = [np.random.default_rng([seed, k]) for seed in spec.seeds]
        count, position = int(state["count"]), state["walk"]["position"].copy()
        for index in range(spec.rows):
            batch = k * spec.rows + index
            if spec.fault.startswith(f"{k}:{index}:"):
                kind = spec.fault.rpartition(":")[2]
                if kind == "survive":
                    emit.fault(
                        "seed-1", f"seed 1, batch {batch}: frozen", {"state-seed-1": {"x": position[0]}}
                    )
                else:
                    self.break_down(kind, position)
            time.sleep(spec.pause)
            for member, seed in enumerate(spec.seeds):
                position[member] += generators[member].normal(size=3)
                count += 1
                row = {"seed": seed, "batch": batch, "env_steps": 10 * (batch + 1), "x": position[member, 0]}
                row["undefined"] = float("nan")
                if batch % 2 == 0:
                    row["sometimes"] = count
                if not emit(row):
                    return state
            if index == 0:
                emit.snapshot(k, 10 * batch, {"position": position})
        return {"count": np.asarray(count), "walk": {"position": position}}

    @staticmethod
    def break_down(kind: str, position: np.ndarray) -> None:
        if kind == "fail":
            raise RunFailed("loss is nan in batch 7, minibatch 2", {"last good": {"position": position}})
        raise ArithmeticError("a bug\nin the job")


class Recorder(Observer):
    """Remembers what an observer is told, and stops after a number of rows."""

    def __init__(self, stop_after: int | None = None, reason: str = "enough") -> None:
        self.reason = reason
        self.stop_after = stop_after
        self.info: Any = None
        self.rows: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.status: Any = None

    def on_start(self, info: Any) -> None:
        self.info = info

    def on_row(self, row: Any) -> bool | None:
        self.rows.append(dict(row))
        return False if self.stop_after is not None and len(self.rows) >= self.stop_after else None

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_end(self, status: Any) -> None:
        self.status = status


class Announcer(Observer):
    """Prints each row, so that a test knows that the process is inside a segment."""

    def on_row(self, row: Any) -> None:
        print(f"row {row['batch']}", flush=True)


def contents(run_dir: Path) -> dict[str, Any]:
    """All that must not depend on interruptions: records but wall time, checkpoints and snapshots."""
    found: dict[str, Any] = {"records": repr(read_records(run_dir).drop_columns(["wall_time"]).to_pylist())}
    for kind in ("checkpoints", "snapshots"):
        folder = run_dir / kind
        for number in checkpoint.numbers(folder):
            for name, array in checkpoint.load_arrays(folder, number).items():
                found[f"{kind}/{number}/{name}"] = (array.dtype.name, array.shape, array.tobytes())
    return found


def main() -> int:
    """Run or resume the spec in a folder: `counting_job.py start|resume FOLDER SEGMENTS ROWS PAUSE`."""
    verb, folder, segments, rows, pause = sys.argv[1:]
    spec = CountingSpec(segments=int(segments), rows=int(rows), pause=float(pause))
    go = start if verb == "start" else resume
    return go(CountingJob(), spec, Path(folder), [Announcer()]).exit_code


if __name__ == "__main__":
    sys.exit(main())
