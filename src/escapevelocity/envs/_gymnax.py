"""Gymnax's classic control and MinAtar: what they are as tasks, and each as pure functions without its time limit.

Gymnax is Lange 2022 (github.com/RobertTLange/gymnax), MinAtar is Young and Tian 2019 (arXiv 1903.03176). Gymnax's
MinAtar differs from the original in this: actions are never sticky (there with probability 0.1), an episode is
truncated after 1,000 steps (there never; Freeway after 2,500 in both, which is a termination there), and agents
choose from each game's minimal action set. As there, difficulty ramps up in Asterix, Seaquest and Space Invaders.
In Gymnax's MountainCarContinuous the left wall does not stop the car at once, as it does in Gymnasium's.
"""

import contextlib
import difflib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from escapevelocity.envs._tasks import BoxActions, DiscreteActions, Task
from escapevelocity.errors import UserError

PREFIX = "gymnax:"
CLASSIC_NAMES = ("Acrobot-v1", "CartPole-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1")
MINATAR_NAMES = (
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Freeway-MinAtar",
    "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
)

_NEVER = 2**31 - 1


def describe_gymnax(name: str, episode_limit: int | None = None) -> Task:
    """Look a Gymnax task up.

    Args:
        name: such as `gymnax:Breakout-MinAtar`: classic control or MinAtar.
        episode_limit: steps after which an episode is cut, in place of the task's own limit.

    Raises:
        UserError: unknown task (with the nearest names), or Gymnax is not installed.
    """
    environment, params = _make(name)
    shape = tuple(map(int, environment.observation_space(params).shape))
    return Task(
        name=name,
        backend="gymnax",
        observation_shape=shape,
        actions=_actions(environment.action_space(params)),
        episode_limit=episode_limit or int(params.max_steps_in_episode),
    )


class GymnaxSimulator:
    """One Gymnax environment as pure functions, without its time limit (`device.Simulator`).

    Gymnax 1.0's `step_env` says whether the task ended the episode, for all ten tasks; before 1.0 it said so at the
    time limit too. With a limit that is never reached, both mean the task alone.

    Args:
        name: as for `describe_gymnax`.

    Raises:
        UserError: unknown task, or Gymnax is not installed.
    """

    def __init__(self, name: str):
        self._environment, params = _make(name)
        self._params = params.replace(max_steps_in_episode=_NEVER)

    def reset(self, key: Array) -> tuple[Any, Array]:
        """Start an episode: state and observation."""
        with _usual_promotion():
            observation, state = self._environment.reset_env(key, self._params)
        # Numbers of Python and weak types become arrays, so that a scan can carry them.
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state), _float(observation)

    def step(self, key: Array, state: Any, action: Array) -> tuple[Any, Array, Array, Array]:
        """Do one step: state, observation, reward, terminated."""
        with _usual_promotion():
            outcome = self._environment.step_env(key, state, action, self._params)
        observation, following, reward, terminated = outcome[:4]
        following = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), following, state)
        return following, _float(observation), _float(reward), jnp.asarray(terminated, bool)


def _make(name: str) -> tuple[Any, Any]:
    short, known = name.removeprefix(PREFIX), CLASSIC_NAMES + MINATAR_NAMES
    if short not in known:
        near = difflib.get_close_matches(short.lower(), [k.lower() for k in known], n=3, cutoff=0.3)
        meant = [k for k in known if k.lower() in near] or known
        raise UserError(
            f"task = {name!r}: not a known Gymnax task; did you mean {', '.join(PREFIX + k for k in meant)}?"
        )
    try:
        import gymnax
    except ImportError as error:
        raise UserError(
            f"task = {name!r}: gymnax is not installed; pip install 'escapevelocity[gymnax]'"
        ) from error
    return gymnax.make(short)


def _actions(space: Any) -> BoxActions | DiscreteActions:
    if hasattr(space, "n"):
        return DiscreteActions(int(space.n))
    low, high = (np.broadcast_to(bound, space.shape).astype(float) for bound in (space.low, space.high))
    return BoxActions(tuple(low.tolist()), tuple(high.tolist()))


@contextlib.contextmanager
def _usual_promotion() -> Iterator[None]:
    """Gymnax mixes dtypes and ranks freely, whatever the caller has asked JAX to forbid."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _float(x: Any) -> Array:
    return jnp.asarray(x, jnp.float32)
