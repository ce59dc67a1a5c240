"""Measures the gaps of the finished runs, and writes the kept history, the figures and the page's sections."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks._common import write_json

from escapevelocity.metric_learning.config import ASRSpec, ControllerConfig, SamplerConfig
from escapevelocity.metric_learning.job import ASRJob, split_of
from escapevelocity.metric_learning.period import embed
from escapevelocity.metric_learning.retrieval import evaluate_retrieval
from escapevelocity.metric_learning.training import saved_spec
from escapevelocity.report import _figure
from escapevelocity.runs import Run, open_run
from escapevelocity.runs.atomic import make_folder, write_bytes
from escapevelocity.study.grid import Study, cells
from escapevelocity.study.history import History
from escapevelocity.study.kinds import kind
from escapevelocity.study.papers.asr import FIGURES
from escapevelocity.study.papers.asr.figures import GRAVITY_WELL, HEADS_FIGURE, RATES
from escapevelocity.study.papers.asr.size import asr_study
from escapevelocity.study.plan import plan
from escapevelocity.study.store import open_store
from studies.asr.clock import AGENTS, gap_at_decisions, simulated_escapes
from studies.asr.gaps import measure_gaps, policies_of
from studies.asr.gaps_figure import draw
from studies.asr.gaps_page import clock_section, escapes_text, gaps_of, needed_gap, section
from studies.running import finished, gathered

CLOCK_GAPS = (1.0, 0.3, 0.1, 0.0)
CLOCK_DECISIONS = 600
_DEPTHS = (
    "Falls of each of the six curves: how many seeds fell by more than their curve's noise, the deepest, and in "
    "brackets the range over seeds of what counts as noise; nothing smaller could be seen."
)
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
            _complete(kept, task)
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
        entry["simulated"] = _simulated(entry, found["clock"])
        write_json(kept, found)
        _complete(kept, task)


def _complete(kept: Path, task: str) -> None:
    """Add what older files lack and no run is needed for: simulations read at checkpoints, untrained networks."""
    found = json.loads(kept.read_text())
    entry = found[task]
    if any("seen" not in one for one in entry["simulated"].values()):
        entry["simulated"] = _simulated(entry, found["clock"])
    if "untrained" not in entry:
        entry["untrained"] = _untrained(task)
    write_json(kept, found)


def _untrained(task: str) -> dict[str, float]:
    """Recall@1 of the unseen classes by the networks that the runs begin with, by seed."""
    study = gap_study(task)
    spec: ASRSpec = kind("asr").spec(cells(study)[0].settings, study.seeds)
    test, found = split_of(spec).test, {}
    for seed, member in zip(spec.seeds, ASRJob().initial_state(spec).members, strict=True):
        embeddings = embed(spec, member.learner.network, test)
        metrics = evaluate_retrieval(embeddings, test.labels, seed=seed, names=("recall_at_1",))
        found[str(seed)] = round(float(metrics["recall_at_1"]), 4)
    return found


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
            parts += [f"### {TASK_NAMES[task]}", "", *figure.table(own), "", *said, ""]
            if figure is GRAVITY_WELL:
                parts += [_DEPTHS, "", *GRAVITY_WELL.depths(own), ""]
            parts += [picture, ""]
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
    together = ["### All seeds against the simulated agents", escapes_text(entries)]
    return "\n\n".join(["### The agent's own clock", clock, *parts, *together, picture])


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


def _simulated(entry: dict[str, Any], clock: dict[str, Any]) -> dict[str, Any]:
    """The agent under the measured gap, at every rate, and what is seen of it at the run's checkpoints."""
    gaps, found = gaps_of(entry), {}
    for rate in RATES:
        checkpoints = sorted(int(key) for key in entry["policies"][str(rate)])
        line = gap_at_decisions(gaps.points, gaps.gap.mean(axis=1), checkpoints[-1])
        config = ControllerConfig(controller_learning_rate=rate)
        escapes = simulated_escapes(config, SamplerConfig(), np.clip(line, -1, 1), gaps.third, AGENTS)
        quantiles = np.quantile(escapes.probs, (0.05, 0.5, 0.95), axis=0)
        found[str(rate)] = {
            "gaps": [round(float(x), 6) for x in line],
            "needed": needed_gap(clock, rate),
            "share": escapes.share(len(line)),
            "seen": escapes.seen([done for done in checkpoints if done > 0]),
            "quantiles": [[round(float(x), 4) for x in row] for row in quantiles],
            "end_quantiles": [round(float(x), 4) for x in quantiles[:, -1]],
        }
    return found
