"""What a game is as a task, and what a user reads who asks for one that is not there."""

import builtins

import numpy as np
import pytest

from envs import probes
from escapevelocity.envs import DiscreteActions, Task, describe_task, make_environments, measure_observations
from escapevelocity.errors import UserError

# ALE's documentation: sizes of the minimal action sets of the paper's six games.
PAPER_GAMES = {
    "ALE/Phoenix-v5": 8,
    "ALE/NameThisGame-v5": 6,
    "ALE/Gravitar-v5": 18,
    "ALE/Qbert-v5": 6,
    "ALE/BattleZone-v5": 18,
    "ALE/DoubleDunk-v5": 18,
}


@pytest.mark.parametrize("name", PAPER_GAMES)
def test_the_papers_games_have_the_documented_actions(name):
    task = describe_task(name, frame_skip=3, sticky_actions=0.25)
    assert task == Task(
        name=name,
        backend="ale",
        observation_shape=(84, 84, 4),
        actions=DiscreteActions(PAPER_GAMES[name]),
        episode_limit=36_000,  # 108,000 frames.
        pixels=True,
        frame_skip=3,
        sticky_actions=0.25,
    )
    assert task.observation_size == 84 * 84 * 4
    assert hash(task) == hash(describe_task(name, "ale", None, 3, 0.25))


def test_the_default_limit_is_108000_frames_and_another_counts_steps():
    assert describe_task("ALE/Phoenix-v5").episode_limit == 108_000
    assert describe_task("ALE/Phoenix-v5", frame_skip=4).episode_limit == 27_000
    assert describe_task("ALE/Phoenix-v5", episode_limit=10, frame_skip=4).episode_limit == 10


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ALE/Phenix-v5", r"not a game that ale-py knows; did you mean ALE/Phoenix-v5"),
        ("ale/phoenix-v5", r"not a game that ale-py knows; did you mean ALE/Phoenix-v5"),
        ("ALE/Phoenix-v4", r"not a game that ale-py knows; did you mean ALE/Phoenix-v5"),
        ("ALE/qqqqqqqqqqqqqqqq", r"not a game that ale-py knows; they look like ALE/Phoenix-v5"),
        ("Pheonix-v5", r"not a known environment id; did you mean .*ALE/Phoenix-v5"),
        ("PhoenixNoFrameskip-v4", r"image observations are read from ale-py alone; use ALE/Phoenix-v5"),
        pytest.param("Phoenix-v5", r"ale-py alone; use ALE/Phoenix-v5", marks=probes.needs_envpool),
    ],
)
def test_a_game_by_another_name_is_refused_with_the_right_one(name, message):
    with pytest.raises(UserError, match=message) as error:
        describe_task(name)
    assert str(error.value).startswith(f"task = {name!r}: ")
    assert "\n" not in str(error.value)


def test_a_game_without_ale_py_says_what_to_install(monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("ale_py"):
            raise ImportError("No module named 'ale_py'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UserError, match=r"^task = 'ALE/Phoenix-v5': .* not installed: pip install ale-py$"):
        describe_task("ALE/Phoenix-v5")
    with pytest.raises(UserError, match="image observations are not supported"):
        describe_task("EvImage-v0")


@pytest.mark.parametrize("damage", ["folder", "file", "content"])
def test_a_rom_that_is_missing_or_broken_says_what_to_do(monkeypatch, tmp_path, damage):
    folder = tmp_path / "roms"
    if damage != "folder":
        folder.mkdir()
    if damage == "content":
        (folder / "phoenix.bin").write_bytes(b"no game")
    monkeypatch.setenv("ALE_ROMS_DIR", str(folder))
    with pytest.raises(UserError, match=r"cannot read its ROM .*--force-reinstall ale-py") as error:
        describe_task("ALE/Phoenix-v5")
    assert str(error.value).startswith("task = 'ALE/Phoenix-v5': ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_skip": 0}, r"^frame-skip = 0: must be between 1 and 108000$"),
        ({"frame_skip": 108_001}, r"^frame-skip = 108001: must be between 1 and 108000$"),
        ({"sticky_actions": 1.0}, r"^sticky-actions = 1.0: must be at least 0 and below 1$"),
        ({"sticky_actions": -0.1}, r"^sticky-actions = -0.1: must be at least 0"),
        ({"episode_limit": 0}, r"^episode-limit = 0: must be at least 1"),
        ({"backend": "envpool"}, r"^backend = 'envpool': must be ale or auto for ALE/Phoenix-v5"),
        ({"backend": "gymnasium"}, r"^backend = 'gymnasium': must be ale or auto for ALE/Phoenix-v5"),
    ],
)
def test_settings_that_a_game_cannot_have_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        describe_task("ALE/Phoenix-v5", **arguments)


@pytest.mark.parametrize("name", ["EvCorridor-v0", "gymnax:CartPole-v1"])
def test_a_games_settings_are_refused_for_other_tasks(name):
    with pytest.raises(UserError, match=rf"^frame-skip = 3: must be 1 for {name}; only games"):
        describe_task(name, frame_skip=3)
    with pytest.raises(UserError, match=rf"^sticky-actions = 0.25: must be 0 for {name}; only games"):
        describe_task(name, sticky_actions=0.25)


def test_back_ends_of_one_kind_of_task_are_refused_for_others():
    for backend in ("ale", "gymnax"):
        message = (
            rf"^backend = '{backend}': must be auto, envpool or gymnasium for EvCorridor-v0 \(ale is for ALE/"
        )
        with pytest.raises(UserError, match=message):
            describe_task("EvCorridor-v0", backend)
    with pytest.raises(UserError, match=r"^backend = 'ale': must be gymnax or auto for gymnax:CartPole-v1"):
        describe_task("gymnax:CartPole-v1", "ale")


def test_images_are_not_measured_for_normalisation():
    with pytest.raises(UserError, match=r"^task = 'ALE/Phoenix-v5': must be one without images"):
        measure_observations(describe_task("ALE/Phoenix-v5"), [1], num_envs=1)


def test_the_size_of_an_observation_is_the_product_of_its_shape():
    assert Task("Any-v0", "gymnax", (10, 10, 4), DiscreteActions(2), None).observation_size == 400
    task = describe_task("EvGrid-v0")
    assert (task.observation_shape, task.observation_size, task.pixels) == ((6,), 6, False)
    envs = make_environments(task, [1])
    assert envs.reset().shape == (1, *task.observation_shape)
    assert np.isfinite(envs.reset()).all()
    envs.close()
