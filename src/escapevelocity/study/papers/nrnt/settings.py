"""The paper's fourteen settings (six games, four MuJoCo tasks with tanh and ReLU) at its own scale and a small one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from escapevelocity.errors import require
from escapevelocity.study.papers.figure import Scale

if TYPE_CHECKING:
    from escapevelocity.study.grid import Study

SEEDS = (25, 7, 64, 27, 4)
"""The paper's."""
SMALL_RATE = 3e-3
"""Learning rate at small scale on MuJoCo, ten times the paper's: studies/early_warning saw it damage or collapse the
representation of all ten ReLU agents on Hopper and HalfCheetah within 100,000 steps (20 epochs), and the paper's rate
of none (10 epochs)."""
SMALL_ATARI_RATE = 2.5e-3
"""Learning rate at small scale on Atari, ten times the paper's too: on Phoenix the norm grew 22 times within 65,000
frames, and the rank grew with it (studies/small_scale)."""


@dataclass(frozen=True)
class Setting:
    """A task and an activation, the unit of the paper's figures.

    Attributes:
        name: as `--task` has it: the task's id, with "-relu" behind it for the ReLU agents of MuJoCo.
        family: whose settings it has.
        small_steps: environment steps (frames of games) per seed at small scale.
    """

    name: str
    family: Literal["atari", "mujoco"]
    small_steps: int

    @property
    def task(self) -> str:
        """The environment's id."""
        return self.name.removesuffix("-relu")

    @property
    def activation(self) -> str:
        """Of the hidden layers."""
        return "relu" if self.family == "atari" or self.name.endswith("-relu") else "tanh"

    @property
    def epochs(self) -> tuple[int, int, int]:
        """Passes over each batch that the paper compares, fewest first."""
        return (4, 6, 8) if self.family == "atari" else (10, 15, 20)

    @property
    def units(self) -> str:
        """What a step is called."""
        return "frames" if self.family == "atari" else "steps"

    @property
    def shown(self) -> str:
        """Its name in titles and captions."""
        return self.name if self.family == "atari" else f"{self.task} ({self.activation})"

    def seeds(self, scale: Scale) -> tuple[int, ...]:
        """The paper's five, on Atari at small scale the first three of them."""
        return SEEDS[:3] if (self.family, scale) == ("atari", "small") else SEEDS

    def steps(self, scale: Scale, factor: int = 1) -> int:
        """Environment steps (frames) per seed; a long run has `factor` times as many."""
        full = 100_000_000 if self.family == "atari" else 5_000_000
        return factor * (full if scale == "paper" else self.small_steps)

    def learning_rate(self, scale: Scale) -> float:
        """Adam's step size."""
        if self.family == "atari":
            return 2.5e-4 if scale == "paper" else SMALL_ATARI_RATE
        return 3e-4 if scale == "paper" else SMALL_RATE

    def base(self, scale: Scale, factor: int = 1) -> dict[str, Any]:
        """What all its runs share, beside the preset that follows from the task."""
        return {
            "task": self.task,
            "activation": self.activation,
            "steps": self.steps(scale, factor),
            "learning_rate": self.learning_rate(scale),
        }


_GAMES = ("Phoenix", "NameThisGame", "Gravitar", "Qbert", "BattleZone", "DoubleDunk")
# Humanoid and Ant are slower to simulate: fewer steps keep a figure under an hour.
_MUJOCO = {"Ant": 200_000, "HalfCheetah": 300_000, "Humanoid": 150_000, "Hopper": 300_000}

# 21 batches: windows of 5 % need 20 at least, and the excess ratio's needs two of them.
GAMES = tuple(Setting(f"ALE/{game}-v5", "atari", 65_000) for game in _GAMES)
MUJOCO = tuple(
    Setting(f"{task}-v4{suffix}", "mujoco", steps)
    for task, steps in _MUJOCO.items()
    for suffix in ("", "-relu")
)
SETTINGS = (*GAMES, *MUJOCO)
TASKS = tuple(setting.name for setting in SETTINGS)
"""What `--task` accepts for the main figures; the paper draws them for Phoenix."""


def setting_of(task: str) -> Setting:
    """The setting of that name.

    Raises:
        UserError: there is none.
    """
    known = {setting.name: setting for setting in SETTINGS}
    require(task in known, "task", task, f"one of {', '.join(known)}")
    return known[task]


def make_study(
    figure: str,
    setting: Setting,
    scale: Scale,
    axes: Mapping[str, Iterable[Any]],
    factor: int = 1,
    base: Mapping[str, Any] | None = None,
) -> "Study":
    """The grid of a figure. Figures with a cell in common have its run in common: specs say nothing of figures.

    Args:
        figure: its id.
        setting: task and activation.
        scale: small or paper.
        axes: what its cells differ in.
        factor: how many times longer the runs are than others.
        base: further settings of all its runs.
    """
    from escapevelocity.study.grid import Study

    name = "-".join((figure, setting.name, scale)).replace("/", "-").lower()
    return Study(
        name=name,
        base={**setting.base(scale, factor), **(base or {})},
        axes={axis: tuple(values) for axis, values in axes.items()},
        seeds=setting.seeds(scale),
    )


def scale_note(setting: Setting, scale: Scale | None, factor: int = 1) -> str:
    """A sentence that says what a scale's runs are, and how the small ones differ from the paper's."""
    seeds, steps = len(setting.seeds(scale or "small")), setting.steps(scale or "small", factor)
    if scale == "paper":
        rate = setting.learning_rate("paper")
        return f"Paper's scale: {steps:,} {setting.units}, {seeds} seeds, learning rate {rate:g}."
    if scale is None:
        return "Neither the paper's scale nor the small one: steps or learning rate are others."
    return (
        f"Small scale: learning rate {setting.learning_rate('small'):g} instead of {setting.learning_rate('paper'):g}, "
        f"{steps:,} {setting.units} instead of {setting.steps('paper', factor):,}, {seeds} seeds: not the paper's "
        "experiment."
    )
