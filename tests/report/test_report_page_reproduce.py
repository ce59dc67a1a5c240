"""The command that makes a run again gives its very settings; a branch is told from its first ancestor on."""

import dataclasses
import json
import shlex

import numpy as np
import pytest

from dashboard_stores import BATCH, commit, rows, set_status, write_run
from escapevelocity.cli import main
from escapevelocity.metric_learning.presets import preset_spec as images_preset
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.presets import preset_spec
from escapevelocity.ppo.remedies import PFO, LayerNorm, apply_remedies
from escapevelocity.report.page_parts import lineage_part, reproduce_part
from escapevelocity.report.reproduce import _changed, remedy_options, reproduce, reproduce_lines
from escapevelocity.runs import Run, Status, canonical_json, open_run
from escapevelocity.runs.checkpoint import save_arrays
from escapevelocity.runs.records import write_shard


def run_of(spec, job, path):
    """A run that has only its settings."""
    return Run(path, job, json.loads(canonical_json(spec, job))["spec"], Status("finished"))


def settings_made_by(command, capsys):
    """The settings that a command line resolves to."""
    words = shlex.split(command)
    assert words[0] == "ev"
    assert main([*words[1:], "--dry-run"]) == 0
    return json.JSONDecoder().raw_decode(capsys.readouterr().out)[0]["spec"]


MUJOCO = preset_spec("mujoco", "Hopper-v4", False, (1, 2))


@pytest.mark.parametrize(
    "spec",
    [
        MUJOCO,
        dataclasses.replace(
            MUJOCO,
            steps=100_000,
            optimizer=dataclasses.replace(MUJOCO.optimizer, epochs=20, learning_rate=1e-2, anneal="linear"),
            objective=dataclasses.replace(MUJOCO.objective, clip_value=True, normalize_advantages=False),
            network=dataclasses.replace(MUJOCO.network, activation="relu", hidden=(32, 48)),
        ),
        # A layer norm is a setting that the remedy makes; nobody has to ask for both.
        apply_remedies(MUJOCO, (PFO(coef=10.0, layers="all"), LayerNorm())),
        preset_spec("classic", "CartPole-v1", True, (7,)),
    ],
    ids=["preset", "changed", "remedies", "classic"],
)
def test_the_command_gives_the_settings_of_the_run(spec, tmp_path, capsys):
    (command,) = reproduce(run_of(spec, "ppo", tmp_path / "run"))
    assert command.endswith("--name run")
    assert settings_made_by(command, capsys) == json.loads(canonical_json(spec, "ppo"))["spec"]


def test_the_command_of_adaptive_sampling_does_too(tmp_path, capsys):
    spec = images_preset("digits", (3, 5))
    sampler = dataclasses.replace(spec.sampler, init="narrow")
    spec = dataclasses.replace(spec, sampler=sampler, steps=300)
    (command,) = reproduce(run_of(spec, "asr", tmp_path / "run"))
    assert settings_made_by(command, capsys) == json.loads(canonical_json(spec, "asr"))["spec"]


def test_a_job_without_a_command_has_none(tmp_path):
    assert reproduce(Run(tmp_path, "mine", {"seeds": [1]}, Status("finished"))) == []


def test_settings_that_cannot_be_read_here_are_told_in_place_of_a_command(tmp_path):
    spec = json.loads(canonical_json(MUJOCO, "ppo"))["spec"]
    run = Run(tmp_path, "ppo", {**spec, "remedies": [{"_type": "Strange"}]}, Status("finished"))
    (line,) = reproduce_lines(run)
    assert line.startswith("# ")
    assert "Strange" in line


def test_options_of_a_remedy_write_switches_as_switches():
    @dataclasses.dataclass(frozen=True)
    class Fake:
        name = "fake"
        on: bool = True
        off_too: bool = False
        left: float | None = None
        several: tuple[int, ...] = (1, 2)

    given = " ".join(remedy_options([Fake()]))  # pyright: ignore[reportArgumentType]
    assert given == "--remedy fake --fake.on --fake.no-off-too --fake.several 1 2"
    assert remedy_options([]) == []


@pytest.fixture
def branch(tmp_path):
    """A branch at batch 15 of 30 with half the epochs, and its parent beside it."""
    parent = write_run(tmp_path / "parent", segments=2)
    spec = dataclasses.replace(PPOSpec(seeds=(1, 2), steps=30 * BATCH))
    spec = dataclasses.replace(spec, optimizer=dataclasses.replace(spec.optimizer, epochs=5))
    own = tmp_path / "branch"
    own.mkdir()
    (own / "spec.json").write_text(canonical_json(spec, "ppo"))
    write_shard(own, 1, [{**row, "segment": 1, "wall_time": 1.0} for row in rows(15, first=15)])
    origin = {"path": "../parent", "spec_hash": "x", "checkpoint": 1, "step": 15 * BATCH, "sha256": "y"}
    lineage = {"spec_hash": "z", "parent": origin}
    save_arrays(own / "checkpoints", 2, {"x": np.zeros(1)}, 30 * BATCH, {"records": {}, "lineage": lineage})
    set_status(own, "finished")
    commit(parent, 2)
    return open_run(own)


def test_a_branch_is_made_again_from_its_parent(branch):
    first, second = reproduce(branch)
    assert first.startswith("ev train Hopper-v4 --preset mujoco --seeds 1 2 --steps 61440")
    assert first.endswith("--name parent")
    assert second == "ev branch runs/parent --at 30720 --epochs 5 --name branch"
    part = lineage_part([branch], ["branch"])
    assert part is not None
    assert [cell.text for cell in part.tables[0].rows[0]][2] == "optimizer.epochs = 5 (parent: 10)"
    assert reproduce_part([branch]).commands == (first, second)


def test_a_setting_that_a_branch_takes_back_is_said():
    own, theirs = {"monitoring.health_every": None, "steps": 1}, {"monitoring.health_every": 3, "steps": 1}
    assert _changed(own, theirs) == ["--health-every", "None"]
    assert _changed(own, own) == []


def test_a_branch_whose_parent_is_gone_says_so(branch):
    (branch.path.parent / "parent").rename(branch.path.parent / "elsewhere")
    first, *_ = reproduce(branch)
    assert first.startswith("# ")
    assert "is gone" in first


def test_a_branch_beside_its_parent_leaves_it_where_it_began(branch):
    from escapevelocity.study.report_page import runs_page

    page = runs_page([branch.path], lambda run, diagnosis: [], "0")
    assert [card.label for card in page.cards] == ["parent", "branch"]
    returns = next(chart for part in page.parts for chart in part.charts if chart.title == "Return")
    first = {line.group: min(line.x) for line in returns.lines}
    assert first == {0: BATCH, 1: 15 * BATCH}
    assert [(mark.x, mark.label) for mark in returns.marks if mark.group == 1] == [(15 * BATCH, "branch")]
    compared = next(part for part in page.parts if part.id == "compared")
    paired = next(table for table in compared.tables if table.caption.startswith("Paired"))
    assert [cell.text for cell in paired.rows[0]][:4] == ["branch", "parent", "2", "+0"]
