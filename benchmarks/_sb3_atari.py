"""Atari's games for Stable-Baselines3, by ale-py's own vector environment: the fastest that a user of it can have."""

from collections.abc import Sequence
from typing import Any

import ale_py  # noqa: F401  (registers its games)
import gymnasium
import numpy as np
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv


class AtariGames(VecEnv):
    """ale-py's vector environment as a `VecEnv`: the same games, frames and rewards as our preset `atari` has.

    Images are (4, 84, 84) bytes, channels first as PyTorch wants them, so that nothing needs to be transposed. One
    difference remains: a new game's stack is padded with zeros.

    Args:
        task: an id such as `ALE/Phoenix-v5`.
        num_envs: games.
        frame_skip: frames per step; the last of them is shown.
        sticky_actions: probability, per frame, of repeating the last action.
        seed: of the first game; the others follow.
    """

    def __init__(self, task: str, num_envs: int, frame_skip: int, sticky_actions: float, seed: int):
        self._games = AtariVectorEnv(
            gymnasium.spec(task).kwargs["game"],
            num_envs,
            repeat_action_probability=sticky_actions,
            autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
            stack_num=4,
            frameskip=frame_skip,
            maxpool=False,
            noop_max=0,
            episodic_life=False,
            reward_clipping=True,
            use_fire_reset=False,
        )
        shape = self._games.single_observation_space.shape
        if shape is None:
            raise TypeError(f"task = {task!r}: its observations have no shape")
        actions = spaces.Discrete(len(self._games.ale.get_action_set()))
        super().__init__(num_envs, spaces.Box(0, 255, shape, np.uint8), actions)
        self._seed = seed

    def reset(self) -> np.ndarray:
        observations, _ = self._games.reset(seed=self._seed)
        return observations.copy()

    def step_async(self, actions: np.ndarray) -> None:
        self._games.send(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminated, truncated, info = self._games.recv()
        ended = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(ended):
            infos[row] = {
                "terminal_observation": info["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
            }
        return observations.copy(), rewards.astype(np.float32), ended, infos

    def close(self) -> None:
        self._games.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("these environments have no attributes to set")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("these environments have no methods to call")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def seed(self, seed: int | None = None) -> Sequence[None]:
        """The seed was given when the environments were made."""
        return [None] * self.num_envs
