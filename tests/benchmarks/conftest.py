"""The benchmarks are scripts beside the package: they are imported from the repository's root."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


@pytest.fixture
def quickly_compiling_children(monkeypatch):
    """Processes of a benchmark compile as the tests do: of the caller's flags they get none, and compile for speed."""
    from benchmarks import _common as common

    run_child = common.run_child

    def run(module, job, variables=None):
        own = dict(variables or {})
        own["XLA_FLAGS"] = f"{own.get('XLA_FLAGS', '')} {os.environ['XLA_FLAGS']}".strip()
        return run_child(module, job, own)

    monkeypatch.setattr(common, "run_child", run)
