"""Atari's games on ale-py's own vector environment, with the settings of Moalla et al. 2024 (arXiv 2405.00662).

A step repeats one action for `frame_skip` frames and gives the last of them, grey, as 84×84 pixels (area averages),
without a maximum over frames. An episode is a whole game: it starts without no-ops or a press of fire, only game over
ends it, and rewards are the game's own.

ale-py leaves a frame's loop before it reads the screen where a game or its own limit of frames is reached, so that its
last observation is the one before. Steps are therefore counted here, and ale-py is given no limit: the successor at a
time limit, from which a value may be bootstrapped, is the true one. At game over the row repeats the screen of the
step before; no value is taken from it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import gymnasium
import numpy as np

from escapevelocity.envs._frames import SCREEN, FrameStack
from escapevelocity.envs._tasks import DiscreteActions, Task
from escapevelocity.envs._vector import Transition
from escapevelocity.errors import UserError, require

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

FRAME_LIMIT = 108_000  # Half an hour at 60 frames a second (Machado et al. 2018, Table 4).
_NO_LIMIT = 2**30  # ale-py needs some number of frames.


def atari_games() -> dict[str, str]:
    """From the ids of games such as `ALE/Phoenix-v5` to the names of their ROMs; empty without ale-py."""
    try:
        import ale_py  # noqa: F401  (registers its games)
    except ImportError:
        return {}
    specs = gymnasium.registry.items()
    return {
        name: spec.kwargs["game"] for name, spec in specs if name.startswith("ALE/") and spec.version == 5
    }


def describe_atari(name: str, episode_limit: int | None, frame_skip: int, sticky_actions: float) -> Task:
    """Look a game up.

    Args:
        name: an id such as `ALE/Phoenix-v5`.
        episode_limit: steps after which an episode is cut; by default as many as make 108,000 frames.
        frame_skip: frames per step.
        sticky_actions: probability, per frame, of repeating the last action (Machado et al. 2018, Section 5.2).

    Raises:
        UserError: no such game (with the nearest names), ale-py or the ROM missing, or a setting out of range.
    """
    require(1 <= frame_skip <= FRAME_LIMIT, "frame-skip", frame_skip, f"between 1 and {FRAME_LIMIT}")
    require(0 <= sticky_actions < 1, "sticky-actions", sticky_actions, "at least 0 and below 1")
    games = atari_games()
    if not games:
        raise UserError(f"task = {name!r}: games need ale-py, which is not installed: pip install ale-py")
    if name not in games:
        lower = {known.lower(): known for known in games}
        near = difflib.get_close_matches(name.lower(), lower, n=4, cutoff=0.5)
        hint = (
            f"did you mean {', '.join(lower[k] for k in near)}?" if near else "they look like ALE/Phoenix-v5"
        )
        raise UserError(f"task = {name!r}: not a game that ale-py knows; {hint}")
    try:
        actions = _simulators(games[name], 1, 1, frame_skip, sticky_actions).ale.get_action_set()
    except OSError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"task = {name!r}: cannot read its ROM ({reason}); pip install --force-reinstall ale-py brings it, "
            "unless ALE_ROMS_DIR points elsewhere"
        ) from error
    return Task(
        name=name,
        backend="ale",
        observation_shape=FrameStack.output_shape,
        actions=DiscreteActions(len(actions)),
        episode_limit=episode_limit or FRAME_LIMIT // frame_skip,
        pixels=True,
        frame_skip=frame_skip,
        sticky_actions=sticky_actions,
    )


def _simulators(rom: str, count: int, threads: int, frame_skip: int, sticky_actions: float) -> AtariVectorEnv:
    from ale_py.vector_env import AtariVectorEnv

    return AtariVectorEnv(
        rom,
        count,
        num_threads=threads,
        max_num_frames_per_episode=_NO_LIMIT,
        repeat_action_probability=sticky_actions,
        full_action_space=False,
        autoreset_mode=gymnasium.vector.AutoresetMode.NEXT_STEP,  # Never seen: ended games are reset before it.
        img_height=SCREEN[0],
        img_width=SCREEN[1],
        grayscale=True,
        stack_num=1,
        frameskip=frame_skip,
        maxpool=False,
        noop_max=0,
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=False,
    )


class AtariEnvironments:
    """n games on ale-py's threads; observations are screens, (n, 84, 84) uint8, for `FrameStack`.

    Args:
        task: a game, from `describe_atari`.
        seeds: one per game. They decide the sticky actions; without those, the paper's six games all run alike.
        threads: simulator threads.
    """

    def __init__(self, task: Task, seeds: Sequence[int], threads: int = 1):
        self.num_envs = len(seeds)
        rom = atari_games()[task.name]
        threads = min(threads, self.num_envs)
        self._games = _simulators(rom, self.num_envs, threads, task.frame_skip, task.sticky_actions)
        self._seeds: np.ndarray | None = np.array(seeds, np.int64)
        self._num_actions = task.actions.size
        self._limit = np.inf if task.episode_limit is None else task.episode_limit
        self._elapsed = np.zeros(self.num_envs, np.int64)

    def reset(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Start new games in `rows` (indices; default all); returns their first screens in order."""
        chosen = slice(None) if rows is None else rows
        if self._seeds is not None:
            # The very first reset seeds every game; later ones go on from there.
            screens, _ = self._games.reset(seed=self._seeds)
            self._seeds = None
        else:
            mask = np.zeros(self.num_envs, bool)
            mask[chosen] = True
            screens, _ = self._games.reset(options={"reset_mask": mask})
        self._elapsed[chosen] = 0
        return screens[chosen, 0]

    def send(self, actions: np.ndarray) -> None:
        """Start one step: (n,) int, each an index into the game's minimal set of actions."""
        actions = np.asarray(actions, np.int64)
        if actions.min() < 0 or actions.max() >= self._num_actions:
            # ale-py would wait for such a game for ever.
            raise ValueError(f"actions must be between 0 and {self._num_actions - 1}, got {actions}")
        self._games.send(actions)

    def receive(self) -> Transition:
        """Wait for the step that `send` started."""
        screens, rewards, terminated, _, _ = self._games.recv()
        self._elapsed += 1
        truncated = (self._elapsed >= self._limit) & ~terminated
        return Transition(screens[:, 0], rewards.astype(np.float32), terminated, truncated)

    def close(self) -> None:
        """Free the simulators: their threads end with them."""
        if hasattr(self, "_games"):
            del self._games
