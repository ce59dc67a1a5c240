"""`ev export` on a real run: what it prints, what it writes, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest

import escapevelocity
from end_to_end import SMALL

TRAIN = ["train", "CartPole-v1", *SMALL, "--steps", "512", "--seeds", "4", "9", "--append-time"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of two members that see the time."""
    from escapevelocity.cli import main

    out = tmp_path_factory.mktemp("made")
    assert main([*TRAIN, "--out", str(out), "--name", "run"]) == 0
    return out / "run"


@pytest.fixture
def run(made, tmp_path):
    """A copy of it, at `run` in the current folder."""
    return shutil.copytree(made, tmp_path / "run")


def test_a_policy_is_written_in_both_formats_and_acts_as_the_run_says(ev, run, tmp_path):
    pytest.importorskip("torch")
    runtime = pytest.importorskip("onnxruntime")
    answer = ev("export", "run", "--seed", "9", "--to", "deploy/policy")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "deploy/policy: CartPole-v1, seed 9, after 512 environment steps"
    same = r": the same actions on 1,000 observations( but for \d+ ties?)?, in "
    assert re.fullmatch(r"  policy\.safetensors" + same + r"PyTorch \S+", lines[1])
    assert re.fullmatch(r"  policy\.onnx" + same + r"ONNX Runtime \S+", lines[2])
    assert len(lines) == 3
    agent = escapevelocity.load(run, 9)
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    elapsed = np.arange(50)
    session = runtime.InferenceSession(tmp_path / "deploy" / "policy" / "policy.onnx")
    (actions,) = session.run(["action"], {"observation": observations, "elapsed": elapsed})
    np.testing.assert_array_equal(actions, agent.act(observations, elapsed))


def test_without_options_it_is_the_first_seed_inside_the_run(ev, run):
    pytest.importorskip("torch")
    assert ev("export", "run", "--format", "torch").code == 0
    folder = run / "policy-seed-4"
    assert {path.name for path in folder.iterdir()} == {"policy.json", "policy.safetensors"}
    assert json.loads((folder / "policy.json").read_text())["env_steps"] == 512
    assert ev("export", "run", "--format", "torch", "--checkpoint", "0", "--to", "start").code == 0
    assert json.loads((run.parent / "start" / "policy.json").read_text())["env_steps"] == 0
    assert ev("show", "run").code == 0


def test_mistakes_are_told_in_one_line(refused, run):
    assert "seed = 5: must be one of the run's seeds: 4 9" in refused("export", "run", "--seed", "5")
    assert "checkpoint = 7: must be one of" in refused("export", "run", "--checkpoint", "7")
    assert "'run': must be a folder that does not exist yet" in refused("export", "run", "--to", "run")
    assert "format = 'tflite': must be" in refused("export", "run", "--format", "tflite")
    assert "best" in refused("export", "run", "--best")
    assert "nothing is not a folder; give a run's folder" in refused("export", "nothing")


def test_a_mismatch_fails_and_leaves_nothing(ev, run, monkeypatch):
    pytest.importorskip("torch")  # Without it PyTorch's form is not compared.
    from escapevelocity.interop import _export
    from escapevelocity.ppo.export.check import MismatchError

    def mismatch(*arguments):
        raise MismatchError("policy.safetensors: action of observation 3 is 1,\nthe agent's is 0")

    monkeypatch.setattr(_export, "compare", mismatch)
    before = sorted(run.rglob("*"))
    answer = ev("export", "run", "--format", "torch")
    assert answer == (
        1,
        "",
        "ev: policy.safetensors: action of observation 3 is 1, the agent's is 0; nothing was written\n",
    )
    assert sorted(run.rglob("*")) == before


def test_without_onnx_it_is_said_what_to_install(ev, run, monkeypatch):
    monkeypatch.setattr("escapevelocity.interop._export.has_onnx", lambda: False)
    answer = ev("export", "run")
    assert (answer.code, answer.err) == (
        0,
        "ev: policy.onnx needs onnx: pip install 'escapevelocity[export]'\n",
    )
    assert not (run / "policy-seed-4" / "policy.onnx").exists()
