"""One training run of the remedies' table in one process: `python -m benchmarks._remedies_run JOB RESULT`."""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import write_json

ADAM_STEPS = "adam/steps"
"""Adam's step count at the end of the run; not a column of the records."""
_LAST = 0.1


def spec_of(job: Mapping[str, Any]) -> Any:
    """The settings: the task's preset, made prone to collapse by ReLU, 20 epochs and ten times the learning rate."""
    from escapevelocity.ppo.remedies import apply_remedies, remedy_class
    from escapevelocity.ppo.training import default_spec

    spec = default_spec(job["task"], seeds=job["seeds"])
    rate = 10 * spec.optimizer.learning_rate
    spec = dataclasses.replace(
        spec,
        steps=job["steps"],
        network=dataclasses.replace(spec.network, activation="relu"),
        optimizer=dataclasses.replace(spec.optimizer, epochs=20, learning_rate=rate),
    )
    return apply_remedies(spec, [remedy_class(job["remedy"])(**job["fields"])] if job["remedy"] else [])


def start_and_end(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Of every numeric column the value of each seed in its first batch, and the mean over its last tenth of batches.

    Batches without a number, such as those in which no episode ended, are left out.
    """
    seeds = sorted({row["seed"] for row in rows})
    found: dict[str, dict[str, list[float]]] = {}
    for column in sorted({name for row in rows for name in row if "/" in name}):
        if any(isinstance(row[column], str) for row in rows):
            continue
        series = [np.array([row[column] for row in rows if row["seed"] == seed], float) for seed in seeds]
        tails = [one[-max(1, int(_LAST * len(one))) :] for one in series]
        ends = [float(np.nanmean(tail)) if np.isfinite(tail).any() else float("nan") for tail in tails]
        found[column] = {"start": [float(one[0]) for one in series], "end": ends}
    return found


def train(job: Mapping[str, Any]) -> dict[str, Any]:
    """Train, and return what became of every column."""
    import escapevelocity
    from escapevelocity.ppo.job import state_template
    from escapevelocity.runs import read_records

    spec = spec_of(job)
    with tempfile.TemporaryDirectory() as folder:
        run = escapevelocity.train(spec, folder, "run")
        if run.status.state != "finished":
            raise SystemExit(f"{job['remedy'] or 'no remedy'}: {run.status.state}: {run.status.reason}")
        found = start_and_end(read_records(run.path).to_pylist())
        state = run.load_checkpoint(run.status.segments_done, state_template(spec))
        counts = [float(count) for count in np.asarray(state.learner.moments.count)]
        found[ADAM_STEPS] = {"start": [0.0] * len(counts), "end": counts}
        faults = [row["fault"] for row in read_records(run.path).to_pylist() if row["fault"]]
    return {**job, "columns": found, "faults": faults}


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), train(json.loads(sys.argv[1])))
