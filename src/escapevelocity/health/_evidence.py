"""What speaks for and against a verdict, in sentences; what was not measured; when a well will be left."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from escapevelocity.health import gravity
from escapevelocity.health._memory import number
from escapevelocity.health.context import Context
from escapevelocity.health.signs import SIGNS, Instrument, Sign
from escapevelocity.health.verdict import Judgement, Verdict
from escapevelocity.health.watch import Onset

LAW_TOLERANCE = 0.25
"""The laws are those of the gradient flow near the corner: exact to about π(a*)·log(1/π(a*))."""

_TRUST = (Instrument.KL, Instrument.RATIOS)


@dataclass(frozen=True)
class Escape:
    """A gravity well's prediction, by the laws of `health.gravity`.

    Attributes:
        best_prob: π(a*) in the newest row.
        gap: Δ.
        rate: η.
        remaining: updates from there to the escape.
        clock: how far the prediction moved from the oldest row to the newest, as a share of the updates between them:
            1 where the law holds. None with a single row.
    """

    best_prob: float
    gap: float
    rate: float
    remaining: float
    clock: float | None = None

    @property
    def law_holds(self) -> bool:
        """Whether the records so far follow the law, within a quarter."""
        return self.clock is not None and abs(self.clock - 1) < LAW_TOLERANCE


def predicted_escape(rows: Sequence[Mapping[str, Any]], context: Context) -> Escape | None:
    """Predict when the policy will have left its well; None where the records do not hold π(a*), Δ and η."""
    timed = [(number(row["env_steps"]), *_prediction(row, context)) for row in rows]
    timed = [entry for entry in timed if entry[-1] == entry[-1]]
    if not timed:
        return None
    (first, *_, at_first), (last, best_prob, gap, rate, remaining) = timed[0], timed[-1]
    clock = (at_first - remaining) / (last - first) if last > first else None
    return Escape(best_prob, gap, rate, remaining, clock)


def _prediction(row: Mapping[str, Any], context: Context) -> tuple[float, float, float, float]:
    """Give π(a*), Δ, η of a row, and the updates that the law predicts from there."""
    best_prob, gap, rate = (number(row.get(f"gravity/{name}")) for name in ("best_prob", "gap", "rate"))
    return best_prob, gap, rate, float(_law(best_prob, gap, rate, context))


def _law(best_prob: float, gap: float, rate: float, context: Context) -> Any:
    if context.update_rule == "escort":
        return gravity.escort_escape_time(best_prob, gap, rate, context.escort_p or 1.0)
    if context.update_rule == "natural":
        return gravity.natural_escape_time(best_prob, gap, rate)
    if context.update_rule == "normalised":
        return gravity.normalised_escape_time(best_prob, rate)
    if context.update_rule == "inverse-probability":
        return gravity.inverse_probability_escape_time(best_prob, gap, rate)
    return gravity.softmax_escape_time(best_prob, gap, rate)


def evidence(onsets: Sequence[Onset], judgement: Judgement, escape: Escape | None) -> tuple[str, ...]:
    """Tell what the verdict rests on, and what speaks against it."""
    told = []
    if judgement.agreeing:
        told.append(f"for it: {', '.join(judgement.agreeing)}")
    if judgement.disagreeing:
        told.append(f"against it: {', '.join(judgement.disagreeing)}")
    lasting = [onset for onset in onsets if onset.ended is None]
    features = [o for o in lasting if SIGNS[o.sign].instrument is Instrument.FEATURES]
    trust = [o for o in lasting if SIGNS[o.sign].instrument in _TRUST]
    if judgement.verdict is Verdict.REPRESENTATION_COLLAPSE and features and trust:
        if trust[0].step < features[0].step:
            told.append(
                f"updates left the trust region at step {trust[0].step:,}, before the features were lost: "
                "too large a step is the likely driver"
            )
        elif trust[0].step > features[0].step:
            told.append(
                "the features were lost before updates left the trust region, as Moalla et al. 2024 describe"
            )
    if escape is not None:
        told.append(
            f"π(a*) = {escape.best_prob:.3g}, Δ = {escape.gap:.3g}, η = {escape.rate:.3g}: the law predicts the escape "
            f"in {escape.remaining:,.0f} more updates"
        )
        if escape.clock is not None:
            told.append(f"so far the prediction came nearer by {escape.clock:.2f} updates per update")
    return tuple(told)


_OF_A_TABLE = (
    Instrument.NUMBERS, Instrument.POLICY, Instrument.GRADIENT, Instrument.GRAVITY, Instrument.RETURN,
)  # fmt: skip
_OF_A_SAMPLER = (Instrument.NUMBERS, Instrument.SAMPLING, Instrument.CONTROLLER, Instrument.RETRIEVAL)
_OF_AN_AGENT = tuple(x for x in Instrument if x not in (Instrument.GRAVITY, *_OF_A_SAMPLER[1:]))


def unmeasured(rows: Sequence[Mapping[str, Any]], measured: Set[Sign], context: Context) -> tuple[str, ...]:
    """List the signs that could not have been seen, each with its reason.

    A table has no features; outside of the lab nobody knows the best action; only a sampler has a distribution.
    """
    kinds = _OF_A_SAMPLER if context.retrieval else _OF_A_TABLE if context.tabular else _OF_AN_AGENT
    defined = {column for row in rows for column, value in row.items() if number(value) == number(value)}
    told = []
    for sign in Sign:
        if SIGNS[sign].instrument in kinds and sign not in measured:
            told.append(f"{sign}: {_why_not(sign, defined, context)}")
    return tuple(told)


def _why_not(sign: Sign, defined: Set[str], context: Context) -> str:
    missing = [column for column in SIGNS[sign].columns if column not in defined]
    if missing and (len(missing) == len(SIGNS[sign].columns) or not SIGNS[sign].alternatives):
        return f"no {' or '.join(missing)} in the records"
    if sign is Sign.DEAD_NEURONS and context.width is None:
        return "the layer's width is unknown"
    if sign in (Sign.BROAD_SAMPLING, Sign.FLOOR_BINS) and context.bins is None:
        return "the number of bins is unknown"
    if sign is Sign.ENTROPY_COLLAPSE and (context.continuous is None or context.action_size is None):
        return "the action space is unknown"
    return "defined in too few batches"
