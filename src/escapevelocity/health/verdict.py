"""From signs to a verdict: which signs make which, what speaks for and against it, and how sure that leaves us."""

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from enum import StrEnum

from escapevelocity.health._returns import Returns
from escapevelocity.health.signs import CIRCUMSTANCES, SIGNS, Instrument, Sign


class Verdict(StrEnum):
    """What is the matter with a run, the gravest first."""

    NON_FINITE = "non-finite"
    REPRESENTATION_COLLAPSE = "representation collapse"
    GRAVITY_WELL = "gravity well"
    ASR_GRAVITY_WELL = "ASR gravity well"
    TRUST_REGION_FAILURE = "trust-region failure"
    ENTROPY_COLLAPSE = "entropy collapse"
    VALUE_FAILURE = "value failure"
    PLATEAU = "plateau"
    NOT_MEASURED = "not measured"
    LEARNING = "learning"
    HEALTHY = "healthy"


@dataclass(frozen=True)
class Cause:
    """What makes a verdict.

    Attributes:
        patterns: sets of signs; one of them must be there as a whole.
        expected: instruments that should show it too. One of them that measured and saw nothing speaks against it.
        supporting: signs that speak for it, besides those in the patterns.
        refuted_by: what would show that it is wrong.
        remedies: names of what to try, the most promising first.
    """

    patterns: tuple[frozenset[Sign], ...]
    expected: tuple[Instrument, ...]
    supporting: frozenset[Sign]
    refuted_by: tuple[str, ...]
    remedies: tuple[str, ...]


def _patterns(*patterns: tuple[Sign, ...]) -> tuple[frozenset[Sign], ...]:
    return tuple(frozenset(pattern) for pattern in patterns)


_STUCK = (Sign.PLATEAU, Sign.PERFORMANCE_COLLAPSE)
_BESIDE_RANK = (
    Sign.PREACTIVATION_GROWTH,
    Sign.LOW_RATIOS,
    Sign.TRUST_REGION_LEFT,
    Sign.PERFORMANCE_COLLAPSE,
)
"""A low rank alone is no collapse: where observations have few dimensions, sound runs end with few directions as well
(10 of 45 in studies/early_warning)."""

CAUSES: dict[Verdict, Cause] = {
    Verdict.NON_FINITE: Cause(
        _patterns((Sign.NON_FINITE,)),
        (),
        frozenset(),
        (
            "the same seed with a tenth of the learning rate fails in the same batch: then the environment is at fault",
        ),
        ("lower-learning-rate", "clip-gradients", "skip-nonfinite"),
    ),
    Verdict.REPRESENTATION_COLLAPSE: Cause(
        _patterns(
            *((Sign.RANK_DECLINE, other) for other in _BESIDE_RANK),
            (Sign.DEAD_NEURONS,),
            (Sign.DEGENERATE_POLICY,),
        ),
        (Instrument.FEATURES, Instrument.NORM, Instrument.RATIOS),
        frozenset(
            {Sign.PREACTIVATION_GROWTH, Sign.LOW_RATIOS, Sign.TRUST_REGION_LEFT, Sign.CAPACITY_LOSS, *_STUCK}
        ),
        (
            "a probe network is fitted from these weights as well as from fresh ones: then plasticity is intact",
            "the return recovers while rank and dead neurons stay where they are",
        ),
        ("lower-learning-rate", "fewer-epochs", "pfo"),
    ),
    Verdict.GRAVITY_WELL: Cause(
        _patterns(
            (Sign.TRAPPED,),
            (Sign.VANISHING_GRADIENT, Sign.ENTROPY_COLLAPSE),
            *((Sign.VANISHING_GRADIENT, stuck) for stuck in _STUCK),
        ),
        (
            Instrument.GRAVITY,
        ),  # In a well the entropy may be low from the start, and the return still creeps up.
        frozenset({Sign.VANISHING_GRADIENT, Sign.ENTROPY_COLLAPSE, *_STUCK}),
        (
            "a start nearer to uniform, with all else the same, takes as long",
            "the escape comes much earlier or later than predicted from π(a*)",
        ),
        ("escort", "natural-gradient", "entropy-bonus"),
    ),
    Verdict.TRUST_REGION_FAILURE: Cause(
        _patterns((Sign.TRUST_REGION_LEFT,), (Sign.LOW_RATIOS,), (Sign.KL_UP_CLIP_DOWN,)),
        (Instrument.KL, Instrument.RATIOS),
        frozenset({Sign.PREACTIVATION_GROWTH, *_STUCK}),
        ("with a tenth of the learning rate KL falls to its healthy range and the return does no better",),
        ("lower-learning-rate", "fewer-epochs", "anneal", "kl-early-stop"),
    ),
    Verdict.ENTROPY_COLLAPSE: Cause(
        _patterns(*((Sign.ENTROPY_COLLAPSE, stuck) for stuck in _STUCK)),
        (Instrument.POLICY, Instrument.RETURN),
        frozenset({Sign.VANISHING_GRADIENT}),
        ("an entropy bonus keeps the entropy up and the return stays where it is",),
        ("entropy-bonus", "lower-learning-rate"),
    ),
    Verdict.VALUE_FAILURE: Cause(
        _patterns(*((Sign.VALUE_FAILURE, stuck) for stuck in _STUCK)),
        (Instrument.CRITIC, Instrument.RETURN),
        frozenset(),
        (
            "the returns do not depend on what the critic can observe: then no critic does better",
            "a critic that explains the returns leaves the return where it is",
        ),
        ("clip-apart", "higher-learning-rate", "more-epochs"),
    ),
    Verdict.PLATEAU: Cause(
        _patterns((Sign.PLATEAU,)),
        (Instrument.RETURN,),
        frozenset(),
        (
            "the return is the best that the task allows",
            "larger batches and a lower learning rate leave it where it is: then the step was not too large",
        ),
        ("larger-batch", "lower-learning-rate", "anneal"),
    ),
}
"""Of an agent, in the order in which they are tried: the first whose pattern is there is the verdict."""

