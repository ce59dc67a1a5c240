"""What a trainer does when the engine has come back."""

import json
import signal
from pathlib import Path
from typing import Any

from .browse import Run
from .spec import canonical_json
from .status import Status


def pass_signal_on(status: Status) -> None:
    """Go on with what a signal asked for, now that the run is in order: the caller must not go on as if nothing was.

    Raises:
        KeyboardInterrupt: SIGINT had come.
        SystemExit: SIGTERM had.
    """
    if status.exit_code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if status.exit_code == 128 + signal.SIGTERM:
        raise SystemExit(status.exit_code)


def ended_run(spec: Any, path: Path, job: str, status: Status) -> Run:
    """The run, not read back: one that was interrupted before its first checkpoint leaves no folder behind."""
    settings = json.loads(canonical_json(spec, job))["spec"]
    return Run(path, job, settings, status)
