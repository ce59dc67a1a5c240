"""How well a trained agent does in fresh environments, and a video of it."""

import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from escapevelocity.envs import FrameStack, Purpose, environment_seeds, make_environments
from escapevelocity.errors import UserError, require
from escapevelocity.ppo.agent import TrainedAgent
from escapevelocity.ppo.programs import Stream, member_key
from escapevelocity.runs.atomic import make_folder, write_bytes

FRAMES_PER_SECOND = 25
MAX_UNLIMITED_STEPS = 10_000  # Where a task has no limit, an episode of an evaluation ends here.


class Evaluation(NamedTuple):
    """Episodes of one agent."""

    returns: np.ndarray
    """(episodes,) sums of the task's rewards."""
    lengths: np.ndarray
    """(episodes,) steps."""


def evaluate(agent: TrainedAgent, episodes: int = 10, mode: bool = True, seed: int = 0) -> Evaluation:
    """Run whole episodes, each in an environment of its own, so that long and short episodes count alike.

    Args:
        agent: the agent.
        episodes: how many.
        mode: take the most likely action; otherwise sample.
        seed: decides start states and samples; not one of training's streams. Agents that are evaluated with
            the same seed meet the same start states.

    Raises:
        UserError: no episodes, or a seed that is not a 31-bit integer.
    """
    require(episodes >= 1, "episodes", episodes, "at least 1")
    require(0 <= seed < 2**31, "seed", seed, "between 0 and 2147483647")
    seeds = environment_seeds([seed], episodes, purpose=Purpose.EVALUATION)
    host = make_environments(agent.task, seeds, os.cpu_count() or 1)
    key = member_key(jnp.uint32(seed), Stream.EVALUATION)
    returns, lengths, running = np.zeros(episodes), np.zeros(episodes, np.int64), np.ones(episodes, bool)
    seen = _Seen(agent, episodes)
    observations = seen.first(host.reset())
    start = getattr(agent.task.actions, "start", 0)  # `act` counts as the task does, the back ends from 0.
    for step in range(agent.task.episode_limit or MAX_UNLIMITED_STEPS):
        actions = agent.act(observations, step, mode, None if mode else jax.random.fold_in(key, step))
        host.send(actions - start)
        outcome = host.receive()
        returns += np.where(running, outcome.rewards, 0.0)
        lengths += running
        ended = outcome.terminated | outcome.truncated
        running &= ~ended
        if not running.any():
            break
        observations = seen.next(outcome.next_observations)
        if ended.any():
            # Their episodes are over, but back ends want ended environments reset before the next step.
            rows = np.flatnonzero(ended)
            observations[rows] = seen.first(host.reset(rows), rows)
    host.close()
    return Evaluation(returns, lengths)


class _Seen:
    """What the agent is shown: the environments' observations, or the latest four screens of a game."""

    def __init__(self, agent: TrainedAgent, count: int):
        shape = agent.task.observation_shape
        self._stacks = np.empty((count, *shape), np.uint8) if agent.task.pixels else None

    def first(self, observations: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Those that start an episode, in `rows` (indices; default all)."""
        if self._stacks is None:
            return np.array(observations)
        stacks = np.empty((len(observations), *self._stacks.shape[1:]), np.uint8)
        FrameStack().write(observations, np.zeros(len(observations), np.int64), stacks)
        self._stacks[slice(None) if rows is None else rows] = stacks
        return stacks

    def next(self, observations: np.ndarray) -> np.ndarray:
        """Those after a step of every environment."""
        if self._stacks is None:
            return np.array(observations)
        FrameStack().write(observations, np.ones(len(observations), np.int64), self._stacks)
        return self._stacks.copy()


def record_video(
    agent: TrainedAgent, path: Path, mode: bool = True, seed: int = 0, max_frames: int = 500
) -> int:
    """Write one episode as an animated GIF, drawn by Gymnasium's renderer.

    Returns:
        Number of frames.

    Raises:
        UserError: the task is not Gymnasium's, or this machine cannot draw it.
    """
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")  # A film has no sound, nor have many machines.
    from PIL import Image

    environment = _drawable(agent)
    key = member_key(jnp.uint32(seed), Stream.EVALUATION)
    frames = []
    try:
        observation, _ = environment.reset(seed=seed)
        for step in range(max_frames):
            frames.append(Image.fromarray(_draw(environment, agent.task.name)))
            action = agent.act(observation, step, mode, None if mode else jax.random.fold_in(key, step))
            observation, _, terminated, truncated, _ = environment.step(action)
            if terminated or truncated:
                break
    finally:
        environment.close()
    movie = io.BytesIO()
    frames[0].save(
        movie, "GIF", save_all=True, append_images=frames[1:], duration=1000 // FRAMES_PER_SECOND, loop=0
    )
    make_folder(path.parent)
    write_bytes(path, movie.getvalue())
    return len(frames)


def require_film(agent: TrainedAgent) -> None:
    """Raise `UserError` where no episode can be filmed: of games and of Gymnax's tasks."""
    accepted = "a task that Gymnasium draws; games and Gymnax's tasks are not filmed"
    require(agent.task.backend not in ("ale", "gymnax"), "video", agent.task.name, accepted)


def _drawable(agent: TrainedAgent) -> gymnasium.Env:
    require_film(agent)
    limit: dict[str, Any] = (
        {} if agent.task.episode_limit is None else {"max_episode_steps": agent.task.episode_limit}
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "out of date", of the papers' tasks.
            environment = gymnasium.make(agent.task.name, render_mode="rgb_array", **limit)
    except Exception as error:  # Packages of environments have errors of their own.
        raise UserError(
            f"video: Gymnasium cannot make {agent.task.name} with rgb_array frames: {error}; leave --video out "
            "to evaluate alone"
        ) from error
    return gymnasium.wrappers.FlattenObservation(environment)


def _draw(environment: gymnasium.Env, name: str) -> np.ndarray:
    """One frame, (height, width, 3) uint8."""
    try:
        return np.asarray(environment.render(), np.uint8)
    except Exception as error:  # Every renderer has its own errors for a missing display.
        raise UserError(
            f"video: cannot draw {name} here ({error}); on a server install libegl1 and set MUJOCO_GL=egl"
        ) from error
