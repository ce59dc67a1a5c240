"""What every figure of the paper that is drawn from runs has: its grid, and the sentences on what was measured."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from escapevelocity.study.papers.figure import Scale
from escapevelocity.study.papers.nrnt.arms import Arm
from escapevelocity.study.papers.nrnt.frozen import frozen_note
from escapevelocity.study.papers.nrnt.judge import Check, Outcome, judgement
from escapevelocity.study.papers.nrnt.members import is_dead
from escapevelocity.study.papers.nrnt.settings import Setting, make_study, scale_note, setting_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from escapevelocity.study.grid import Study
    from escapevelocity.study.history import History, HistoryRun

_SCALES: tuple[Scale, ...] = ("small", "paper")
_WORTH = (
    "Bootstrap intervals are too narrow for few seeds: of five they hold the truth in about 85 % of studies, of three "
    "in about 75 %; means of fewer than five seeds have Student's intervals instead."
)


@dataclass(frozen=True)
class Found:
    """The runs of a figure that are there.

    Attributes:
        setting: task and activation.
        history: the runs.
        scale: which scale's runs they are; None where they are neither's, or there is none.
        planned: members (seeds of runs) that the scale's grid has.
        factor: how many times longer its runs are than those of other figures.
    """

    setting: Setting
    history: "History"
    scale: Scale | None
    planned: int
    factor: int

    @cached_property
    def there(self) -> int:
        """Members that have records."""
        return len({(self._cell(run), seed) for run in self.history.runs for seed in run.seeds})

    @cached_property
    def ended(self) -> int:
        """Members of runs that came to their end, or ended because all members became non-finite."""
        ended = (run for run in self.history.runs if run.state == "finished" or is_dead(run, self.history))
        return len({(self._cell(run), seed) for run in ended for seed in run.seeds})

    @property
    def is_complete(self) -> bool:
        """Whether all runs of the paper's scale are there and have ended: nothing found then means something."""
        return self.scale == "paper" and self.ended >= self.planned

    def note(self) -> str:
        """Which runs there are, in a sentence or two."""
        if not self.history.runs:
            return "No run is there yet: nothing measured."
        known = f" of the {self.planned} planned" if self.scale else ""
        runs = f"{self.there}{known} runs are there."
        if self.ended != self.there:
            runs += f" {self.ended} of them have ended; nothing is judged from the others yet."
        frozen = frozen_note(self.history)
        return " ".join(
            [scale_note(self.setting, self.scale, self.factor), runs, *([frozen] if frozen else [])]
        )

    @staticmethod
    def _cell(run: "HistoryRun") -> str:
        return str(sorted((key, str(value)) for key, value in run.settings.items()))


@dataclass(frozen=True)
class RunFigure(ABC):
    """A figure that is drawn from training runs; see `papers.figure.PaperFigure` for what its fields mean.

    Attributes:
        id: such as "nrnt/figure-6".
        title: what it shows.
        claim: what the paper claims, in our words.
        tasks: what `--task` accepts.
    """

    id: str
    title: str
    claim: str
    tasks: tuple[str, ...]

    factor = 1
    """How many times longer its runs are than those of other figures."""

    @property
    def shows_capacity(self) -> bool:
        """Whether the runs' capacity losses are to be measured for it."""
        return False

    @abstractmethod
    def axes(self, setting: Setting, scale: Scale) -> Mapping[str, Iterable[Any]]:
        """What the cells of its grid differ in."""

    @abstractmethod
    def picture(self, found: Found) -> "Figure":
        """Draw it."""

    @abstractmethod
    def checks(self, found: Found) -> Sequence[Check]:
        """The parts of its claim, held against the runs."""

    def remarks(self, found: Found) -> list[str]:
        """Further sentences with numbers."""
        del found
        return []

    def base(self, setting: Setting, scale: Scale) -> Mapping[str, Any]:
        """Settings that all its runs have beside those of the task and the scale."""
        del setting, scale
        return {}

    def judge(self, checks: Sequence[Check], complete: bool) -> Outcome:
        """The outcome of the whole claim."""
        return judgement(checks, complete)

    def rule(self) -> str:
        """How the outcome was decided, in words."""
        return (
            "Rule: every mean's 95 % interval over seeds must lie on the claimed side; not confirmed when "
            "one lies on the other side, or holds the level although all runs of the paper's scale have ended."
        )

    def study(self, task: str, scale: Scale) -> "Study":
        """The grid of its runs."""
        setting = setting_of(task or self.tasks[0])
        axes, base = self.axes(setting, scale), self.base(setting, scale)
        return make_study(self.id, setting, scale, axes, self.factor, base)

    def found(self, history: "History", task: str) -> Found:
        """The runs that are there, and which scale's they are."""
        setting = setting_of(task or self.tasks[0])
        own = history.where(task=setting.task, activation=setting.activation) if history.runs else history
        scale: Scale | None = next((one for one in _SCALES if _are_of(own, setting, one, self.factor)), None)
        sizes = {axis: len(tuple(values)) for axis, values in self.axes(setting, scale or "small").items()}
        planned = prod(sizes.values()) * len(setting.seeds(scale or "small"))
        return Found(setting, own, scale, planned, self.factor)

    def draw(self, history: "History", task: str) -> "Figure":
        """Draw it from the runs' records."""
        return self.picture(self.found(history, task))

    def measured(self, history: "History", task: str) -> list[str]:
        """Which runs there are, each part of the claim with its numbers, and a judgement by the rule of `judge`."""
        found = self.found(history, task)
        if not found.history.runs:
            return [found.note(), "Judgement: cannot be told at this scale."]
        checks = self.checks(found)
        outcome = self.judge(checks, found.is_complete)
        return [
            found.note(),
            *(said for check in checks for said in check.sentences(found.is_complete)),
            *self.remarks(found),
            f"Judgement for {found.setting.shown}: {outcome}. {self.rule()} {_WORTH}",
        ]


def arm_axis(arms: Sequence[Arm], setting: Setting) -> tuple[dict[str, Any], ...]:
    """The axis of the arms."""
    return tuple(arm.axis_value(setting) for arm in arms)


def _are_of(history: "History", setting: Setting, scale: Scale, factor: int) -> bool:
    wanted = setting.base(scale, factor)
    return any(
        all(run.settings.get(name) == wanted[name] for name in ("steps", "learning_rate"))
        for run in history.runs
    )
