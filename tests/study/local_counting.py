"""A kind of run for the tests of executors: it counts, notes each segment that it computes, and can be told to die.

Worker processes import it by name, from the folder of the tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.runs import (
    Observer,
    RunFailed,
    Status,
    canonical_json,
    read_status,
    resume,
    spec_from_json,
    spec_hash,
    start,
)
from escapevelocity.study.kinds import register_kind
from escapevelocity.study.plan import Order
from escapevelocity.study.work import do
from escapevelocity.study.worker import Worker


@dataclasses.dataclass(frozen=True)
class CountSpec:
    """What to count."""

    seeds: tuple[int, ...] = (1,)
    segments: int = 4
    rows: int = 2
    start: int = 0
    fault: str = ""  # "segment:kind", kind one of fail, raise, kill (always), kill-once, interrupt-once
    pause: float = dataclasses.field(default=0.0, metadata={"observer": True})  # seconds per row
    diary: str = dataclasses.field(default="", metadata={"observer": True})  # folder of notes


class CountJob:
    """Counts rows."""

    name = "local-count"

    def segments(self, spec: CountSpec) -> int:
        return spec.segments

    def step(self, spec: CountSpec, k: int) -> int:
        return 10 * spec.rows * k

    def initial_state(self, spec: CountSpec) -> dict[str, Any]:
        return {"count": np.asarray(spec.start, np.int64)}

    def segment(self, spec: CountSpec, state: dict[str, Any], k: int, emit: Any) -> dict[str, Any]:
        diary, count = Path(spec.diary), int(state["count"])
        note(diary, spec, f"segment {k} pid {os.getpid()}")
        for index in range(spec.rows):
            batch = k * spec.rows + index
            time.sleep(spec.pause)
            for seed in spec.seeds:
                count += seed
                if not emit({"seed": seed, "batch": batch, "env_steps": 10 * (batch + 1), "count": count}):
                    return state
            if spec.fault.startswith(f"{k}:") and index == 0:
                break_down(spec.fault.partition(":")[2], diary / f"died-{spec.start}")
        return {"count": np.asarray(count)}


def break_down(kind: str, marker: Path) -> None:
    if kind == "fail":
        raise RunFailed("loss is nan in batch 7")
    if kind == "raise":
        raise ArithmeticError("a bug\nin the job")
    if kind == "kill" or not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGINT if kind == "interrupt-once" else signal.SIGKILL)


def note(diary: Path, spec: CountSpec, text: str) -> None:
    with open(diary / f"{spec.start}.txt", "a", encoding="utf-8") as file:
        file.write(text + "\n")


def notes(diary: Path, start: int) -> list[str]:
    path = diary / f"{start}.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


class CountKind:
    """Makes counting runs parts of a study."""

    name = CountJob.name

    def spec(self, settings: Mapping[str, Any], seeds: tuple[int, ...]) -> CountSpec:
        return CountSpec(seeds=seeds, **settings)

    def folder(self, spec: CountSpec) -> str:
        return f"count-{spec_hash(spec, self.name)}"

    def spec_text(self, spec: CountSpec) -> str:
        return canonical_json(spec, self.name)

    def steps(self, spec: CountSpec) -> int:
        return 10 * spec.rows * spec.segments

    def run(self, spec_text: str, path: Path, observers: Sequence[Observer]) -> Status:
        print("a line of the training's own", flush=True)
        spec = spec_from_json(CountSpec, json.loads(spec_text)["spec"])
        if not (path / "spec.json").exists():
            return start(CountJob(), spec, path, observers)
        with contextlib.suppress(UserError):  # A run that was killed early has no status.json yet.
            status = read_status(path)
            if status.state == "finished":
                return status
        return resume(CountJob(), spec, path, observers)


def order(diary: Path, number: int, **settings: Any) -> Order:
    """The order of a run that counts from `number`."""
    kind = CountKind()
    seeds = settings.pop("seeds", (1,))
    spec = kind.spec({"start": number, "diary": str(diary), **settings}, seeds)
    text, labels = kind.spec_text(spec), {"start": number}
    return Order(f"count-{number}", kind.name, text, labels, seeds, kind.steps(spec), ("local_counting",))


class HereWorker(Worker):
    """Stands in for `Worker` where processes do not matter: it trains in this one, as soon as it is told."""

    def __init__(self, log, cores=(), threads=None, answers=None):
        self.answers = answers

    def submit(self, order, store):
        # The tests' own process may hold any amount of memory.
        self.answers.put((self, dataclasses.replace(do(order, store), memory=50_000_000)))

    def resident(self):
        return 0

    def close(self):
        pass


register_kind(CountKind())
