"""Measures the gaps of the finished runs, and writes the kept history, the figures and the page's sections."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks._common import write_json

from escapevelocity.metric_learning.config import ControllerConfig, SamplerConfig
from escapevelocity.metric_learning.training import saved_spec
from escapevelocity.report import _figure
from escapevelocity.runs import Run, open_run
from escapevelocity.runs.atomic import make_folder, write_bytes
from escapevelocity.study.grid import Study
from escapevelocity.study.history import History
from escapevelocity.study.papers.asr import FIGURES
from escapevelocity.study.papers.asr.figures import HEADS_FIGURE, RATES
from escapevelocity.study.papers.asr.size import asr_study
from escapevelocity.study.plan import plan
from escapevelocity.study.store import open_store
from studies.asr.clock import gap_at_decisions, simulated_escapes
from studies.asr.gaps import measure_gaps, policies_of
from studies.asr.gaps_page import clock_section, draw, gaps_of, needed_gap, section
from studies.running import finished, gathered

CLOCK_GAPS = (1.0, 0.3, 0.1, 0.0)
CLOCK_DECISIONS = 600
TASK_NAMES = {"omniglot": "Omniglot", "mnist": "MNIST"}


def measure_all(store: Path, kept: Path, tasks: list[str]) -> None:
    """Branches, policies and simulations of the runs that begin broad, with softmax at every rate.

    Args:
        store: of the runs.
        kept: JSON file; what it holds is not measured again.
        tasks: images.
    """
    _calibrate(kept)
    for task in tasks:
        if is_measured(kept, task):
            continue
        runs = _softmax_runs(store, task)
        if len(runs) < len(RATES):
            print(
                f"{task}: {len(runs)} of {len(RATES)} runs are finished; the gaps wait for them", flush=True
            )
            continue
        run = runs[0.01]
        measure_gaps(run, saved_spec(run.path), kept, task, lambda text: print(text, flush=True))
        found = json.loads(kept.read_text())
        entry = found[task]
        entry["policies"] = {str(rate): policies_of(one, saved_spec(one.path)) for rate, one in runs.items()}
        entry["simulated"] = _simulated(entry, runs, found["clock"])
        write_json(kept, found)


def report(store: Path, kept: Path, gaps: Path, folder: Path) -> dict[str, str]:
    """Gather the runs, draw the figures, and write each section of the page.

    Args:
        store: of the runs; without it the kept history is drawn from.
        kept: the history that stays in the repository.
        gaps: what `measure_all` has written.
        folder: of the figures.

    Returns:
        Texts by section.
    """
    history = finished(gathered(store, kept))
    make_folder(folder)
    sections = {}
    for figure in FIGURES:
        name = figure.id.split("/")[1]
        parts = []
        for task in TASK_NAMES:
            own = _of(history, task)
            said = [f"- {text}" for text in figure.answers(own, task)] if own.runs else []
            if not said:
                continue
            with _figure.paper_style():
                write_bytes(folder / f"{name}-{task}.png", _figure.encode(figure.draw(own, task), "png"))
            picture = f"![{figure.title}, {TASK_NAMES[task]}](figures/{name}-{task}.png)"
            parts += [f"### {TASK_NAMES[task]}", "", *figure.table(own), "", *said, "", picture, ""]
        sections[name] = "\n".join(parts) or "Not run yet."
    sections["gaps"] = _gaps_text(gaps, folder)
    return sections


def _gaps_text(gaps: Path, folder: Path) -> str:
    found: dict[str, Any] = json.loads(gaps.read_text()) if gaps.exists() else {}
    entries = {TASK_NAMES[task]: found[task] for task in TASK_NAMES if "simulated" in found.get(task, {})}
    if not entries:
        return "Not run yet."
    draw(entries, folder / "gaps.png")
    clock = clock_section(found["clock"])
    parts = [section(name, entry) for name, entry in entries.items()]
    picture = "![r(t), the gap and the policy, predicted and observed](figures/gaps.png)"
    return "\n\n".join(["### The agent's own clock", clock, *parts, picture])


def _of(history: History, task: str) -> History:
    """The runs on these images, of scale paper."""
    steps = FIGURES[0].study(task, "paper").base["steps"]
    return history.where(data=task, steps=steps) if history.runs else history


def gap_study(task: str) -> Study:
    """The runs that the gaps are measured on: from the broad start with softmax, at every rate of the controller."""
    arms = tuple(arm.axis_value for arm in HEADS_FIGURE.arms if arm.settings["head"] == "softmax")
    return asr_study("gaps", task, "paper", {"arm": arms})


def is_measured(kept: Path, task: str) -> bool:
    """Whether `measure_all` has nothing left to do for these images."""
    return kept.exists() and "simulated" in json.loads(kept.read_text()).get(task, {})


def _softmax_runs(store: Path, task: str) -> dict[float, Run]:
    """Those of them that are finished, by the controller's rate."""
    opened = open_store(store)
    found = {}
    for planned in plan(gap_study(task), opened, record=False):
        if planned.state == "finished":
            run = open_run(opened.run_path(planned.order.name))
            found[saved_spec(run.path).controller.controller_learning_rate] = run
    return found


def _calibrate(kept: Path) -> None:
    """Simulate the agent under constant gaps at every rate."""
    found = json.loads(kept.read_text()) if kept.exists() else {}
    clock = found.setdefault("clock", {})
    for rate in RATES:
        for gap in CLOCK_GAPS:
            if f"{rate}/{gap}" in clock:
                continue
            config = ControllerConfig(controller_learning_rate=rate)
            # The middle third; a fresh agent knows no difference between thirds of (nearly) equal size.
            escapes = simulated_escapes(config, SamplerConfig(), np.full(CLOCK_DECISIONS, gap), third=1)
            median = escapes.median if np.isfinite(escapes.median) else None
            shares = {f"share_{within}": escapes.share(within) for within in (50, CLOCK_DECISIONS)}
            clock[f"{rate}/{gap}"] = {"median": median, **shares}
            write_json(kept, found)


def _simulated(entry: dict[str, Any], runs: dict[float, Run], clock: dict[str, Any]) -> dict[str, Any]:
    """The agent under the measured gap, at every rate."""
    gaps, found = gaps_of(entry), {}
    for rate, run in runs.items():
        spec = saved_spec(run.path)
        line = gap_at_decisions(gaps.points, gaps.gap.mean(axis=1), spec.num_periods)
        escapes = simulated_escapes(spec.controller, spec.sampler, np.clip(line, -1, 1), gaps.third)
        quantiles = np.quantile(escapes.probs, (0.05, 0.5, 0.95), axis=0)
        found[str(rate)] = {
            "gaps": [round(float(x), 6) for x in line],
            "needed": needed_gap(clock, rate),
            "share": escapes.share(spec.num_periods),
            "quantiles": [[round(float(x), 4) for x in row] for row in quantiles],
            "end_quantiles": [round(float(x), 4) for x in quantiles[:, -1]],
        }
    return found
