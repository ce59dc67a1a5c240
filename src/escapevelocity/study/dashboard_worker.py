"""The process that works out verdicts for the dashboard: `python -m escapevelocity.study.dashboard_worker ROOT`.

It reads a request per line of standard input and answers with a line of JSON; it ends with its input. It is a process
of its own, of low priority, so that judging a thousand runs neither holds up the pages nor takes a core from training,
and so that a file that kills its reader does not kill the dashboard.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

from escapevelocity.errors import UserError
from escapevelocity.report._shown import shown
from escapevelocity.study.dashboard_judge import judge_run
from escapevelocity.study.dashboard_records import Records

_NICE = 10


def main() -> None:
    """Answer until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the dashboard, which closes our input.
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICE)
    serve(Path(sys.argv[1]), sys.stdin, sys.stdout)


def serve(root: Path, requests: TextIO, answers: TextIO) -> None:
    """Answer each line of `requests`, a run's folder as JSON text, with a line of JSON."""
    records = Records(root)
    for line in requests:
        answers.write(json.dumps(answer(Path(json.loads(line)), records)) + "\n")
        answers.flush()


def answer(path: Path, records: Records) -> dict[str, Any]:
    """Judge a run; what keeps it from being judged is `{"error": one line}`."""
    try:
        return json.loads(json.dumps(judge_run(path, records), allow_nan=False))
    except UserError as error:
        return {"error": shown(error)}
    except Exception as error:  # A stranger's folder may hold anything.
        return {"error": shown(f"cannot be judged: {type(error).__name__}: {error}")}


if __name__ == "__main__":
    main()
