"""From signs to a verdict: what speaks for and against it, and how sure that leaves us."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

from escapevelocity.health._reading import Degree
from escapevelocity.health._returns import Returns
from escapevelocity.health.causes import CAUSES, MULTIPLICATIVE_WELL, SAMPLER_CAUSES, Cause, Verdict
from escapevelocity.health.signs import CIRCUMSTANCES, SIGNS, Instrument, Sign

MEDIUM, HIGH = 0.4, 0.7
"""Confidence from which it is called so: one instrument that nothing contradicts, three of them."""

_HEALTHY_NEEDS = (
    Instrument.NUMBERS,
    Instrument.FEATURES,
    Instrument.KL,
    Instrument.POLICY,
    Instrument.RETURN,
)
_TABULAR_NEEDS = (Instrument.GRAVITY, Instrument.RETURN)
_SAMPLER_NEEDS = (Instrument.NUMBERS, Instrument.RETRIEVAL)


_NOTHING_LEFT = {
    Sign.DEAD_NEURONS: "all units of the actor's last hidden layer are dead",
    Sign.RANK_DECLINE: "the actor's features are all zero",
    Sign.DEGENERATE_POLICY: "the policy is the same in every state",
    Sign.ENTROPY_COLLAPSE: "no entropy is left",
}


@dataclass(frozen=True)
class Found:
    """What the watch has found in one seed.

    Attributes:
        active: signs that are there now.
        measured: signs that could have been seen.
        degrees: how far beyond their bounds the active ones are; `Degree.BEYOND` where it is not said.
        since: steps at which signs began, those that went away again among them.
    """

    active: Set[Sign]
    measured: Set[Sign]
    degrees: Mapping[Sign, Degree] = field(default_factory=dict)
    since: Mapping[Sign, float] = field(default_factory=dict)

    def reach(self, degree: Degree) -> frozenset[Sign]:
        """Give the active signs that are at least so far beyond their bounds."""
        return frozenset(sign for sign in self.active if self.degrees.get(sign, Degree.BEYOND) >= degree)


@dataclass(frozen=True)
class Judgement:
    """A verdict on one seed.

    Attributes:
        verdict: what is the matter.
        confidence: a/(a + b + 1) with a instruments that agree and b that disagree, the 1 being a disagreement that
            nobody has measured. Not calibrated: it orders verdicts, it is no probability. 1 where nothing was inferred:
            numbers that are not finite, features or a policy of which nothing is left.
        reason: why, where the signs do not say it.
        agreeing: instruments that speak for it.
        disagreeing: instruments that speak against it.
        cause: whose pattern was there; None where signs did not decide.
    """

    verdict: Verdict
    confidence: float
    reason: str
    agreeing: tuple[Instrument, ...]
    disagreeing: tuple[Instrument, ...]
    cause: Cause | None = None


def judge(found: Found, returns: Returns, tabular: bool = False, retrieval: bool = False) -> Judgement:
    """Decide what is the matter.

    Args:
        found: the signs.
        returns: how the return goes; how retrieval goes, where that is what the run is judged by.
        tabular: whether the policy is a table, without features and ratios.
        retrieval: whether the run learns an embedding.
    """
    seen = {SIGNS[sign].instrument for sign in found.measured}
    if tabular and Sign.TRAPPED in found.measured - found.active:
        # The best action is likely: little entropy and no progress are right.
        found = replace(found, active=found.active & {Sign.NON_FINITE})
    needs = _SAMPLER_NEEDS if retrieval else _TABULAR_NEEDS if tabular else _HEALTHY_NEEDS
    missing = [x for x in needs if x not in seen]
    far = found.reach(Degree.FAR)
    for verdict, cause in _causes(retrieval):
        if not (cause.alone & far or any(pattern <= found.active for pattern in cause.patterns)):
            continue
        if verdict is Verdict.GRAVITY_WELL and not tabular and returns.at_ceiling():
            continue  # A task that is solved leaves no gradient and no doubt either.
        if verdict is Verdict.VALUE_FAILURE and _rose_since(returns, found.since, Sign.VALUE_FAILURE):
            continue  # The critic was as bad while the return rose: it is not what stops it now.
        if verdict is Verdict.PLATEAU and missing:
            break  # The return alone never names a cause.
        return _blame(verdict, cause, found, seen)
    if missing:
        names = ", ".join(missing)
        return Judgement(Verdict.NOT_MEASURED, 1.0, f"the records do not show: {names}", (), ())
    return _without_cause(found.active - CIRCUMSTANCES, seen, returns, tabular, retrieval)


def _rose_since(returns: Returns, since: Mapping[Sign, float], sign: Sign) -> bool:
    began = since.get(sign)
    return began is not None and returns.has_learned() and returns.improved_at > began


def _causes(retrieval: bool) -> list[tuple[Verdict, Cause]]:
    if not retrieval:
        return list(CAUSES.items())
    return [*SAMPLER_CAUSES.items(), (Verdict.ASR_GRAVITY_WELL, MULTIPLICATIVE_WELL)]


def _without_cause(
    active: Set[Sign], seen: Set[Instrument], returns: Returns, tabular: bool, retrieval: bool
) -> Judgement:
    """Tell whether a run with no illness that has a name is well."""
    judged = "retrieval" if retrieval else "the return"
    if active & {Sign.PERFORMANCE_COLLAPSE, Sign.RETRIEVAL_PLUNGE}:
        reason = f"{judged} has fallen and no sign that was measured explains it"
        return Judgement(Verdict.NOT_MEASURED, 1.0, reason, (), ())
    if not returns.has_learned() and not (tabular or returns.is_rising()):
        reason = f"in {returns.count} batches {judged} has not risen above its noise"
        if not returns.is_long():
            return Judgement(Verdict.NOT_MEASURED, 1.0, f"{reason}: too few to tell", (), ())
        if retrieval:  # Nothing that is measured of a sampler would say why.
            return Judgement(Verdict.NOT_MEASURED, 1.0, reason, (), ())
        return _weighed(Verdict.PLATEAU, reason, {Instrument.RETURN}, set())
    calm = seen - {SIGNS[sign].instrument for sign in active}
    verdict = Verdict.LEARNING if returns.is_rising() else Verdict.HEALTHY
    alone = ", ".join(sign for sign in Sign if sign in active)
    reason = f"{alone}, but nothing that goes with an illness" if alone else "no sign of illness"
    reason += f", and {judged} still rises" if returns.is_rising() else ""
    return _weighed(verdict, reason, calm, seen - calm)


def _blame(verdict: Verdict, cause: Cause, found: Found, seen: Set[Instrument]) -> Judgement:
    if verdict is Verdict.NON_FINITE:
        return Judgement(verdict, 1.0, "", (Instrument.NUMBERS,), (), cause)
    agreeing = {SIGNS[sign].instrument for sign in found.active & (cause.supporting | cause.signs)}
    # What showed it on the way and no longer does is no contradiction: a dead network has a small norm and no ratios.
    shown = {SIGNS[sign].instrument for sign in found.since.keys() & (cause.supporting | cause.signs)}
    judged = _weighed(verdict, "", agreeing, (seen & set(cause.expected)) - agreeing - shown)
    total = found.reach(Degree.TOTAL) & cause.signs
    if not total:
        return replace(judged, cause=cause)
    reason = ", ".join(text for sign, text in _NOTHING_LEFT.items() if sign in total)
    return replace(judged, cause=cause, confidence=1.0, reason=reason)


def _weighed(verdict: Verdict, reason: str, agreeing: Set, disagreeing: Set) -> Judgement:
    confidence = len(agreeing) / (len(agreeing) + len(disagreeing) + 1)
    order = list(Instrument)
    agree, disagree = (tuple(sorted(some, key=order.index)) for some in (agreeing, disagreeing))
    return Judgement(verdict, confidence, reason, agree, disagree)


def confidence_word(confidence: float) -> str:
    """Say a confidence in a word: low below 0.4, high from 0.7.

    Example:
        >>> confidence_word(0.5)
        'medium'
    """
    return "low" if confidence < MEDIUM else "medium" if confidence < HIGH else "high"
