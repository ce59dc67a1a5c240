"""Runs in the test process need no durable disk: no power is cut here, and fsync is most of their time."""

import os

import pytest
from counting_job import CountingJob, CountingSpec, contents

from escapevelocity.runs import start


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """Make fsync do nothing; processes that a test starts, and tests of fsync itself, are not touched."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The contents of a run of the default spec that nothing happened to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    start(CountingJob(), CountingSpec(), run)
    return contents(run)
