"""What a task is, and what a user reads who asks for one that cannot be trained on."""

import builtins

import gymnasium
import numpy as np
import pytest

from envs import probes
from escapevelocity.envs import (
    BoxActions,
    DiscreteActions,
    Task,
    describe_task,
    make_environments,
    task_family,
)
from escapevelocity.errors import UserError

# Gymnasium's documentation of the v4 tasks: entries of an observation, action dimensions, action bound.
MUJOCO_V4 = {
    "Ant-v4": (27, 8, 1.0),
    "HalfCheetah-v4": (17, 6, 1.0),
    "Hopper-v4": (11, 3, 1.0),
    "Humanoid-v4": (376, 17, 0.4),
    "InvertedPendulum-v4": (4, 1, 3.0),
    "Walker2d-v4": (17, 6, 1.0),
}


@pytest.fixture
def without_envpool(monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "envpool":
            raise ImportError("No module named 'envpool'")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("backend", probes.BACKENDS)
@pytest.mark.parametrize("name", MUJOCO_V4)
def test_mujoco_tasks_have_the_documented_spaces_on_both_back_ends(name, backend):
    size, actions, bound = MUJOCO_V4[name]
    task = describe_task(name, backend)
    assert (task.name, task.backend, task.observation_size, task.episode_limit) == (name, backend, size, 1000)
    assert task.actions.size == actions
    np.testing.assert_allclose(task.actions.low, -bound, rtol=1e-7)
    np.testing.assert_allclose(task.actions.high, bound, rtol=1e-7)


@pytest.mark.parametrize("backend", probes.BACKENDS)
@pytest.mark.parametrize("name", MUJOCO_V4)
def test_the_described_size_is_the_size_of_an_observation(name, backend):
    envs = make_environments(describe_task(name, backend), [1])
    assert envs.reset().shape == (1, MUJOCO_V4[name][0])
    envs.close()


@pytest.mark.parametrize("backend", probes.BACKENDS)
def test_classic_control_tasks_have_the_documented_spaces_on_both_back_ends(backend):
    cart_pole = describe_task("CartPole-v1", backend)
    assert (cart_pole.observation_size, cart_pole.actions, cart_pole.episode_limit) == (
        4,
        DiscreteActions(2),
        500,
    )
    pendulum = describe_task("Pendulum-v1", backend)
    assert (pendulum.observation_size, pendulum.episode_limit) == (3, 200)
    assert pendulum.actions == BoxActions((-2.0,), (2.0,))
    assert describe_task("MountainCar-v0", backend).actions == DiscreteActions(3)


@probes.needs_envpool
def test_auto_takes_envpool_where_it_has_the_task_and_gymnasium_elsewhere():
    assert describe_task("Hopper-v4").backend == "envpool"
    assert describe_task("EvCorridor-v0").backend == "gymnasium"


def test_auto_falls_back_to_gymnasium_without_envpool(without_envpool):
    assert describe_task("Hopper-v4").backend == "gymnasium"


def test_the_envpool_back_end_without_envpool_says_so(without_envpool):
    with pytest.raises(
        UserError, match=r"^task = 'Hopper-v4': EnvPool is not installed here .*--backend gymnasium"
    ):
        describe_task("Hopper-v4", "envpool")


@probes.needs_envpool
def test_the_envpool_back_end_without_the_task_says_so():
    with pytest.raises(
        UserError, match=r"^task = 'EvCorridor-v0': EnvPool does not have this task; use --backend"
    ):
        describe_task("EvCorridor-v0", "envpool")


def test_an_episode_limit_replaces_the_tasks_own():
    assert describe_task("EvCorridor-v0").episode_limit == probes.CORRIDOR_LIMIT
    assert describe_task("EvCorridor-v0", episode_limit=3).episode_limit == 3
    assert describe_task("Hopper-v4", episode_limit=3).episode_limit == 3


@pytest.mark.parametrize("limit", [0, -1])
def test_an_episode_limit_below_one_is_refused(limit):
    with pytest.raises(UserError, match=rf"^episode-limit = {limit}: must be at least 1"):
        describe_task("EvCorridor-v0", episode_limit=limit)


@pytest.mark.parametrize("backend", probes.BACKENDS)
def test_a_task_without_a_time_limit_has_none(backend):
    # Gymnasium registers CliffWalking-v1 without a limit; EnvPool then says 2³¹ − 1.
    assert describe_task("CliffWalking-v1", backend).episode_limit is None


def test_actions_that_start_elsewhere_keep_their_offset():
    assert describe_task("EvCorridor-v0").actions == DiscreteActions(2, start=4)


def test_box_bounds_are_kept_dimension_by_dimension():
    assert describe_task("EvEcho-v0").actions == BoxActions(probes.ECHO_LOW, probes.ECHO_HIGH)
    unbounded = describe_task("EvHalfBounded-v0").actions
    assert unbounded == BoxActions((-np.inf, 5.0, -np.inf), (np.inf, np.inf, -3.0))


@pytest.mark.parametrize(("name", "size"), [("EvGrid-v0", 6), ("EvScalar-v0", 1), ("EvCount-v0", 3)])
def test_observations_are_described_flat(name, size):
    assert describe_task(name).observation_size == size


@pytest.mark.parametrize(
    ("name", "backend", "message"),
    [
        ("Hoper-v4", "auto", r"'Hoper-v4': not a known environment id; did you mean Hopper-v"),
        ("hopper-v4", "auto", r"not a known environment id; did you mean Hopper-v4\?"),
        (
            "CartPole-v7",
            "gymnasium",
            r"not a known environment id; did you mean CartPole-v[01], CartPole-v[01]",
        ),
        (
            "qqqqqqqq",
            "auto",
            r"not a known environment id; gymnasium.pprint_registry\(\) lists the known ones",
        ),
        ("no_such_module:Task-v0", "auto", r"cannot be loaded: No module named 'no_such_module'"),
        ("EvMissing-v0", "auto", r"cannot be loaded: simulator is not installed"),
        (
            "Hopper-v3",
            "gymnasium",
            r"cannot be loaded: The mujoco v2 and v3 based environments have been moved",
        ),
        (
            "EvImage-v0",
            "auto",
            r"image observations are not supported; accepted: Box \(not images\) and Discrete",
        ),
        pytest.param("Pong-v5", "envpool", r"image observations", marks=probes.needs_envpool),
        (
            "EvDict-v0",
            "auto",
            r"Dict observations are not supported; .*gymnasium.wrappers.FlattenObservation",
        ),
        (
            "EvBits-v0",
            "auto",
            r"MultiBinary actions of shape \(3,\) and int8 are not supported; accepted: Discrete and 1-D",
        ),
        ("EvMatrix-v0", "auto", r"Box actions of shape \(2, 2\) and float32 are not supported"),
        (
            "EvWhole-v0",
            "auto",
            r"Box actions of shape \(2,\) and int64 are not supported; .*1-D Box of floats",
        ),
        ("EvNothing-v0", "auto", r"must be one with observations; its Box has no entry"),
        (":Hopper-v4", "auto", r"must be an environment's id, or MODULE:ID to import a module first"),
        pytest.param(
            "IntersectionMultiAgent-v0",
            "envpool",
            r"several agents are not supported",
            marks=probes.needs_envpool,
        ),
    ],
)
def test_a_task_that_cannot_be_trained_on_is_refused_in_one_line(name, backend, message):
    with pytest.raises(UserError, match=message) as error:
        describe_task(name, backend)
    assert str(error.value).startswith(f"task = {name!r}: ")
    assert "\n" not in str(error.value)


@probes.needs_envpool
def test_an_envpool_task_whose_libraries_are_missing_says_which(monkeypatch):
    import envpool

    def make_spec(name):
        raise ImportError("needs the Qt 5\nruntime")

    monkeypatch.setattr(envpool, "make_spec", make_spec)
    with pytest.raises(UserError, match=r"^task = 'Hopper-v4': cannot be loaded: needs the Qt 5 runtime$"):
        describe_task("Hopper-v4", "envpool")


def test_the_family_follows_from_the_name():
    for name in MUJOCO_V4:
        assert task_family(name) == "mujoco"
    for version in ("v2", "v3", "v5"):
        assert task_family(f"Hopper-{version}") == "mujoco"
    for name in ("CartPole-v1", "EvCorridor-v0", "HopperHard-v4", "LunarLander-v3", "gymnax:CartPole-v1"):
        assert task_family(name) == "classic"
    assert task_family("ALE/Phoenix-v5") == "atari"
    assert task_family("gymnax:Breakout-MinAtar") == "minatar"


def test_every_mujoco_task_of_gymnasium_belongs_to_the_family():
    ours = {
        spec.id
        for spec in gymnasium.registry.values()
        if str(spec.entry_point).startswith("gymnasium.envs.mujoco")
    }
    assert len(ours) >= 11
    assert {task_family(name) for name in ours} == {"mujoco"}


def test_a_task_is_a_plain_description():
    """Tasks are keys of compiled programs: equal descriptions must be equal, and hashable."""
    task = Task("EvCorridor-v0", "gymnasium", (3,), DiscreteActions(2, 4), 5)
    assert task == describe_task("EvCorridor-v0")
    assert hash(task) == hash(describe_task("EvCorridor-v0"))
