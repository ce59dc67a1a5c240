"""What a paper's figure is: a claim, the runs that test it, the picture, and what the runs say about the claim."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from escapevelocity.lab.experiments.experiment import Experiment, Findings
    from escapevelocity.study.grid import Study
    from escapevelocity.study.history import History

Scale: TypeAlias = Literal["small", "paper"]
"""`small` fits two cores in under an hour per figure; `paper` is the paper's own size."""


@runtime_checkable
class PaperFigure(Protocol):
    """A figure that is drawn from a study's runs; a frozen dataclass per figure, or per kind of figure.

    The histories given to `draw` and `measured` hold the runs of `study(task, scale)` and no others; some may be
    missing, unfinished or short, which the picture and the sentences then say.
    """

    @property
    def id(self) -> str:
        """PAPER/NAME, such as "nrnt/figure-6"."""
        ...

    @property
    def title(self) -> str:
        """What it shows, in a few words."""
        ...

    @property
    def claim(self) -> str:
        """What the paper claims, in our words, in one or two sentences."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """What `--task` accepts; the first is the default; () where there is nothing to choose."""
        ...

    def study(self, task: str, scale: Scale) -> "Study":
        """The runs that it needs; `task` is one of `tasks`, or "" where there are none."""
        ...

    def draw(self, history: "History", task: str) -> "Figure":
        """Draw it from the runs' records.

        Raises:
            UserError: where the history does not hold what the picture cannot do without.
        """
        ...

    def measured(self, history: "History", task: str) -> list[str]:
        """What we measured: sentences with numbers, seeds and intervals, and whether they confirm the claim."""
        ...


@dataclasses.dataclass(frozen=True)
class LabFigure:
    """A figure that an experiment of the lab computes by itself, in this process; there are no runs to train.

    Attributes:
        id: PAPER/NAME, such as "sgw/figure-3".
        title: what it shows, in a few words.
        claim: what the paper claims, in our words.
        experiment: the experiment's name in `ev lab`, such as "p-study".
        kind: its class in `lab.experiments`, such as "PStudy".
        small: the settings of scale small; those of scale paper are the experiment's defaults.
        cost: what scale small takes, in words, as measured.
        pictures: which of the experiment's pictures it is, by their names in `report.lab`, the most important first.
        verdict: says from the findings whether they confirm the claim; None: the experiment's own answers do.
        tasks: always (): there is nothing to choose.
    """

    id: str
    title: str
    claim: str
    experiment: str
    kind: str
    small: Mapping[str, Any]
    cost: str
    pictures: tuple[str, ...] = ("",)
    verdict: "Callable[[Findings], list[str]] | None" = None
    tasks: tuple[str, ...] = ()

    def study(self, task: str, scale: Scale) -> None:
        """None: no runs."""
        del task, scale

    def settings(self, scale: Scale) -> "Experiment":
        """The experiment with the settings of a scale."""
        module = importlib.import_module(f"escapevelocity.lab.experiments.{self._module}")
        made = getattr(module, self.kind)
        return made(**self.small) if scale == "small" else made()

    def draw(self, experiment: "Experiment", findings: "Findings") -> "dict[str, Figure]":
        """Draw its pictures from what the experiment found; the first one's name is "", the others keep theirs."""
        module = importlib.import_module(f"escapevelocity.report.lab.{self._module}")
        drawn = module.draw(experiment, findings)
        first, *others = self.pictures
        return {"": drawn[first], **{name: drawn[name] for name in others}}

    def measured(self, findings: "Findings") -> list[str]:
        """What we measured: the verdict on the claim, then what the experiment itself says."""
        return [*(self.verdict(findings) if self.verdict else []), *findings.answers]

    @property
    def _module(self) -> str:
        return self.experiment.replace("-", "_")


AnyFigure: TypeAlias = PaperFigure | LabFigure
