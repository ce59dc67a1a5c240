"""40 segments against one: what is compared, seed by seed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from escapevelocity.study.bootstrap import Interval, improvement_interval
from escapevelocity.study.history import History
from escapevelocity.study.paired import PairedComparison, paired_comparison
from studies.measures import (
    BOOTSTRAP_SEED,
    DEAD_RETURN,
    REPETITIONS,
    Lives,
    Measure,
    at_end,
    by_seed,
    difference_interval,
    iqm_interval,
    known,
    on_average,
)
from studies.segment_rule.plan import JOBS

RETURN = "perf/return_mean"
CUT = "perf/episodes_cut"


@dataclass(frozen=True)
class Quantity:
    """Something that is compared.

    Attributes:
        title: in the table.
        column: of the records.
        measure: its value for a run.
        digits: decimal places in the table.
    """

    title: str
    column: str
    measure: Measure
    digits: int = 0


QUANTITIES = (
    Quantity("return, last 5 %", RETURN, at_end(dead=DEAD_RETURN)),
    Quantity("return, mean over the run", RETURN, on_average(DEAD_RETURN)),
    Quantity("actor's feature rank (PCA, after), last 5 %", "health/actor/feature_rank_pca_after", at_end(), 1),
    Quantity("critic's feature rank (PCA, after), last 5 %", "health/critic/feature_rank_pca_after", at_end(), 1),
    Quantity("actor's pre-activation norm, last 5 %", "health/actor/preactivation_norm", at_end(), 1),
    Quantity("actor's dead units of 64, last 5 %", "health/actor/dead_neurons", at_end(), 1),
    Quantity("mean ratio below 1 − ε, last 5 %", "trust/ratio_below_mean", at_end(), 3),
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """One quantity at one number of epochs.

    Attributes:
        quantity: what.
        epochs: of the runs.
        forty: interquartile mean over seeds under 40 segments, with its interval.
        one: the same under one segment.
        unpaired: IQM under 40 segments − IQM under one; both resampled by themselves.
        paired: the differences seed by seed, 40 segments − 1.
        improvement: P(40 segments > 1 segment).
        seed_std: standard deviation over seeds under one segment.
    """

    quantity: Quantity
    epochs: int
    forty: Interval
    one: Interval
    unpaired: Interval
    paired: PairedComparison
    improvement: Interval
    seed_std: float = field(default=np.nan)


def comparisons(history: History, repetitions: int = REPETITIONS) -> Iterator[Comparison]:
    """Compare the finished runs; numbers of epochs that only one of the rules has are left out.

    Args:
        history: finished runs under both rules.
        repetitions: of the bootstrap.
    """
    for epochs in epochs_of(history):
        for quantity in QUANTITIES:
            forty, one = (
                by_seed(history.where(job=job, epochs=epochs), quantity.column, quantity.measure)
                for job in JOBS.values()
            )
            shared = [seed for seed in forty if np.isfinite([forty[seed], one.get(seed, np.nan)]).all()]
            forty, one = ({seed: scores[seed] for seed in shared} for scores in (forty, one))
            of_forty, of_one, unpaired = (
                iqm_interval(forty, repetitions),
                iqm_interval(one, repetitions),
                difference_interval(forty, one, repetitions),
            )
            if of_forty is None or of_one is None or unpaired is None:
                continue
            yield Comparison(
                quantity,
                epochs,
                of_forty,
                of_one,
                unpaired,
                paired_comparison(forty, one, seed=BOOTSTRAP_SEED, repetitions=repetitions),
                improvement_interval(known(forty), known(one), seed=BOOTSTRAP_SEED, repetitions=repetitions),
                float(np.std(list(one.values()), ddof=1)) if len(one) > 1 else np.nan,
            )


def epochs_of(history: History) -> list[int]:
    """The numbers of epochs that finished runs of both rules have."""
    each = [
        {run.settings["epochs"] for run in history.runs if run.settings["job"] == job}
        for job in JOBS.values()
    ]
    return sorted(set.intersection(*each))


def episodes_cut(history: History, job: str, epochs: int) -> tuple[float, float]:
    """Mean over seeds of the episodes that a boundary cut, and of those that ended by themselves."""
    own = history.where(job=job, epochs=epochs)
    cut, ended = (by_seed(own, column, _total) for column in (CUT, "perf/episodes"))
    return float(np.mean(list(cut.values()))), float(np.mean(list(ended.values())))


def first_difference(history: History, epochs: int) -> dict[int, float]:
    """For each seed the step of the first batch that returned something else under the two rules; inf if none did."""
    forty, one = ({}, {})
    for job, found in zip(JOBS.values(), (forty, one), strict=True):
        for run in history.where(job=job, epochs=epochs).runs:
            steps, values = history.values(run, RETURN)
            found |= {seed: (steps, own) for seed, own in zip(run.seeds, values, strict=True)}
    first = {}
    for seed in sorted(forty.keys() & one.keys()):
        steps, values = forty[seed]
        others = np.interp(steps, *one[seed])  # The same steps: a look-up, for all batches were recorded.
        apart = np.flatnonzero(~np.isclose(values, others, rtol=0, atol=0, equal_nan=True))
        first[seed] = float(steps[apart[0]]) if apart.size else np.inf
    return first


def holm(p_values: list[float]) -> list[float]:
    """Adjust p-values for their number (Holm 1979): the smallest × n, the next × (n − 1), …, none below the one before.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def _total(lives: Lives) -> np.ndarray:
    return np.nansum(lives.values, axis=1)
