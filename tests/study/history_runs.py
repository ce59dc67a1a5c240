"""Small runs by the real engine for the tests of histories, the index and the live view."""

import dataclasses
from typing import Any

import numpy as np

from escapevelocity.runs import Origin, canonical_json, open_run, parent_at, seen_from, spec_hash, start
from escapevelocity.study.settings import with_settings


@dataclasses.dataclass(frozen=True)
class ScriptSpec:
    """What a run writes."""

    seeds: tuple[int, ...] = (5, 3)
    segments: int = 2
    batches: int = 4  # per segment
    task: str = "script"
    scale: float = 1.0
    extra: str = ""  # a column that only this run has
    branch: str = ""


class ScriptJob:
    """Writes x = scale · (1000 · seed + env_steps) every 10 steps, and whatever a test wants besides."""

    name = "script"

    def segments(self, spec: ScriptSpec) -> int:
        return spec.segments

    def step(self, spec: ScriptSpec, k: int) -> int:
        return 10 * spec.batches * k

    def initial_state(self, spec: ScriptSpec) -> dict[str, Any]:
        return {"x": np.zeros(1)}

    def segment(self, spec: ScriptSpec, state: dict[str, Any], k: int, emit: Any) -> dict[str, Any]:
        for batch in range(k * spec.batches, (k + 1) * spec.batches):
            for seed in spec.seeds:
                steps = 10 * (batch + 1)
                row = {"seed": seed, "batch": batch, "env_steps": steps, "fault": "", "time/update": 0.25}
                row["x"] = spec.scale * (1000 * seed + steps)
                if spec.extra:
                    row[spec.extra] = batch
                if not emit(row):
                    return state
        return state


def make_run(folder, observers=(), **settings):
    """Make a run, finished unless an observer stops it."""
    spec = ScriptSpec(**settings)
    start(ScriptJob(), spec, folder, list(observers))
    return spec


def make_branch(parent, number, folder, **settings):
    """Branch a run at its checkpoint `number`."""
    point = parent_at(open_run(parent), number)
    point = dataclasses.replace(point, path=seen_from(folder, point.path))
    spec = ScriptSpec(branch=point.spec_hash, **settings)
    origin = Origin(point, lambda: open_run(parent).load_checkpoint(number, ScriptJob().initial_state(spec)))
    start(ScriptJob(), spec, folder, [], origin)
    return spec


class ScriptKind:
    """Lets a study plan such runs; it does not run them."""

    name = "script"

    def spec(self, settings, seeds):
        return dataclasses.replace(with_settings(ScriptSpec(), settings, ("seeds",)), seeds=seeds)

    def folder(self, spec):
        return f"script-{spec_hash(spec, self.name)}"

    def spec_text(self, spec):
        return canonical_json(spec, self.name)

    def steps(self, spec):
        return 10 * spec.batches * spec.segments

    def run(self, spec_text, path, observers):
        raise NotImplementedError
