"""Errors name the next step: what was meant, or what to type."""

import json
import sys
import zipfile

import pytest

from escapevelocity.errors import UserError


@pytest.fixture
def two_runs(tmp_path):
    """Folders that look like runs."""
    for name in ("hopper-sick", "hopper-healthy"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text("{}")


@pytest.mark.parametrize("given", ["runs/hoper-sick", "hopper-sick", "runs/hopper-sik"])
@pytest.mark.parametrize("command", ["show", "plot", "evaluate"])
def test_an_unknown_run_is_told_with_the_one_that_was_meant(refused, two_runs, command, given):
    assert refused(command, given).endswith("; did you mean runs/hopper-sick?")


def test_nothing_is_guessed_where_nothing_is_near(refused, two_runs):
    assert refused("show", "xyzzy") == "ev: xyzzy is not a folder; give a run's folder, such as runs/NAME"


@pytest.mark.parametrize(
    ("arguments", "next_step"),
    [
        (["doctr"], "did you mean doctor?"),
        (["complete"], "did you mean completion?"),
        (["xyzzy"], "known: train, branch"),
        (["study", "wach"], "did you mean watch?"),
        (["asr", "trane"], "did you mean train?"),
        (["lab", "escap"], "did you mean escape?"),
        (["train", "Hoper-v4"], "did you mean Hopper-v4"),
        (["train", "CartPole-v1", "--xyzzy", "3"], "--help lists the options"),
        (["train", "CartPole-v1", "--import", "no_such_module"], "start ev in its folder"),
        (["reproduce", "nrnt/figure-66"], "did you mean nrnt/figure-6"),
        (["remedies", "pfoo"], "did you mean pfo"),
        (["resume", "nowhere"], "give a run's folder"),
        (["study", "plan", "nowhere.toml"], "give a study's TOML file"),
        (["completion"], "see ev completion --help"),
    ],
)
def test_a_mistake_is_told_with_what_to_type(refused, arguments, next_step):
    assert next_step in refused(*arguments)


def test_a_study_that_is_no_toml_is_told_with_where_one_is_shown(refused, tmp_path):
    (tmp_path / "study.toml").write_text("name = ")
    assert refused("study", "plan", "study.toml").endswith("docs/how-to/study.md shows a study")


def test_a_spec_that_is_none_says_what_to_give(refused, tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    assert refused("train", "--config", "other.json").endswith("give a run's folder or its spec.json")


def test_a_model_that_is_none_says_what_to_give(refused, tmp_path):
    pytest.importorskip("torch")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("readme", "nothing")
    assert refused("checkup", "model.zip", "--env", "CartPole-v1").endswith(
        "give the file that model.save wrote"
    )


def test_a_missing_extra_is_told_with_its_command(monkeypatch, refused):
    monkeypatch.setitem(sys.modules, "gymnax", None)
    assert "pip install 'escapevelocity[gymnax]'" in refused("train", "gymnax:CartPole-v1")


def test_grids_that_leave_nothing_say_what_to_change():
    from escapevelocity.study.grid import Study, cells

    base, axes = {"task": "CartPole-v1"}, {"epochs": (10, 20)}
    with pytest.raises(UserError, match="take some away"):
        cells(Study("s", base, axes, exclude=({"epochs": 10}, {"epochs": 20})))


def test_diagnose_takes_the_import_that_a_run_with_a_remedy_of_ones_own_asks_for(refused):
    assert "import = 'no_such_module'" in refused("diagnose", "runs/x", "--import", "no_such_module")
