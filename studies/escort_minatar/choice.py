"""Each head's own best learning rate in each game, by runs that are not reported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.runs.atomic import write_json
from escapevelocity.study.grid import Study
from escapevelocity.study.history import History
from studies.escort_minatar.plan import Rates, grid, select
from studies.measures import DEAD_RETURN, at_end, by_seed
from studies.running import dead_seeds, finished

RETURN = "perf/return_mean"
LAST, LAST_TEXT = 0.1, "10 %"
"""Share of a run, at its end, that its final return is averaged over: an episode of Freeway lasts 2,500 steps."""


def scores(study: Study, history: History) -> dict[str, dict[str, dict[float, float]]]:
    """Final return, mean over seeds, by task, head and learning rate.

    A rate is worth −inf if a seed has died, its numbers not being finite any more, or has ended no episode in the
    last tenth.

    Args:
        study: the first stage.
        history: its runs; only those that have come to their end count.

    Raises:
        UserError: runs of the first stage are missing, or have not come to their end.
    """
    found: dict[str, dict[str, dict[float, float]]] = {}
    ended = finished(history)
    for (task, head, rate), cell in grid(study).items():
        runs = select(ended, cell)
        own = by_seed(runs, RETURN, at_end(LAST, DEAD_RETURN))
        missing = set(study.seeds) - own.keys()
        if missing:
            raise UserError(
                f"{task}, {head}, learning rate {rate:g}: seeds {sorted(missing)} have not been trained to "
                "their end; run the study without --report first"
            )
        mean = float(np.mean([own[seed] for seed in study.seeds]))
        found.setdefault(task, {}).setdefault(head, {})[rate] = (
            mean if np.isfinite(mean) and not dead_seeds(runs) else -np.inf
        )
    return found


def choose(study: Study, history: History) -> dict[str, Any]:
    """The rate with the largest final return, for each head in each game; what chosen.json holds.

    Args:
        study: the first stage.
        history: its runs.

    Raises:
        UserError: as `scores`; or a head has no rate that works in some game.
    """
    found = scores(study, history)
    chosen: dict[str, dict[str, float]] = {}
    for task, heads in found.items():
        for head, by_rate in heads.items():
            best = max(by_rate, key=lambda rate: by_rate[rate])
            if not np.isfinite(by_rate[best]):
                raise UserError(f"{task}, {head}: no learning rate trained every seed to its end")
            chosen.setdefault(task, {})[head] = best
    return {
        "source": study.name,
        "measure": f"mean over seeds of {RETURN} over the last {LAST_TEXT} of training; none if one has died",
        "seeds": list(study.seeds),
        "steps": study.base["steps"],
        "chosen": chosen,
        "scores": [
            {"task": task, "head": head, "learning_rate": rate, "score": s if np.isfinite(s) else None}
            for task, heads in found.items()
            for head, by_rate in heads.items()
            for rate, s in by_rate.items()
        ],
    }


def write_choice(path: Path, document: dict[str, Any]) -> None:
    """Write chosen.json."""
    write_json(path, document)


def read_choice(path: Path) -> dict[str, Any]:
    """Read chosen.json."""
    return json.loads(path.read_text(encoding="utf-8"))


def tasks_and_heads(document: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Both in the order of the study."""
    rows = document["scores"]
    return list(dict.fromkeys(row["task"] for row in rows)), list(dict.fromkeys(row["head"] for row in rows))


def at_edge(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Tasks and heads whose best rate is the smallest or largest of the grid: a better one may lie beyond."""
    rates = [row["learning_rate"] for row in document["scores"]]
    chosen: Rates = document["chosen"]
    ends = (min(rates), max(rates))
    tasks, heads = tasks_and_heads(document)
    return [(task, head) for task in tasks for head in heads if chosen[task][head] in ends]
