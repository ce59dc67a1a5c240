"""The engine: a run is a chain of deterministic segments. It serves every job and knows no algorithm."""

from .branch import Origin, Parent, open_parent, parent_at, seen_from, whole_records
from .browse import Listed, Run, Saved, list_runs, open_run
from .checkpoint import Damaged
from .engine import resume, run_directory, start
from .job import Emit, Job, Observer, RunFailed, RunInfo, Scalar
from .records import compact, read_records
from .spec import canonical_json, load_spec, read_spec, spec_from_json, spec_hash
from .status import Status, read_status

__all__ = [
    "Damaged",
    "Emit",
    "Job",
    "Listed",
    "Observer",
    "Origin",
    "Parent",
    "Run",
    "RunFailed",
    "RunInfo",
    "Saved",
    "Scalar",
    "Status",
    "canonical_json",
    "compact",
    "list_runs",
    "load_spec",
    "open_parent",
    "open_run",
    "parent_at",
    "read_records",
    "read_spec",
    "read_status",
    "resume",
    "run_directory",
    "seen_from",
    "spec_from_json",
    "spec_hash",
    "start",
    "whole_records",
]