SAMPLER_CAUSES: dict[Verdict, Cause] = {
    Verdict.NON_FINITE: Cause(
        _patterns((Sign.NON_FINITE,)),
        (),
        frozenset(),
        (
            "the same seed with a tenth of the learning rate fails in the same period: then the images are at fault",
        ),
        ("lower-learning-rate", "skip-nonfinite"),
    ),
    Verdict.ASR_GRAVITY_WELL: Cause(
        _patterns((Sign.RETRIEVAL_PLUNGE, Sign.BROAD_SAMPLING)),
        (Instrument.RETRIEVAL, Instrument.SAMPLING, Instrument.CONTROLLER),
        frozenset({Sign.UNDECIDED_CONTROLLER}),
        (
            "a narrower start, with all else the same, plunges as deep and for as long",
            "retrieval climbs back while the sampling distribution stays as it is: then it was the embedding's own",
            "test and validation classes do not plunge together",
        ),
        ("narrower-start", "curriculum", "escort-head", "reward-shaping"),
    ),
}
"""Of an embedding whose sampler chooses negatives. A plunge alone names no cause, nor does a broad start."""

MULTIPLICATIVE_WELL = Cause(
    _patterns((Sign.RETRIEVAL_PLUNGE, Sign.FLOOR_BINS), (Sign.RETRIEVAL_FLAT, Sign.FLOOR_BINS)),
    (Instrument.RETRIEVAL, Instrument.SAMPLING),
    frozenset(),
    (
        "a start without bins at the floor, with all else the same, does no better",
        "the bins at the floor hold hardly any candidates: then nothing is missed",
    ),
    ("broader-start", "larger-step-up", "reward-shaping"),
)
"""The same verdict by another cause: a start so narrow that other negatives are out of the controller's reach."""

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


@dataclass(frozen=True)
class Judgement:
    """A verdict on one seed.

    Attributes:
        verdict: what is the matter.
        confidence: a/(a + b + 1) with a instruments that agree and b that disagree, the 1 being a disagreement that
            nobody has measured. Not calibrated: it orders verdicts, it is no probability.
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


def judge(
    active: Set[Sign],
    measured: Set[Sign],
    returns: Returns,
    tabular: bool = False,
    retrieval: bool = False,
    since: Mapping[Sign, float] | None = None,
) -> Judgement:
    """Decide what is the matter.

    Args:
        active: signs that are there now.
        measured: signs that could have been seen.
        returns: how the return goes; how retrieval goes, where that is what the run is judged by.
        tabular: whether the policy is a table, without features and ratios.
        retrieval: whether the run learns an embedding.
        since: steps at which signs began, where that is known.
    """
    seen = {SIGNS[sign].instrument for sign in measured}
    if tabular and Sign.TRAPPED in measured - active:
        active = active & {
            Sign.NON_FINITE
        }  # The best action is likely: little entropy and no progress are right.
    needs = _SAMPLER_NEEDS if retrieval else _TABULAR_NEEDS if tabular else _HEALTHY_NEEDS
    missing = [x for x in needs if x not in seen]
    for verdict, cause in _causes(retrieval):
        if not any(pattern <= active for pattern in cause.patterns):
            continue
        if verdict is Verdict.GRAVITY_WELL and not tabular and returns.at_ceiling():
            continue  # A task that is solved leaves no gradient and no doubt either.
        if verdict is Verdict.VALUE_FAILURE and _rose_since(returns, since, Sign.VALUE_FAILURE):
            continue  # The critic was as bad while the return rose: it is not what stops it now.
        if verdict is Verdict.PLATEAU and missing:
            break  # The return alone never names a cause.
        return _blame(verdict, cause, active, seen)
    if missing:
        names = ", ".join(missing)
        return Judgement(Verdict.NOT_MEASURED, 1.0, f"the records do not show: {names}", (), ())
    return _without_cause(active - CIRCUMSTANCES, seen, returns, tabular, retrieval)


def _rose_since(returns: Returns, since: Mapping[Sign, float] | None, sign: Sign) -> bool:
    began = (since or {}).get(sign)
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


def _blame(verdict: Verdict, cause: Cause, active: Set[Sign], seen: set[Instrument]) -> Judgement:
    if verdict is Verdict.NON_FINITE:
        return Judgement(verdict, 1.0, "", (Instrument.NUMBERS,), (), cause)
    relevant = cause.supporting | frozenset().union(*cause.patterns)
    agreeing = {SIGNS[sign].instrument for sign in active & relevant}
    return replace(_weighed(verdict, "", agreeing, (seen & set(cause.expected)) - agreeing), cause=cause)


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
