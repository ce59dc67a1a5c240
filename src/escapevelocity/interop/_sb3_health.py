"""Health while Stable-Baselines3 trains, through its own logger."""

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor

from escapevelocity import health
from escapevelocity.errors import require
from escapevelocity.interop._columns import health_row
from escapevelocity.interop._sb3_returns import UNREPORTED, is_monitored, returns_of
from escapevelocity.interop._sb3_view import Batch, View, policy_measurements, rollout_batch, view
from escapevelocity.interop.torch import TorchMonitor

Row = dict[str, Any]

ON_SCREEN = (
    "health/actor/feature_rank_pca_after",
    "health/actor/dead_neurons_after",
    "health/actor/preactivation_norm_after",
    "health/critic/feature_rank_pca_after",
    "policy/entropy",
    "policy/variance_after",
    "trust/kl",
    "trust/clip_fraction",
    "trust/ratio_below_mean",
)
"""The columns that the printed table shows; TensorBoard, CSV and JSON get them all."""

_DATE = "health/env_steps"
"""The log's step is that of the next rollout, or of the end: this says after how many steps an update was made."""

DEFAULT_CLIP = 0.2
"""The ε at which the ratios of A2C, which does not clip, are read."""


class HealthCallback(BaseCallback):
    """Measures every update of PPO or A2C and logs it beside Stable-Baselines3's own numbers.

    Both networks are measured on the whole rollout before and after the update, with the names and definitions
    of docs/metrics.md: `health/actor/feature_rank_pca`, `trust/kl` and the rest. Separate and shared feature
    extractors, MLP, CNN and dictionary observations, any action space. Training itself is not changed: with and
    without the callback, the same seed gives the same parameters to the bit.

    An update is logged with the `train/…` values that belong to it, that is with the next rollout; the log's
    `health/env_steps` dates it. The last one of a run, which Stable-Baselines3 leaves out, is logged when training
    ends. Returns are those that a Monitor reports; where none does, one warning says so.

    Attributes:
        rows: one dictionary of columns per measured update of the run, in order.
        stopped_because: what `stop_when` answered, None as long as it did not ask to stop.

    Example:
        >>> from stable_baselines3 import PPO
        >>> watch = HealthCallback()
        >>> model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, seed=1, device="cpu")
        >>> model = model.learn(128, callback=watch)
        >>> len(watch.rows), watch.rows[0]["health/actor/numerical_rank"] > 4
        (2, True)
    """

    def __init__(
        self,
        stop_when: Callable[[Row], str | None] | None = None,
        *,
        every: int | None = None,
        clip_epsilon: float | int | None = None,
        verbose: int = 0,
    ) -> None:
        """Say how often to measure and when to stop.

        Args:
            stop_when: looks at every row and answers why training should stop, or None to go on. It stops one
                environment step later.
            every: measure every so many updates. None measures those that the log shows: `log_interval`, by
                default each update of PPO and one in a hundred of A2C. Of several between two entries of the log
                the log shows the last; `rows` holds them all.
            clip_epsilon: ε for the ratios. None for PPO's own clip range; A2C is read at 0.2.
            verbose: as in `BaseCallback`.

        Raises:
            UserError: if a number is out of range.
        """
        super().__init__(verbose)
        require(every is None or every >= 1, "every", every, "None or an integer of at least 1")
        in_range = clip_epsilon is None or bool(0 < clip_epsilon < np.inf)
        require(in_range, "clip_epsilon", clip_epsilon, "None or a finite number > 0")
        self.rows: list[Row] = []
        self._updates = 0
        self.stopped_because: str | None = None
        self._stop_when = stop_when
        self._every = every
        self._clip_epsilon = clip_epsilon

    def _init_callback(self) -> None:
        accepted = "a stable_baselines3 PPO or A2C (or a subclass)"
        require(isinstance(self.model, PPO | A2C), "model", type(self.model).__name__, accepted)

    def _on_training_start(self) -> None:
        """Find the networks now, so that a policy without any hidden layer is refused at once."""
        model = self._algorithm
        self._monitor = TorchMonitor(model.policy.action_net, model.policy.value_net)
        first: Any = obs_as_tensor(model._last_obs, model.device)  # pyright: ignore[reportArgumentType]
        # In evaluation mode: a probe must not touch the statistics of a batch norm, nor draw for a dropout.
        was_training = model.policy.training
        model.policy.set_training_mode(False)
        try:
            with torch.no_grad(), self._monitor.recording():
                model.policy.get_distribution(first)
                model.policy.predict_values(first)
        finally:
            model.policy.set_training_mode(was_training)
        self._interval = self._every or self.locals["log_interval"] or 1
        if model.num_timesteps == 0:  # A run that goes on keeps its rows.
            self.rows, self._updates = [], 0
        self._episodes: list[Mapping[str, float]] = []
        self._ended = 0
        self._unreported = False
        self._before: _Before | None = None
        self.stopped_because = None

    def _on_step(self) -> bool:
        self._episodes.extend(info["episode"] for info in self.locals["infos"] if "episode" in info)
        self._ended += int(np.sum(self.locals["dones"]))
        return self.stopped_because is None

    def _on_rollout_end(self) -> None:
        """The rollout is complete, the update not begun."""
        model = self._algorithm
        self._updates += 1
        if self._ended and not self._episodes and not self._unreported and not is_monitored(model.get_env()):
            self._unreported = True
            warnings.warn(f"HealthCallback: {UNREPORTED}", stacklevel=2)
        is_last = model.num_timesteps >= self.locals["total_timesteps"]
        # The update whose numbers the log shows is the one before the rollout at which it is written.
        if is_last or (self._updates + 1) % self._interval == 0:
            began = time.perf_counter()
            batch = rollout_batch(model)
            seen = view(model, self._monitor, batch)
            position = {
                "seed": model.seed,
                "batch": self._updates - 1,
                "env_steps": model.num_timesteps,
            }
            returns = returns_of(self._episodes, self._unreported)
            self._before = _Before(position, returns, batch, seen, time.perf_counter() - began)
        self._episodes, self._ended = [], 0

    def _on_rollout_start(self) -> None:
        self._finish()

    def _on_training_end(self) -> None:
        self._finish()
        # Also where training was stopped in the middle of a rollout, which never comes to be logged.
        if _DATE in self.logger.name_to_value:
            self.logger.dump(self.rows[-1]["env_steps"])

    @property
    def _algorithm(self) -> OnPolicyAlgorithm:
        model = self.model
        assert isinstance(model, OnPolicyAlgorithm)  # `_init_callback` made sure.
        return model

    def _finish(self) -> None:
        """Measure the update that has just ended, if it is one to be measured."""
        if self._before is None:
            return
        began = time.perf_counter()
        model, before, self._before = self._algorithm, self._before, None
        after = view(model, self._monitor, before.batch)
        extra = policy_measurements(
            before.seen,
            after,
            before.batch,
            self._epsilon(model),
            bool(getattr(model, "normalize_advantage", False)),
            isinstance(model.action_space, spaces.Box),
        )
        row: Row = {
            **before.position,
            **health_row(before.seen.networks, after.networks, {"perf/": before.returns, **extra}),
            "fault": _fault(model),
            "time/health": before.seconds + time.perf_counter() - began,
        }
        self.rows.append(row)
        self._log(row, after.networks.networks["actor"].features.shape[1])
        if self._stop_when is not None:
            self.stopped_because = self._stop_when(row)
        if self.stopped_because is not None:
            self.logger.warn(f"HealthCallback stops at step {row['env_steps']:,}: {self.stopped_because}")

    def _log(self, row: Row, width: int) -> None:
        for name, value in row.items():
            if "/" in name and name != "health/undefined":
                self.logger.record(name, value, exclude=None if name in ON_SCREEN else ("stdout", "log"))
        # Without it nobody who reads the log could say whether 62 dead units are most of them.
        self.logger.record("health/actor/units", width, exclude=("stdout", "log"))
        self.logger.record(_DATE, row["env_steps"], exclude=("stdout", "log"))
        self.logger.record(
            "health/undefined", row["health/undefined"], exclude=("stdout", "log", "tensorboard")
        )
        if row["fault"]:
            self.logger.record("health/parameters", float("nan"), exclude=("stdout", "log"))
            # Stable-Baselines3 is about to raise, and would take the row with it.
            self.logger.dump(row["env_steps"])
            self.logger.warn(f"HealthCallback at step {row['env_steps']:,}: {row['fault']}")

    def _epsilon(self, model: OnPolicyAlgorithm) -> float:
        if self._clip_epsilon is not None:
            return float(self._clip_epsilon)
        if isinstance(model, PPO):
            schedule: Any = model.clip_range
            return float(schedule(model._current_progress_remaining))
        return DEFAULT_CLIP


class _Before(NamedTuple):
    """A rollout that is about to be trained on."""

    position: Row
    returns: health.Measured
    batch: Batch
    seen: View
    seconds: float


def _fault(model: OnPolicyAlgorithm) -> str:
    """Which parameters are not finite; "" when all are."""
    broken = [name for name, p in model.policy.named_parameters() if not bool(torch.isfinite(p).all())]
    return f"parameters are not finite after the update: {', '.join(broken)}" if broken else ""
