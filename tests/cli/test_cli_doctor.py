"""`ev doctor`: what it says of a whole installation, and of each way in which one can be broken."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from escapevelocity.cli import _installation, _probes
from escapevelocity.cli._installation import Finding, works
from escapevelocity.cli.doctor import verdict


@pytest.fixture
def tried(monkeypatch):
    """No processes: what the probes would say, by name; tests change it."""
    outcomes = dict.fromkeys(_probes.PROBES, (True, "works"))
    monkeypatch.setattr(_installation, "probe", lambda name: outcomes[name])
    return outcomes


def states(answer):
    return {one["part"]: one for one in json.loads(answer.out)["findings"]}


def test_a_whole_installation_works_and_leaves_nothing_behind(ev, tried, tmp_path):
    answer = ev("doctor", "--json")
    assert (answer.code, answer.err) == (0, "")
    found = states(answer)
    assert {found[part]["state"] for part in ("Python", "packages", "JAX", "MuJoCo", "folder of runs")} == {
        "ok"
    }
    assert list(tmp_path.iterdir()) == []


def test_the_table_names_every_part_and_the_next_step(ev, tried):
    answer = ev("doctor")
    for part in ("Python", "JAX", "EnvPool", "MuJoCo", "torch", "ray", "gymnax", "EV_DATA_DIR", "machine"):
        assert part in answer.out
    assert "Training works." in answer.out
    assert "Next: ev train" in answer.out


def test_what_training_needs_and_is_broken_is_told_with_a_command_and_exit_code_1(ev, tried):
    tried["jax"] = (False, "ended by SIGILL")
    answer = ev("doctor")
    assert answer.code == 1
    assert "ended by SIGILL" in answer.out
    assert "pip install --force-reinstall jax jaxlib" in answer.out
    assert "Broken: JAX" in answer.out


def test_what_is_optional_and_broken_keeps_nothing_from_working(ev, tried):
    tried["games"] = (False, "no ROM")
    answer = ev("doctor")
    assert answer.code == 0
    assert "Broken, but not needed for it: Atari games" in answer.out


def test_a_missing_extra_says_what_it_is_for_and_what_to_type(ev, tried, monkeypatch):
    there = _installation.is_installed
    monkeypatch.setattr(
        _installation, "is_installed", lambda name: name not in ("ray", "torch") and there(name)
    )
    found = states(ev("doctor", "--json"))
    assert found["ray"] == {
        "part": "ray",
        "state": "missing",
        "says": "for studies on a cluster",
        "fix": "pip install 'escapevelocity[ray]'",
    }
    assert found["torch"]["state"] == "missing"


def test_packages_that_are_missing_or_too_old_are_named(monkeypatch):
    versions = {"numpy": "1.26.4", "jax": "0.10.0"}
    monkeypatch.setattr(
        _installation, "requires", lambda name: ["numpy>=2.0", "jax>=0.7", "tyro", "x; extra == 'y'"]
    )
    monkeypatch.setattr(_installation, "is_installed", versions.__contains__)
    monkeypatch.setattr(_installation, "version", versions.__getitem__)
    found = _installation.packages()
    assert found.state == "broken"
    assert found.says == "numpy 1.26.4 is older than 2.0; tyro is missing"
    assert found.fix == "pip install --upgrade numpy tyro"


def test_a_folder_that_cannot_be_written_is_broken(monkeypatch, tmp_path):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_installation.tempfile, "TemporaryFile", refuse)
    found = _installation.writable("folder of runs", tmp_path / "not" / "there")
    assert (found.state, found.fix) == ("broken", "ev train TASK --out FOLDER")
    assert "Permission denied" in found.says


@pytest.mark.parametrize(
    ("value", "state"), [(None, "missing"), ("", "missing"), ("nowhere at all", "broken"), (".", "ok")]
)
def test_the_folder_of_images_is_looked_at(monkeypatch, tmp_path, value, state):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EV_DATA_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("EV_DATA_DIR", value)
    found = _installation.data()
    assert found.state == state
    assert state == "ok" or found.fix


def test_a_library_that_kills_its_process_is_a_finding(monkeypatch):
    crashed = subprocess.CompletedProcess([], -signal.SIGILL, "", "")
    monkeypatch.setattr(_installation.subprocess, "run", lambda *_, **__: crashed)
    assert _installation.probe("jax") == (False, "ended by SIGILL")


def test_a_probe_that_hangs_is_a_finding(monkeypatch):
    def hang(*_, **__):
        raise subprocess.TimeoutExpired("", 180)

    monkeypatch.setattr(_installation.subprocess, "run", hang)
    assert _installation.probe("jax") == (False, "no answer after 180 s")


def test_a_real_probe_answers_from_its_own_process_and_a_failing_one_gives_its_last_line():
    assert _installation.probe("envpool") == (True, "one environment made a step")
    worked, says = _installation.probe("no-such-probe")
    assert not worked
    assert says == "KeyError: 'no-such-probe'"


@pytest.mark.parametrize("name", [name for name in _probes.PROBES if name not in ("envpool", "torch")])
def test_every_probe_finds_this_installation_well(name):
    assert _probes.PROBES[name]()


def test_torch_is_tried_out_where_it_is_installed():
    pytest.importorskip("torch")
    assert _probes.PROBES["torch"]() in ("cuda", "on the CPU")


def test_little_memory_and_no_disk_are_told(monkeypatch, tmp_path):
    import psutil

    memory = psutil.virtual_memory()._replace(available=2**29)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert "that is little" in _installation.machine().says
    monkeypatch.setattr(_installation.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert _installation.disk(tmp_path / "runs").state == "broken"


def test_the_verdict_counts_only_what_training_stands_on():
    fine = Finding("JAX", "ok", "")
    assert works([fine, Finding("EV_DATA_DIR", "broken", "")])
    assert not works([fine, Finding("disk", "broken", "")])
    assert verdict([Finding("disk", "broken", "")], False).startswith("Broken: disk.")


def test_looking_imports_nothing_heavy_into_this_process():
    code = (
        "import sys; from escapevelocity.cli import _installation; _installation.probe = lambda name: (True, '');"
        "from pathlib import Path; _installation.look(Path('runs'));"
        "assert not {'jax', 'torch', 'envpool', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
