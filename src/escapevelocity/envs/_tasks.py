"""What a task is: its spaces, its time limit and the back end that runs it."""

import contextlib
import difflib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from escapevelocity.errors import UserError, require

Backend = Literal["auto", "envpool", "gymnasium"]
Family = Literal["mujoco", "classic"]

_NO_LIMIT = 2**31 - 1  # EnvPool's default where a task has no time limit.

# Gymnasium's own MuJoCo tasks, whichever version: their limit, spaces and preset are the papers'.
MUJOCO_NAMES = frozenset(
    {
        "Ant",
        "HalfCheetah",
        "Hopper",
        "Humanoid",
        "HumanoidStandup",
        "InvertedDoublePendulum",
        "InvertedPendulum",
        "Pusher",
        "Reacher",
        "Swimmer",
        "Walker2d",
    }
)


@dataclass(frozen=True)
class BoxActions:
    """Continuous actions: `low` and `high` bounds, each of length `size`."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of action dimensions."""
        return len(self.low)


@dataclass(frozen=True)
class DiscreteActions:
    """Discrete actions `start, …, start + size − 1`; agents count from 0."""

    size: int
    start: int = 0


@dataclass(frozen=True)
class Task:
    """A task as the trainer sees it: flat observations, actions, and a time limit in steps (or None)."""

    name: str
    backend: Literal["envpool", "gymnasium"]
    observation_size: int
    actions: BoxActions | DiscreteActions
    episode_limit: int | None


def task_family(name: str) -> Family:
    """The family that a task's default preset follows from: `mujoco` or `classic`."""
    return "mujoco" if name.split("-v")[0] in MUJOCO_NAMES else "classic"


def describe_task(name: str, backend: Backend = "auto", episode_limit: int | None = None) -> Task:
    """Look a task up and check that its spaces can be trained on.

    Args:
        name: an id known to EnvPool or Gymnasium, such as `Hopper-v4`.
        backend: `auto` takes EnvPool where it is installed and has the task.
        episode_limit: steps after which an episode is cut, in place of the task's own limit.

    Raises:
        UserError: unknown task (with the nearest names), a missing package, a back end without the task,
            unsupported spaces, several agents, or a limit below 1.
    """
    require(episode_limit is None or episode_limit >= 1, "episode-limit", episode_limit, "at least 1")
    pooled = envpool_tasks() if backend != "gymnasium" else frozenset()
    if backend == "envpool" and name not in pooled:
        state = "does not have this task" if pooled else "is not installed here (it is for Linux)"
        raise UserError(f"task = {name!r}: EnvPool {state}; use --backend gymnasium or auto")
    if name in pooled:
        chosen, (spaces, limit) = "envpool", _envpool_spaces(name)
    else:
        chosen, (spaces, limit) = "gymnasium", _gymnasium_spaces(name, pooled)
    return Task(
        name=name,
        backend=chosen,
        observation_size=_observation_size(name, spaces[0]),
        actions=_actions(name, spaces[1]),
        episode_limit=episode_limit or limit,
    )


def envpool_tasks() -> frozenset[str]:
    """Names of EnvPool's tasks; empty where EnvPool is not installed."""
    try:
        with quiet():
            import envpool
    except ImportError:
        return frozenset()
    return frozenset(envpool.list_all_envs())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what environment packages say of the papers' tasks: 'out of date', 'precision lowered'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _envpool_spaces(name: str) -> tuple[tuple[Any, Any], int | None]:
    import envpool

    try:
        with quiet():
            spec: Any = envpool.make_spec(name)
            spaces = spec.gymnasium_observation_space, spec.gymnasium_action_space
    except ImportError as error:
        raise _cannot_load(name, error) from error
    if spec.config.max_num_players > 1:
        raise UserError(f"task = {name!r}: tasks with several agents are not supported; accepted: one agent")
    limit = int(spec.config.max_episode_steps)
    return spaces, None if limit == _NO_LIMIT else limit


def _gymnasium_spaces(name: str, pooled: frozenset[str]) -> tuple[tuple[Any, Any], int | None]:
    try:
        with quiet():
            environment = gymnasium.make(name)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise _cannot_load(name, error) from error
    except gymnasium.error.Error as error:
        known = sorted({*gymnasium.registry, *pooled})
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        # Same name, other capitals: difflib ranks these low although they are the likeliest slip.
        near = [k for k in known if k.lower().startswith(name.lower())][:4] or near
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else "gymnasium.pprint_registry() lists the known ones; "
            "import the module that registers your own (ev train --import MODULE)"
        )
        raise UserError(f"task = {name!r}: not a known environment id; {hint}") from error
    spec = environment.spec
    spaces = environment.observation_space, environment.action_space
    environment.close()
    return spaces, None if spec is None else spec.max_episode_steps


def _cannot_load(name: str, error: Exception) -> UserError:
    """A package that the task needs is missing; the reason may span lines, the message may not."""
    return UserError(f"task = {name!r}: cannot be loaded: {' '.join(str(error).split())}")


def _observation_size(name: str, space: Any) -> int:
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.Box) and not (len(space.shape) == 3 and space.dtype == np.uint8):
        return int(np.prod(space.shape))
    kind = "image" if isinstance(space, gymnasium.spaces.Box) else type(space).__name__
    raise UserError(
        f"task = {name!r}: {kind} observations are not supported; accepted: Box (not images) and Discrete "
        "(flatten a Dict with gymnasium.wrappers.FlattenObservation and register the result)"
    )


def _actions(name: str, space: Any) -> BoxActions | DiscreteActions:
    if isinstance(space, gymnasium.spaces.Discrete):
        return DiscreteActions(int(space.n), int(space.start))
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return BoxActions(tuple(map(float, space.low)), tuple(map(float, space.high)))
    raise UserError(
        f"task = {name!r}: {type(space).__name__} actions of shape {space.shape} are not supported; "
        "accepted: Discrete and 1-D Box"
    )
