"""What an error advises works: no flag, file or command is named that is refused next."""

import json

import numpy as np
import pytest

from escapevelocity.runs import checkpoint

SAVED = {"job": "ppo", "schema_version": 1, "spec": {"task": "Hopper-v4"}}


def test_a_switch_that_has_no_off_is_not_told_to_have_one(refused):
    line = refused("train", "CartPole-v1", "--dry-run=1")
    assert line == "ev: --dry-run=1: --dry-run takes no value; use --dry-run"


@pytest.mark.parametrize("command", ["show", "resume", "evaluate", "export", "branch", "capacity"])
def test_a_command_that_takes_a_runs_folder_sends_nobody_to_its_spec(refused, tmp_path, command):
    (tmp_path / "empty").mkdir()
    assert refused(command, "empty").endswith(
        "cannot read empty/spec.json: No such file or directory; give a run's folder"
    )
    (tmp_path / "empty" / "spec.json").write_text(json.dumps(SAVED))
    assert refused(command, "empty/spec.json").endswith(
        "give a run's folder, such as runs/NAME; did you mean empty?"
    )


@pytest.mark.parametrize("command", ["evaluate", "export", "capacity", "branch", "asr branch"])
def test_a_run_of_the_other_trainer_is_told_with_the_command_that_made_it(refused, tmp_path, command):
    job, maker = ("ppo", "ev train") if command == "asr branch" else ("asr", "ev asr train")
    run = tmp_path / "run"
    run.mkdir()
    (run / "spec.json").write_text(json.dumps({**SAVED, "job": job}))
    (run / "status.json").write_text(json.dumps({"state": "interrupted"}))
    checkpoint.save(run / "checkpoints", 0, {"weights": np.zeros(2)}, step=0)
    line = refused(*command.split(), "run")
    assert f"a run of `{maker}`" in line
    if "branch" in command:
        assert line.endswith(f"`{maker.removesuffix('train')}branch run`")
