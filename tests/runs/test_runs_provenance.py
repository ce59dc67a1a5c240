"""Where a run was computed."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from escapevelocity.runs import provenance


def test_versions_are_those_of_the_installed_packages():
    found = provenance.collect()
    for name in ("jax", "numpy", "equinox"):
        assert found[f"version/{name}"] == importlib.metadata.version(name)
    assert found["version/python"] == platform.python_version()
    json.dumps(found, allow_nan=False)


def test_a_package_that_is_not_there_is_null(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package-at-all",))
    assert provenance.collect()["version/no-such-package-at-all"] is None


def test_the_simulators_of_games_and_the_device_are_recorded():
    import jax

    found = provenance.collect()
    assert {"version/ale-py", "version/gymnax"} <= found.keys()
    device = jax.devices()[0]
    assert found["device"] == f"{device.platform}: {device.device_kind}"


def test_the_device_is_null_where_nothing_has_imported_jax(monkeypatch):
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    assert provenance.collect()["device"] is None
    assert "jax" not in sys.modules


def test_threads_and_flags_are_recorded(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    found = provenance.collect()
    assert found["flag/XLA_FLAGS"] == "--xla_cpu_enable_fast_math=false"
    assert found["threads/OMP_NUM_THREADS"] == "3"
    assert found["flag/JAX_PLATFORMS"] is None
    assert 1 <= found["cpus"] <= (os.cpu_count() or 1)
    assert found["cpu"]


def test_the_commit_is_that_of_the_checkout():
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("the tests do not lie in a checkout")
    answer = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True)
    assert (provenance.collect()["commit"] or "").removesuffix("+changes") == answer.stdout.strip()


def test_outside_of_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "a" / "b" / "c" / "provenance.py"))
    assert provenance.collect()["commit"] is None


def test_a_broken_checkout_or_a_missing_git_is_no_fault(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "a" / "b" / "c" / "provenance.py"))
    assert provenance.collect()["commit"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.collect()["commit"] is None


def test_no_package_is_imported_to_find_its_version():
    code = (
        "import sys; from escapevelocity.runs import provenance; provenance.collect();"
        "print([n for n in ('jax', 'equinox', 'envpool', 'gymnasium', 'mujoco') if n in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_differences_name_what_changed_appeared_and_went():
    assert provenance.differences({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == [
        "b was 2, is now 5",
        "c was 3, is now None",
        "d was None, is now 4",
    ]
    assert provenance.differences({"a": 1}, {"a": 1}) == []
