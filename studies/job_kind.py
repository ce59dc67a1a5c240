"""Kinds of runs for `ev study` that take the settings of PPO and compute with another job than the trainer's own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import Job, Observer, Status, canonical_json, resume, spec_hash, start
from escapevelocity.runs.process import trainer_process
from escapevelocity.runs.spec import SPEC_FILE, spec_from_json
from escapevelocity.study.ppo_kind import PPOKind
from escapevelocity.study.standing import finished_status


class JobKind(PPOKind):
    """PPO's settings, computed by `job`. Specs and records look alike, and the job's name tells the runs apart.

    Args:
        job: takes a `PPOSpec` without remedies.
    """

    def __init__(self, job: Job[PPOSpec, Any]) -> None:
        self._job = job
        self.name = job.name

    def folder(self, spec: PPOSpec) -> str:
        """TASK-JOB-HASH."""
        return f"{spec.task}-{self.name}-{spec_hash(spec, self.name)}"

    def spec_text(self, spec: PPOSpec) -> str:
        """Canonical JSON."""
        return canonical_json(spec, self.name)

    def run(self, spec_text: str, path: Path, observers: Sequence[Observer]) -> Status:
        """Start the run in the folder `path`, or go on with what is there; a finished run is returned as it is.

        Raises:
            UserError: it has come to its end, and its spec.json has been edited since.
        """
        spec = spec_from_json(PPOSpec, json.loads(spec_text)["spec"])
        with trainer_process():
            if not (path / SPEC_FILE).exists():
                return start(self._job, spec, path, observers)
            return finished_status(path, spec, spec_text) or resume(self._job, spec, path, observers)
