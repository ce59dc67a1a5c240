"""From a run's records to a verdict: what happened, when it began, how sure we are and what to try."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from escapevelocity.errors import UserError
from escapevelocity.health._evidence import Escape, evidence, predicted_escape, unmeasured
from escapevelocity.health._memory import number
from escapevelocity.health._well_evidence import well_evidence
from escapevelocity.health.context import Context
from escapevelocity.health.signs import RETRIEVAL_COLUMNS
from escapevelocity.health.thresholds import Thresholds
from escapevelocity.health.verdict import CAUSES, Judgement, Verdict, confidence_word, judge
from escapevelocity.health.watch import COLUMNS, Onset, Watch


@dataclass(frozen=True)
class Diagnosis:
    """What is the matter with one seed.

    Attributes:
        seed: the member.
        verdict: what is the matter.
        confidence: in [0, 1]; see `Judgement`. 1 where nothing was inferred.
        reason: why, where the onsets do not say it.
        onsets: every sign that appeared, in the order of onset; those that went away again have `ended`.
        evidence: sentences for and against.
        refuted_by: what would show that the verdict is wrong.
        remedies: names of what to try.
        not_measured: signs that could not have been seen, with the reason.
        steps: environment steps of the newest row.
        batches: rows.
        escape: of a gravity well whose records hold π(a*), Δ and η; else None.
    """

    seed: int
    verdict: Verdict
    confidence: float
    reason: str
    onsets: tuple[Onset, ...]
    evidence: tuple[str, ...]
    refuted_by: tuple[str, ...]
    remedies: tuple[str, ...]
    not_measured: tuple[str, ...]
    steps: int
    batches: int
    escape: Escape | None = None

    @property
    def confidence_word(self) -> str:
        """low, medium or high."""
        return confidence_word(self.confidence)

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {**asdict(self), "confidence_word": self.confidence_word}


@dataclass(frozen=True)
class RunDiagnosis:
    """What is the matter with a run of several seeds.

    Attributes:
        verdict: that of most seeds; of equally many, the gravest.
        seeds: seeds with this verdict.
        confidence: the median of theirs.
        members: every seed's diagnosis.
    """

    verdict: Verdict
    seeds: tuple[int, ...]
    confidence: float
    members: tuple[Diagnosis, ...]

    @property
    def remedies(self) -> tuple[str, ...]:
        """Names of what to try."""
        return next(member.remedies for member in self.members if member.verdict is self.verdict)

    @property
    def confidence_word(self) -> str:
        """low, medium or high."""
        return confidence_word(self.confidence)

    def to_json(self) -> dict[str, Any]:
        """Give everything as JSON values."""
        return {
            "verdict": self.verdict,
            "seeds": list(self.seeds),
            "confidence": self.confidence,
            "confidence_word": self.confidence_word,
            "members": [member.to_json() for member in self.members],
        }


def diagnose(
    records: Mapping[str, Sequence[Any] | np.ndarray],
    context: Context | None = None,
    seed: int | None = None,
    thresholds: Thresholds | None = None,
) -> Diagnosis:
    """Name the cause of what one seed's records show.

    Args:
        records: column -> values of equal length, such as `table.to_pydict()` of a run's records. `env_steps` is
            needed, in any order; every other column is used where it is there. Null and NaN: not measured. With
            `test/recall_at_1` or `validation/recall_at_1` it is an embedding that is diagnosed, and its sampler.
        context: the run's settings; what depends on one that is unknown is not measured.
        seed: which member; needed when the records hold several.
        thresholds: what to judge by.

    Raises:
        UserError: no rows, no `env_steps`, columns of different lengths, or an unclear seed.

    Example:
        >>> steps = range(1, 31)
        >>> records = {"env_steps": steps, "health/actor/dead_neurons": [60.0] * 30, "perf/return_mean": [1.0] * 30}
        >>> diagnose(records, Context(width=64)).verdict.value
        'representation collapse'
    """
    rows, seed = _rows_of(records, seed)
    context = context or Context()
    # A table of several jobs has the columns of all of them, null or NaN where a job does not measure one.
    recalls = (number(row.get(column)) for row in rows for column in RETRIEVAL_COLUMNS)
    if any(recall == recall for recall in recalls):
        context = replace(context, retrieval=True)
    watch = Watch(thresholds, context)
    for row in rows:
        watch.update({**row, "seed": seed})
    onsets, found = watch.onsets(seed), watch.found(seed)
    needed = _needed(watch.thresholds)
    judged = watch.retrieval(seed) if context.retrieval else watch.returns(seed)
    judgement = judge(found, judged, context.tabular, context.retrieval)
    if len(rows) < needed and judgement.verdict is not Verdict.NON_FINITE:
        reason = f"{len(rows)} logged batches; a sign needs {needed}"
        judgement = Judgement(Verdict.NOT_MEASURED, 1.0, reason, (), ())
    cause = judgement.cause or CAUSES.get(judgement.verdict)
    escape = predicted_escape(rows, context) if judgement.verdict is Verdict.GRAVITY_WELL else None
    told = evidence(onsets, judgement, escape)
    if context.retrieval:
        told += well_evidence(rows, watch.thresholds, context, judgement.cause)
    return Diagnosis(
        seed=seed,
        verdict=judgement.verdict,
        confidence=_confidence(judgement, escape),
        reason=judgement.reason,
        onsets=tuple(onsets),
        evidence=told,
        refuted_by=cause.refuted_by if cause else _refuted_by(judgement.verdict, context),
        remedies=cause.remedies
        if cause
        else _remedies(judgement.verdict, context, len(rows), watch.thresholds),
        not_measured=unmeasured(rows, found.measured, context),
        steps=watch.last_step(seed),
        batches=len(rows),
        escape=escape,
    )


def _confidence(judgement: Judgement, escape: Escape | None) -> float:
    """Count the law as one more instrument, where it could be held against the records."""
    if escape is None or escape.clock is None:
        return judgement.confidence
    agree, disagree = len(judgement.agreeing), len(judgement.disagreeing)
    return (agree + escape.law_holds) / (agree + disagree + 2)


def _refuted_by(verdict: Verdict, context: Context) -> tuple[str, ...]:
    """What would show that nothing is known to be the matter only so far."""
    if verdict not in (Verdict.HEALTHY, Verdict.LEARNING):
        return ()
    if context.retrieval:
        return ("a later plunge of retrieval",)
    return ("a loss of capacity, where that was not measured", "a later fall of the return")


def _remedies(verdict: Verdict, context: Context, batches: int, thresholds: Thresholds) -> tuple[str, ...]:
    """What to do where nothing can be said: measure more, train for longer, or both.

    A run that is too short for any sign misses batches, whatever it measured; of a sampler everything is measured.
    """
    if verdict is not Verdict.NOT_MEASURED:
        return ()
    all_measured = context.retrieval or batches < _needed(thresholds)
    longer = ("longer-run",) if batches < thresholds.plateau_batches.value else ()
    return longer if all_measured else ("measure-health", *longer)


def _needed(thresholds: Thresholds) -> int:
    """Batches before a sign can be seen: a median of three, then so many of them."""
    return int(thresholds.persistence.value) + 2


def combine(diagnoses: Sequence[Diagnosis]) -> RunDiagnosis:
    """Put the seeds of one run together: the verdict that most of them have.

    Raises:
        UserError: when there are none.
    """
    if not diagnoses:
        raise UserError("diagnoses = (): must be one or more")
    counts = Counter(diagnosis.verdict for diagnosis in diagnoses)
    verdict = max(counts, key=lambda v: (counts[v], -list(Verdict).index(v)))
    own = [diagnosis for diagnosis in diagnoses if diagnosis.verdict is verdict]
    confidence = float(np.median([diagnosis.confidence for diagnosis in own]))
    return RunDiagnosis(verdict, tuple(d.seed for d in own), confidence, tuple(diagnoses))


USED = (
    *COLUMNS,
    *("env_steps", "fault", "perf/return_max", "perf/length_mean", "trust/ratio_below_count"),
    *("gravity/gap", "gravity/rate"),
    *("asr/distribution", "asr/distance_mean", "asr/distance_std"),
)
"""Columns of the records that a diagnosis reads, besides `seed`."""


def seeds_of(records: Mapping[str, Sequence[Any] | np.ndarray]) -> list[int]:
    """List the seeds in the records; [0] when they have no such column.

    Raises:
        UserError: there are no rows.
    """
    if not records or not len(next(iter(records.values()))):
        raise UserError("records: empty; there is nothing to diagnose before the first logged batch")
    if "seed" not in records:
        return [0]
    return sorted({_number_of(seed) for seed in records["seed"]})


def _number_of(seed: object) -> int:
    """A seed as a number: trainers that were given none write None."""
    return 0 if seed is None else int(seed)  # pyright: ignore[reportArgumentType]


def _rows_of(
    records: Mapping[str, Sequence[Any] | np.ndarray], seed: int | None
) -> tuple[list[dict[str, Any]], int]:
    """Give one seed's rows, in the order of their steps, and the seed."""
    seeds = seeds_of(records)
    if seed is None and len(seeds) > 1:
        raise UserError(f"seed = None: must be one of the records' seeds: {' '.join(map(str, seeds))}")
    seed = seeds[0] if seed is None else seed
    if seed not in seeds:
        raise UserError(f"seed = {seed}: must be one of the records' seeds: {' '.join(map(str, seeds))}")
    if "env_steps" not in records:
        raise UserError("records: the column env_steps is missing; without it nothing has an onset")
    lengths = {column: len(values) for column, values in records.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"records: columns of different lengths, {lengths}; must be one value per row")
    steps = np.array([number(step) for step in records["env_steps"]])
    if np.isnan(steps).any():
        raise UserError("env_steps: must be a number in every row")
    own = (
        np.flatnonzero([_number_of(s) == seed for s in records["seed"]])
        if "seed" in records
        else np.arange(len(steps))
    )
    order = own[np.argsort(steps[own], kind="stable")]
    columns = {column: records[column] for column in USED if column in records}
    return [{column: values[i] for column, values in columns.items()} for i in order], seed
