"""What a task is: its spaces, its time limit and the back end that runs it."""

import contextlib
import difflib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np

from escapevelocity.errors import UserError, require

Backend = Literal["auto", "envpool", "gymnasium", "ale", "gymnax"]
Family = Literal["mujoco", "classic", "atari", "minatar"]

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
    """A task as the trainer sees it: observations, actions, and a time limit in steps (or None)."""

    name: str
    backend: Literal["envpool", "gymnasium", "ale", "gymnax"]
    observation_shape: tuple[int, ...]
    """What a network sees, without the appended time: (size,) for vectors, (84, 84, 4) for Atari's games."""
    actions: BoxActions | DiscreteActions
    episode_limit: int | None
    """In steps of the agent, whatever the frame skip."""
    pixels: bool = False
    """Whether observations are images of uint8, which are neither normalised nor given the time."""
    frame_skip: int = 1
    """Frames of a game per step."""
    sticky_actions: float = 0.0
    """Probability, per frame, that a game repeats its last action instead of taking the chosen one."""

    @property
    def observation_size(self) -> int:
        """Entries of an observation."""
        return math.prod(self.observation_shape)


def task_family(name: str) -> Family:
    """The family that a task's default preset follows from."""
    if _own_backend(name) == "ale":
        return "atari"
    if _own_backend(name) == "gymnax" and name.endswith("-MinAtar"):
        return "minatar"
    return "mujoco" if name.split("-v")[0] in MUJOCO_NAMES else "classic"


def describe_task(
    name: str,
    backend: Backend = "auto",
    episode_limit: int | None = None,
    frame_skip: int = 1,
    sticky_actions: float = 0.0,
) -> Task:
    """Look a task up and check that its spaces can be trained on.

    Args:
        name: an id known to EnvPool or Gymnasium such as `Hopper-v4`, a game of Atari's such as `ALE/Phoenix-v5`,
            or a task of Gymnax's such as `gymnax:Breakout-MinAtar`.
        backend: `auto` takes ale-py for games, Gymnax for its tasks, else EnvPool where it is installed and has
            the task, else Gymnasium.
        episode_limit: steps after which an episode is cut, in place of the task's own limit.
        frame_skip: frames per step, for games alone.
        sticky_actions: probability that a frame repeats the last action, for games alone.

    Raises:
        UserError: unknown task (with the nearest names), a missing package or ROM, a back end without the task,
            unsupported spaces, several agents, a limit below 1, or a game's settings for another task.
    """
    require(episode_limit is None or episode_limit >= 1, "episode-limit", episode_limit, "at least 1")
    own = _own_backend(name)
    if own is not None:
        require(backend in ("auto", own), "backend", backend, f"{own} or auto for {name}")
    if own == "ale":
        from escapevelocity.envs._atari import describe_atari

        return describe_atari(name, episode_limit, frame_skip, sticky_actions)
    require(frame_skip == 1, "frame-skip", frame_skip, f"1 for {name}; only games (ALE/…) skip frames")
    accepted = f"0 for {name}; only games (ALE/…) have sticky actions"
    require(sticky_actions == 0, "sticky-actions", sticky_actions, accepted)
    if own == "gymnax":
        from escapevelocity.envs._gymnax import describe_gymnax

        return describe_gymnax(name, episode_limit)
    accepted = f"auto, envpool or gymnasium for {name} (ale is for ALE/…, gymnax for gymnax:…)"
    require(backend not in ("ale", "gymnax"), "backend", backend, accepted)
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
        observation_shape=(_observation_size(name, spaces[0]),),
        actions=_actions(name, spaces[1]),
        episode_limit=episode_limit or limit,
    )


def _own_backend(name: str) -> Literal["ale", "gymnax"] | None:
    """The back end that a task's prefix asks for. ALE's in any capitals: the lookup then knows the right ones."""
    if name.lower().startswith("ale/"):
        return "ale"
    return "gymnax" if name.startswith("gymnax:") else None


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
    require(
        not name.startswith(":"), "task", name, "an environment's id, or MODULE:ID to import a module first"
    )
    try:
        with quiet():
            environment = gymnasium.make(name)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise _cannot_load(name, error) from error
    except gymnasium.error.Error as error:
        # ale-py registers each game under many more names; those give unprocessed images.
        plain = {k for k, s in gymnasium.registry.items() if not str(s.entry_point).startswith("ale_py")}
        known = sorted({*plain, *pooled, *_atari_games()})
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        # Same name, other capitals: difflib ranks these low although they are the likeliest slip.
        near = [k for k in known if k.lower().startswith(name.lower())][:4] or near
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else "gymnasium.pprint_registry() lists the known ones; "
            'import the module that registers your own (--import MODULE; in a study\'s file imports = ["MODULE"])'
        )
        raise UserError(f"task = {name!r}: not a known environment id; {hint}") from error
    spec = environment.spec
    spaces = environment.observation_space, environment.action_space
    environment.close()
    return spaces, None if spec is None else spec.max_episode_steps


def _atari_games() -> frozenset[str]:
    from escapevelocity.envs._atari import atari_games

    return frozenset(atari_games())


def _cannot_load(name: str, error: Exception) -> UserError:
    """A package that the task needs is missing; the reason may span lines, the message may not."""
    return UserError(f"task = {name!r}: cannot be loaded: {' '.join(str(error).split())}")


def _observation_size(name: str, space: Any) -> int:
    if isinstance(space, gymnasium.spaces.Discrete):
        return int(space.n)
    if isinstance(space, gymnasium.spaces.Box) and not (len(space.shape) == 3 and space.dtype == np.uint8):
        require(min(space.shape, default=1) > 0, "task", name, "one with observations; its Box has no entry")
        return int(np.prod(space.shape))
    kind = "image" if isinstance(space, gymnasium.spaces.Box) else type(space).__name__
    game = f"ALE/{name.split('-v')[0].removesuffix('NoFrameskip')}-v5"
    if game in _atari_games():
        raise UserError(f"task = {name!r}: {kind} observations are read from ale-py alone; use {game}")
    raise UserError(
        f"task = {name!r}: {kind} observations are not supported; accepted: Box (not images) and Discrete "
        "(flatten a Dict with gymnasium.wrappers.FlattenObservation and register the result)"
    )


def _actions(name: str, space: Any) -> BoxActions | DiscreteActions:
    if isinstance(space, gymnasium.spaces.Discrete):
        return DiscreteActions(int(space.n), int(space.start))
    is_box = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1
    if is_box and np.issubdtype(space.dtype, np.floating):
        return BoxActions(tuple(map(float, space.low)), tuple(map(float, space.high)))
    raise UserError(
        f"task = {name!r}: {type(space).__name__} actions of shape {space.shape} and {space.dtype} are not supported; "
        "accepted: Discrete and 1-D Box of floats"
    )
