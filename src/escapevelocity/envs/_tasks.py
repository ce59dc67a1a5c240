"""What a task is: its spaces, its time limit and the back end that runs it, found without starting it for training."""

import contextlib
import difflib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from escapevelocity.errors import UserError

Backend = Literal["auto", "envpool", "gymnasium"]
Family = Literal["mujoco", "classic"]

# Gymnasium's own MuJoCo tasks, whichever version: their limit, spaces and preset are the papers'.
MUJOCO_NAMES = (
    "Ant HalfCheetah Hopper Humanoid HumanoidStandup InvertedDoublePendulum InvertedPendulum Pusher Reacher Swimmer Walker2d"
).split()


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
    """A task as the trainer sees it: flat float observations of `observation_size`, actions, and a time limit (or None)."""

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
        UserError: unknown task (with the nearest names), a back end without it, or unsupported spaces.
    """
    pooled = envpool_tasks() if backend != "gymnasium" else frozenset()
    if backend == "envpool" and name not in pooled:
        state = "does not have this task" if pooled else "is not installed here (it is for Linux)"
        raise UserError(f"task = {name!r}: EnvPool {state}; use --backend gymnasium or auto")
    if name in pooled:
        import envpool

        with quiet():
            spec = envpool.make_spec(name)
            spaces = spec.gymnasium_observation_space, spec.gymnasium_action_space  # type: ignore[attr-defined]
        chosen, limit = "envpool", int(spec.config.max_episode_steps)
    else:
        spaces, limit = _gymnasium_spaces(name, pooled)
        chosen = "gymnasium"
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
    """Silence what environment packages say on being asked for the papers' tasks: 'out of date', 'precision lowered'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _gymnasium_spaces(name: str, pooled: frozenset[str]) -> tuple[tuple[Any, Any], int | None]:
    try:
        with quiet():
            environment = gymnasium.make(name)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"task = {name!r}: a package is missing: {error}") from error
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        known = sorted({*gymnasium.registry, *pooled})
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        # Same name, other capitals: difflib ranks these low although they are the likeliest slip.
        near = [k for k in known if k.lower().startswith(name.lower())][:4] or near
        hint = f"did you mean {', '.join(near)}?" if near else "see gymnasium.pprint_registry() for the known ones"
        raise UserError(f"task = {name!r}: not a known environment id; {hint}") from error
    spec = environment.spec
    spaces = environment.observation_space, environment.action_space
    environment.close()
    return spaces, None if spec is None else spec.max_episode_steps


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
        f"task = {name!r}: {type(space).__name__} actions of shape {space.shape} are not supported; accepted: Discrete and 1-D Box"
    )
