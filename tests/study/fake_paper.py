"""A paper whose figures need runs that count: what `ev reproduce` does is tested without training anything."""

import contextlib
import dataclasses
import json
import sys
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from escapevelocity.errors import UserError, require
from escapevelocity.runs import canonical_json, read_status, resume, spec_from_json, spec_hash, start
from escapevelocity.study.grid import Study
from escapevelocity.study.kinds import register_kind
from escapevelocity.study.work import do

ROWS = 4


@dataclasses.dataclass(frozen=True)
class SlopeSpec:
    """A line to draw."""

    seeds: tuple[int, ...] = (1,)
    way: str = "up"
    slope: int = 1
    fails: bool = False


class SlopeJob:
    """Records a score of slope × step + seed; down where the task says so."""

    name = "paper-slope"

    def segments(self, spec: SlopeSpec) -> int:
        return 1

    def step(self, spec: SlopeSpec, k: int) -> int:
        return 10 * ROWS * k

    def initial_state(self, spec: SlopeSpec) -> dict[str, Any]:
        return {"count": np.zeros((), np.int64)}

    def segment(self, spec: SlopeSpec, state: dict[str, Any], k: int, emit: Any) -> dict[str, Any]:
        if spec.fails:
            raise ArithmeticError("a bug")
        for batch in range(ROWS):
            for seed in spec.seeds:
                score = float((1 if spec.way == "up" else -1) * spec.slope * 10 * (batch + 1) + seed)
                emit({"seed": seed, "batch": batch, "env_steps": 10 * (batch + 1), "score": score})
        return state


class SlopeKind:
    """Makes such runs parts of a study, and notes which of them it computes."""

    name = SlopeJob.name

    def __init__(self) -> None:
        self.computed: list[str] = []

    def spec(self, settings: Any, seeds: tuple[int, ...]) -> SlopeSpec:
        return SlopeSpec(seeds=seeds, **settings)

    def folder(self, spec: SlopeSpec) -> str:
        return f"{spec.way}-{spec_hash(spec, self.name)}"

    def spec_text(self, spec: SlopeSpec) -> str:
        return canonical_json(spec, self.name)

    def steps(self, spec: SlopeSpec) -> int:
        return 10 * ROWS

    def run(self, spec_text: str, path: Any, observers: Any) -> Any:
        spec = spec_from_json(SlopeSpec, json.loads(spec_text)["spec"])
        if not (path / "spec.json").exists():
            self.computed.append(f"{spec.way} {spec.slope}")
            return start(SlopeJob(), spec, path, observers)
        with contextlib.suppress(UserError):
            if (status := read_status(path)).state == "finished":
                return status
        return resume(SlopeJob(), spec, path, observers)


KIND = register_kind(SlopeKind())


@dataclasses.dataclass(frozen=True)
class LastScores:
    """A figure of the last scores by slope."""

    id: str
    slopes: tuple[int, ...]
    tasks: tuple[str, ...] = ("up", "down")
    fails: bool = False
    title: str = "last scores"
    claim: str = "A larger slope has a larger last score."

    def study(self, task: str, scale: str) -> Study:
        seeds = (1, 2) if scale == "small" else (1, 2, 3)
        base = {"way": task} | ({"fails": True} if self.fails else {})
        return Study(self.id.replace("/", "-"), base, {"slope": self.slopes}, seeds, job=KIND.name)

    def last(self, history: Any) -> dict[int, float]:
        return {
            run.settings["slope"]: float(history.values(run, "score").values[:, -1].mean())
            for run in history.runs
        }

    def draw(self, history: Any, task: str) -> Figure:
        require(len(history.runs) > 1, "runs", len(history.runs), "two or more, to be compared")
        figure = Figure()
        figure.add_subplot().plot(*zip(*sorted(self.last(history).items()), strict=True))
        return figure

    def measured(self, history: Any, task: str) -> list[str]:
        last = sorted(self.last(history).items())
        return [
            f"{task}: " + ", ".join(f"{slope}: {score:g}" for slope, score in last) + ".",
            f"{len(last)} runs.",
        ]


FIGURES = (
    LastScores("fake/figure-1", (1, 2)),
    LastScores("fake/figure-2", (2, 3)),
    LastScores("fake/figure-3", (1, 2), tasks=("up",), fails=True),
    LastScores("fake/figure-4", (1,), tasks=("up",)),
)
"""Figures 1 and 2 share the run with slope 2; the runs of 3 fail; 4 cannot be drawn from the one run it has."""


class HereExecutor:
    """Trains in this process, one run after the other."""

    def run(self, orders: Any, store: Any, tell: Any) -> list[Any]:
        return [do(order, store) for order in orders]


def install(monkeypatch: Any) -> None:
    """Make the paper known, and forget what was computed."""
    from escapevelocity.study.papers import registry

    monkeypatch.setitem(sys.modules, "fake_paper_module", sys.modules[__name__])
    monkeypatch.setitem(registry.PAPERS, "fake", "fake_paper_module")
    KIND.computed.clear()
