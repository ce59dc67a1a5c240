"""The runs of the study, as one table."""

from dataclasses import dataclass, replace

from escapevelocity.ppo.config import Activation, PPOSpec
from escapevelocity.ppo.training import default_spec

SEEDS = (1, 2, 3, 4, 5)
STEPS = 100_000
QUICK_STEPS = 20_000
UNSEEN_TASK, LAST_TASK = "Walker2d-v4", "Swimmer-v4"
"""No threshold is chosen on either. The last one was trained and looked at when all else was fixed."""


@dataclass(frozen=True)
class Setting:
    """One program: the seeds `SEEDS` of one task with one set of hyper-parameters.

    Attributes:
        task: environment id.
        learning_rate: of Adam, constant.
        epochs: passes over each batch.
        activation: of both networks; all start as PyTorch does.
        expected: whether we expected a collapse when the plan was made. The truth is measured.
        steps: environment steps per seed.
    """

    task: str
    learning_rate: float
    epochs: int
    activation: Activation
    expected: bool
    steps: int = STEPS

    @property
    def name(self) -> str:
        """The run's folder, such as Hopper-v4-relu-e20-lr0.01."""
        return f"{self.task}-{self.activation}-e{self.epochs}-lr{self.learning_rate:g}"


_MUJOCO: tuple[tuple[float, int, Activation, bool], ...] = (
    (3e-4, 10, "tanh", False),
    (3e-4, 10, "relu", False),
    (1e-3, 4, "relu", False),
    (3e-3, 20, "relu", True),
    (5e-3, 20, "relu", True),
    (5e-3, 30, "relu", True),
    (1e-2, 20, "relu", True),
)
"""Learning rate, epochs, activation, expected; the rates are around those that sicken within 100,000 steps."""

_CLASSIC: tuple[tuple[float, int, Activation, bool], ...] = (
    (3e-4, 4, "tanh", False),
    (1e-3, 4, "relu", False),
    (1e-2, 20, "relu", True),
    (2e-2, 20, "relu", True),
    (3e-2, 20, "relu", True),
)
"""Smaller batches and easier tasks: it takes a larger rate to do harm."""

PLAN: tuple[Setting, ...] = (
    *(Setting(task, *row) for task in ("Hopper-v4", "HalfCheetah-v4") for row in _MUJOCO),
    *(Setting(task, *row) for task in ("CartPole-v1", "Acrobot-v1") for row in _CLASSIC),
    *(Setting(task, *row) for task in (UNSEEN_TASK, LAST_TASK) for row in (*_MUJOCO[:2], *_MUJOCO[5:])),
)
"""32 programs of 5 seeds: 90 runs expected to collapse and 70 not."""


def quick_plan() -> tuple[Setting, ...]:
    """A short run of the first and the last setting of every task, to see that the study works."""
    tasks = dict.fromkeys(setting.task for setting in PLAN)
    ends = [[s for s in PLAN if s.task == task] for task in tasks]
    return tuple(replace(s, steps=QUICK_STEPS) for group in ends for s in (group[0], group[-1]))


def spec_of(setting: Setting) -> PPOSpec:
    """The trainer's settings: the task's preset, but for what the table says."""
    spec = default_spec(setting.task, seeds=SEEDS)
    return replace(
        spec,
        steps=setting.steps,
        network=replace(spec.network, activation=setting.activation, initialization="torch"),
        optimizer=replace(
            spec.optimizer,
            learning_rate=setting.learning_rate,
            epochs=setting.epochs,
            anneal="none",
        ),
    )
