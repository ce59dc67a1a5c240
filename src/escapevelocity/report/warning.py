"""Early warning: one line when a sign of illness appears, and a run that stops when it has collapsed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from escapevelocity.errors import UserError, require
from escapevelocity.health.signs import CIRCUMSTANCES, MEDIAN_LEADS, NO_WARNING, Sign
from escapevelocity.health.thresholds import Thresholds
from escapevelocity.health.verdict import MEDIUM, Verdict, judge
from escapevelocity.health.watch import Onset, Watch
from escapevelocity.report._farewell import COLLAPSED
from escapevelocity.report._shown import find_setting
from escapevelocity.report.diagnosis import run_context
from escapevelocity.runs import Observer, RunInfo, whole_records


class EarlyWarning(Observer):
    """Watches a run with the rules of the diagnosis, a few ten microseconds a row.

    Args:
        tell: takes each warning, one line.
        stop_on: "collapse" stops the run once every member that still trains has collapsed: representation collapse
            with at least medium confidence, or a return that has fallen from its best. The run ends as interrupted,
            with the reason in its status and exit code 0; `ev resume` goes on with it.
        thresholds: what to judge by.
        leads: by sign, the median share of training between its warning and a collapse, where a study has measured it.

    Signs of `NO_WARNING` and `CIRCUMSTANCES` are not told: the diagnosis knows them.
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        stop_on: str | None = None,
        thresholds: Thresholds | None = None,
        leads: Mapping[Sign, float] = MEDIAN_LEADS,
    ) -> None:
        require(stop_on in (None, "collapse"), "stop-on", stop_on, "collapse or None")
        self._tell, self._stop_on, self._thresholds = tell, stop_on, thresholds
        self._leads = leads
        self._watch = Watch(thresholds)
        self._signs: dict[int, frozenset[Sign]] = {}
        self._ended: dict[int, str] = {}
        self._skips = False
        self.reason = ""
        """Why the run is stopped, for its status."""

    def on_start(self, info: RunInfo) -> None:
        """Learn the run's settings, and from a run that goes on, or a branch, what it was like before."""
        context = run_context(info.spec, info.steps_total, _action_size(info.spec))
        self._watch = Watch(self._thresholds, context)
        told = (
            find_setting(info.spec, *path) for path in (("monitoring", "on_nonfinite"), ("on_nonfinite",))
        )
        self._skips = "skip" in told
        self._signs = dict.fromkeys(find_setting(info.spec, "seeds") or (), frozenset())
        self._ended = {}
        if info.segments_done == 0:
            return
        try:
            records, lost = whole_records(info.path, info.parent, info.segments_done)
        except UserError as error:
            self._tell(f"early warning starts anew, without what the run was like before: {error}")
            return
        for line in lost:
            self._tell(f"early warning starts anew: {line}")
        for row in records.to_pylist():
            self._watch.update(row)
            self._note_fault(row)

    def on_row(self, row: Mapping[str, Any]) -> bool | None:
        """Take in one record; tell what it shows, and stop if that was asked for."""
        for onset in self._watch.update(row):
            if onset.sign not in NO_WARNING | CIRCUMSTANCES:
                self._tell(self._line(onset))
        if self._stop_on is None:
            return None
        seed = int(row.get("seed", 0))
        self._note_fault(row)
        active = self._watch.active(seed)
        if active != self._signs.get(seed):
            self._signs[seed] = active
            if self._ended.get(seed) != "":  # Not one that has failed, for good.
                self._ended.pop(seed, None)  # What had collapsed may have recovered.
                if kind := self._collapse(seed):
                    self._ended[seed] = kind
        if self._ended.keys() < self._signs.keys():
            return None
        kinds = sorted({kind for kind in self._ended.values() if kind})
        if not kinds:  # All members failed, which ends the run with a better reason.
            return None
        told = [f"{kind} (seeds {_those(self._ended, kind)})" for kind in kinds]
        self.reason = f"{COLLAPSED} {self._watch.last_step(seed):,}: {', '.join(told)}"
        return False

    def _line(self, onset: Onset) -> str:
        lead = self._leads.get(onset.sign)
        follows = (
            "lead not measured yet"
            if lead is None
            else f"collapse followed after a median of {lead:.0%} of training, in studies/early_warning"
        )
        return (
            f"step {onset.confirmed:,} seed {onset.seed}: {onset.sign} since step {onset.step:,}: {onset.text}"
            f" [{follows}]"
        )

    def _collapse(self, seed: int) -> str:
        """Say how a member has collapsed; empty if it has not."""
        judgement = judge(self._watch.found(seed), self._watch.returns(seed))
        if judgement.verdict is Verdict.REPRESENTATION_COLLAPSE and judgement.confidence >= MEDIUM:
            return judgement.verdict
        return Sign.PERFORMANCE_COLLAPSE if Sign.PERFORMANCE_COLLAPSE in self._watch.active(seed) else ""

    def _note_fault(self, row: Mapping[str, Any]) -> None:
        # A member that skips what is not finite goes on.
        if row.get("fault") and not self._skips:
            self._ended.setdefault(int(row.get("seed", 0)), "")


def _those(ended: Mapping[int, str], kind: str) -> str:
    return " ".join(str(seed) for seed in sorted(ended) if ended[seed] == kind)


def _action_size(spec: Any) -> int | None:
    """Number of actions or of their dimensions of a run that is about to train, whose environments are there."""
    from escapevelocity.envs import DiscreteActions, describe_task

    task = find_setting(spec, "task")
    if task is None:
        return None
    actions = describe_task(task, find_setting(spec, "environment", "backend") or "auto").actions
    return actions.size if isinstance(actions, DiscreteActions) else len(actions.low)
