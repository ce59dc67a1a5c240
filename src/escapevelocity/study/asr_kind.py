"""Runs of adaptive sampling in a study: settings as `ev asr train` would take them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from escapevelocity.errors import require
from escapevelocity.metric_learning.config import ASRSpec, DataName
from escapevelocity.metric_learning.job import ASRJob, require_trainable
from escapevelocity.metric_learning.presets import preset_spec
from escapevelocity.metric_learning.training import resume_training, run_path, train
from escapevelocity.runs import Observer, Status, canonical_json, spec_from_json
from escapevelocity.runs.spec import SPEC_FILE
from escapevelocity.study.settings import with_settings
from escapevelocity.study.standing import finished_status

_FIXED = ("seeds", "branch", "data_dir")  # Not settings of a cell.


class ASRKind:
    """The trainer of `escapevelocity.metric_learning`. Images are looked for where EV_DATA_DIR says."""

    name = ASRJob.name

    def spec(self, settings: Mapping[str, Any], seeds: tuple[int, ...]) -> ASRSpec:
        """Lay settings over those that fit the images.

        Args:
            settings: by name; `data` is needed.
            seeds: the population.

        Raises:
            UserError: an unknown setting, images that are unknown, missing or too few, or a value out of its range.
        """
        given = dict(settings)
        names = get_args(DataName)
        require(given.get("data") in names, "data", given.get("data"), f"one of {', '.join(names)}")
        spec = with_settings(preset_spec(given["data"]), given, fixed=_FIXED)
        require_trainable(spec)
        return dataclasses.replace(spec, seeds=seeds)

    def folder(self, spec: ASRSpec) -> str:
        """The name that `ev asr train` gives a run of this spec."""
        return run_path(spec).name

    def spec_text(self, spec: ASRSpec) -> str:
        """Canonical JSON."""
        return canonical_json(spec, self.name)

    def steps(self, spec: ASRSpec) -> int:
        """Training steps per seed, in whole periods."""
        return spec.num_periods * spec.controller.every

    def run(self, spec_text: str, path: Path, observers: Sequence[Observer]) -> Status:
        """Train, or go on with what is there.

        Raises:
            UserError: it has come to its end, and its spec.json has been edited since.
            KeyboardInterrupt, SystemExit: a signal came; the run has been left in order.
        """
        spec = spec_from_json(ASRSpec, json.loads(spec_text)["spec"])
        if not (path / SPEC_FILE).exists():
            return train(spec, path.parent, path.name, observers).status
        return finished_status(path, spec, spec_text) or resume_training(path, observers).status
