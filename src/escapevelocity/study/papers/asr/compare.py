"""Figures that compare arms on the same images and seeds: their curves, and paired differences from one of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from escapevelocity.errors import UserError
from escapevelocity.report._panels import ASR_PANELS, Panel
from escapevelocity.study.papers.asr.arms import RECALL, Arm, ArmRuns, finished, runs_of, written
from escapevelocity.study.papers.asr.size import TASKS, asr_study
from escapevelocity.study.papers.figure import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from escapevelocity.study.grid import Study
    from escapevelocity.study.history import History

SIX = ASR_PANELS[:6]
"""The curves in which the paper shows the well."""
FEW = (ASR_PANELS[0], ASR_PANELS[4], ASR_PANELS[6], ASR_PANELS[7])
"""Recall@1 and NMI of unseen classes, what the agent is paid by, and the distances that it draws."""

Verdict = Callable[[dict[str, ArmRuns]], list[str]]


@dataclass(frozen=True, eq=False)
class ArmsFigure:
    """Several ways to choose negatives, side by side.

    Attributes:
        id: PAPER/NAME.
        title: what it shows.
        claim: what was claimed or asked.
        arms: what is compared.
        reference: label of the arm that the others are paired with.
        verdict: says from the runs by label whether they confirm the claim.
        panels: what is drawn.
        chosen: which arms are drawn, from the runs by label; by default all.
        tasks: images.
    """

    id: str
    title: str
    claim: str
    arms: tuple[Arm, ...]
    reference: str
    verdict: Verdict
    panels: tuple[Panel, ...] = FEW
    chosen: Callable[[dict[str, ArmRuns]], list[str]] | None = None
    tasks: tuple[str, ...] = TASKS

    def study(self, task: str, scale: Scale) -> "Study":
        """A run per arm."""
        name = self.id.split("/")[1]
        return asr_study(name, task, scale, {"arm": tuple(arm.axis_value for arm in self.arms)})

    def found(self, history: "History") -> dict[str, ArmRuns]:
        """The runs by the arm's label, in the order of the arms; those without runs are left out."""
        arms = {arm.label: runs_of(arm, self.arms, history) for arm in self.arms}
        return {label: runs for label, runs in arms.items() if runs.history.runs}

    def draw(self, history: "History", task: str) -> "Figure":
        """Curves of the chosen arms: mean and min–max over seeds.

        Raises:
            UserError: no arm has a run.
        """
        from escapevelocity.report import _figure

        found = self.found(history)
        if not found:
            raise UserError(f"{self.id}: no run of {task} is one of its arms")
        # Of runs that have just begun none is chosen.
        labels = (self.chosen(found) if self.chosen else []) or list(found)
        series = [found[label].series(self.panels) for label in labels]
        seeds = sorted({seed for runs in found.values() for run in runs.history.runs for seed in run.seeds})
        caption = (
            f"{task}, {len(seeds)} seeds: mean (line) and range over seeds. Unseen classes are those that were never "
            "trained on."
        )
        with _figure.paper_style():
            return _figure.draw(self.panels, series, caption, steps="training steps")

    def measured(self, history: "History", task: str) -> list[str]:
        """The verdict, then a sentence for each arm with its difference from the reference; of finished runs."""
        found = self.found(finished(history))
        return [*self.answers(history, task), *(self._sentence(label, found) for label in found)]

    def answers(self, history: "History", task: str) -> list[str]:
        """The verdict, and which arms have no finished run: what stands beside `table`."""
        del task
        found = self.found(finished(history))
        missing = [arm.label for arm in self.arms if arm.label not in found]
        said = self.verdict(found) if self.reference in found else []
        return [
            *said,
            *([f"Not measured, for want of finished runs: {', '.join(missing)}."] if missing else []),
        ]

    def table(self, history: "History") -> list[str]:
        """A row in Markdown for each arm: final and mean Recall@1, well, and paired differences from the reference."""
        found = self.found(finished(history))
        header = ("arm", "seeds", "Recall@1, final", "Recall@1, mean over training", "with a well", "depth")
        lines = [
            f"| {' | '.join((*header, f'final − {self.reference}', f'mean − {self.reference}'))} |",
            "|---" + "|---:" * (len(header) + 1) + "|",
        ]
        for label, runs in found.items():
            depths = runs.scores("depth")
            wells = f"{sum(depth > 0 for depth in depths.values())} of {len(depths)}"
            cells = [label, str(len(depths)), written(runs.interval("final")), written(runs.interval("mean"))]
            cells += [wells, written(runs.interval("depth"))]
            cells += [self._difference(label, measure, found) for measure in ("final", "mean")]
            lines.append(f"| {' | '.join(cells)} |")
        return lines

    def depths(self, history: "History") -> list[str]:
        """A row in Markdown for each arm: of each of the six curves, how many seeds fell, how deep, and beyond what."""
        found = self.found(finished(history))
        columns = {panel.title: panel.columns[0] for panel in SIX}
        lines = [f"| arm | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for label, runs in found.items():
            lines.append(f"| {label} | {' | '.join(_fell(runs, column) for column in columns.values())} |")
        return lines

    def _difference(self, label: str, measure: str, found: dict[str, ArmRuns]) -> str:
        if label == self.reference or self.reference not in found:
            return "–"
        paired = found[label].against(found[self.reference], measure)
        return "–" if paired is None else written(paired.mean, sign=True)

    def _sentence(self, label: str, found: dict[str, ArmRuns]) -> str:
        runs = found[label]
        text = (
            f"{label}: Recall@1 of unseen classes {written(runs.interval('final'))} at the end, "
            f"{written(runs.interval('mean'))} over the whole training"
        )
        if label == self.reference or self.reference not in found:
            return f"{text}."
        return f"{text}; at the end {self._difference(label, 'final', found)} against {self.reference}, paired by seed."


def best_of(labels: Sequence[str], found: dict[str, ArmRuns]) -> str:
    """The label with the highest *validation* Recall@1 over the whole training: the test set chooses nothing."""
    scores = {
        label: sum(values.values()) / len(values)
        for label in labels
        if label in found and (values := found[label].scores("mean", "validation/recall_at_1"))
    }
    return max(scores, key=lambda label: scores[label]) if scores else ""


def _fell(runs: ArmRuns, column: str) -> str:
    """How many seeds fell by more than their curve's noise, the deepest of them, and the range of that noise."""
    depths, limits = runs.scores("depth", column), list(runs.scores("min_depth", column).values())
    if not limits:
        return "–"
    fell = sum(depth > 0 for depth in depths.values())
    deepest = f", {max(depths.values()):.3f}" if fell else ""
    return f"{fell} of {len(depths)}{deepest} ({min(limits):.3f}–{max(limits):.3f})"


def well_sentence(label: str, runs: ArmRuns) -> str:
    """How many seeds of an arm fell into a well, how deep and how soon."""
    depths, onsets = runs.scores("depth", RECALL), runs.scores("onset", RECALL)
    fell = [seed for seed, depth in depths.items() if depth > 0]
    if not fell:
        return f"{label}: no well, none of {len(depths)} curves fell below its best by more than its noise"
    steps = sorted(onsets[seed] for seed in fell if seed in onsets)
    return (
        f"{label}: {len(fell)} of {len(depths)} curves fell, {max(depths.values()):.3f} at most, from step "
        f"{steps[0]:.0f} at the earliest"
    )
