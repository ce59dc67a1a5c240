"""The illnesses: which signs make which, what else shows it, what would refute it and what to try."""

from dataclasses import dataclass
from enum import StrEnum

from escapevelocity.health.signs import Instrument, Sign


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
        alone: signs that need no other beside them where they are far beyond their bound.
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
    alone: frozenset[Sign] = frozenset()

    @property
    def signs(self) -> frozenset[Sign]:
        """Those that make it."""
        return self.alone.union(*self.patterns)


def _patterns(*patterns: tuple[Sign, ...]) -> tuple[frozenset[Sign], ...]:
    return tuple(frozenset(pattern) for pattern in patterns)


_STUCK = (Sign.PLATEAU, Sign.PERFORMANCE_COLLAPSE)
_BESIDE_FEATURES = (
    Sign.PREACTIVATION_GROWTH,
    Sign.LOW_RATIOS,
    Sign.TRUST_REGION_LEFT,
    Sign.PERFORMANCE_COLLAPSE,
)
"""A low rank alone is no collapse: where observations have few dimensions, sound runs end with few directions as well
(10 of 45 in studies/early_warning). Nor are units of which a few more than half are dead."""
_TRUST = (Sign.TRUST_REGION_LEFT, Sign.LOW_RATIOS, Sign.KL_UP_CLIP_DOWN)

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
            *(
                (lost, beside)
                for lost in (Sign.RANK_DECLINE, Sign.DEAD_NEURONS)
                for beside in _BESIDE_FEATURES
            ),
            (Sign.RANK_DECLINE, Sign.DEAD_NEURONS),
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
        alone=frozenset({Sign.RANK_DECLINE, Sign.DEAD_NEURONS}),
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
        # In runs that lost nothing one of them lay above its bound, by less than twice: studies/hopper_collapse.
        _patterns(
            (Sign.TRUST_REGION_LEFT, Sign.LOW_RATIOS),
            (Sign.KL_UP_CLIP_DOWN, Sign.LOW_RATIOS),
            *((sign, Sign.PERFORMANCE_COLLAPSE) for sign in _TRUST),
        ),
        (Instrument.KL, Instrument.RATIOS),
        frozenset({Sign.PREACTIVATION_GROWTH, *_STUCK}),
        ("with a tenth of the learning rate KL falls to its healthy range and the return does no better",),
        ("lower-learning-rate", "fewer-epochs", "anneal", "kl-early-stop"),
        alone=frozenset(_TRUST),
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
