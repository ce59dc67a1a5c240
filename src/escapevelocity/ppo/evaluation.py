"""How well a trained agent does in fresh environments, and a video of it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from escapevelocity.envs import Purpose, environment_seeds, make_environments
from escapevelocity.errors import UserError, require
from escapevelocity.ppo.agent import TrainedAgent
from escapevelocity.ppo.programs import Stream, member_key

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
        seed: decides start states and samples; not one of training's streams.
    """
    require(episodes >= 1, "episodes", episodes, "at least 1")
    seeds = environment_seeds([seed], episodes, purpose=Purpose.EVALUATION)
    host = make_environments(agent.task, seeds, os.cpu_count() or 1)
    key = member_key(np.uint32(seed), Stream.EVALUATION)
    returns, lengths, running = np.zeros(episodes), np.zeros(episodes, np.int64), np.ones(episodes, bool)
    observations = host.reset()
    start = getattr(agent.task.actions, "start", 0)
    for step in range(agent.task.episode_limit or MAX_UNLIMITED_STEPS):
        host.send(
            agent.act(observations, step, mode, None if mode else jax.random.fold_in(key, step)) - start
        )
        outcome = host.receive()
        returns += np.where(running, outcome.rewards, 0.0)
        lengths += running
        running &= ~(outcome.terminated | outcome.truncated)
        if not running.any():
            break
        observations = np.array(outcome.next_observations)
        ended = np.flatnonzero(outcome.terminated | outcome.truncated)
        if len(
            ended
        ):  # Back ends want ended environments reset before the next step; their episodes are over.
            observations[ended] = host.reset(ended)
    host.close()
    return Evaluation(returns, lengths)


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
    import gymnasium
    from PIL import Image

    environment = _drawable(agent, gymnasium.make)
    key = member_key(np.uint32(seed), Stream.EVALUATION)
    frames = []
    try:
        observation, _ = environment.reset(seed=seed)
        for step in range(max_frames):
            frames.append(Image.fromarray(environment.render()))
            action = agent.act(
                np.ravel(observation), step, mode, None if mode else jax.random.fold_in(key, step)
            )
            observation, _, terminated, truncated, _ = environment.step(action)
            if terminated or truncated:
                break
    except Exception as error:  # Every renderer has its own errors for a missing display.
        raise UserError(
            f"video: cannot draw {agent.task.name} here ({error}); on a server install libegl1 and set MUJOCO_GL=egl"
        ) from error
    finally:
        environment.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=1000 // FRAMES_PER_SECOND, loop=0)
    return len(frames)


def _drawable(agent: TrainedAgent, make: Callable):
    from escapevelocity.envs._tasks import quiet

    try:
        with quiet():
            return make(agent.task.name, render_mode="rgb_array")
    except Exception as error:
        raise UserError(f"video: Gymnasium cannot make {agent.task.name}: {error}") from error
