"""MuJoCo appends its warnings to MUJOCO_LOG.TXT in the working directory; let that not be the repository."""

import pytest


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
