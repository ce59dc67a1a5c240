"""Settings read from a run or a spec.json: text that may come from a stranger."""

import os
import sys

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import load_spec


def saved_spec(path: str | os.PathLike[str]) -> PPOSpec:
    """Read the settings of a PPO run.

    Gymnasium imports MODULE for a task named `MODULE:id`. A file must not decide what is imported, so such a task
    is accepted only when its module has been imported already.

    Args:
        path: the run's folder, or its spec.json.

    Raises:
        UserError: not the settings of a PPO run, or a task that names a module which is not imported.
    """
    spec = load_spec(PPOSpec, path, "ppo")
    module, colon, _ = spec.task.partition(":")
    if colon and module not in sys.modules:
        raise UserError(
            f"task = {spec.task!r}: {os.fspath(path)} names a module, and opening a run imports none; if you trust it, "
            f"import {module} first (ev: --import {module})"
        )
    return spec
