"""The signs of illness: what each means, which columns it is read off, and which instrument it belongs to."""

from dataclasses import dataclass
from enum import StrEnum

_MOALLA = "Moalla et al. 2024 (arXiv 2405.00662)"
_ASR = "Dou et al. 2022 (ASR, arXiv 2208.08056)"

RETRIEVAL_COLUMNS = ("test/recall_at_1", "validation/recall_at_1")
"""What a sampler is judged by, the first that is there. Records that have one are of a run that learns an embedding."""


class Sign(StrEnum):
    """What can be seen in a run's records, in the order in which simultaneous ones are told."""

    NON_FINITE = "non-finite numbers"
    TRUST_REGION_LEFT = "outside the trust region"
    LOW_RATIOS = "low ratios"
    KL_UP_CLIP_DOWN = "KL up, clip fraction down"
    PREACTIVATION_GROWTH = "pre-activation growth"
    DEAD_NEURONS = "dead neurons"
    RANK_DECLINE = "rank decline"
    CAPACITY_LOSS = "capacity loss"
    DEGENERATE_POLICY = "high entropy, no variance"
    ENTROPY_COLLAPSE = "entropy collapse"
    VALUE_FAILURE = "value failure"
    VANISHING_GRADIENT = "vanishing gradient"
    TRAPPED = "best action unlikely"
    PERFORMANCE_COLLAPSE = "performance collapse"
    PLATEAU = "plateau"
    BROAD_SAMPLING = "broad sampling"
    FLOOR_BINS = "bins at the floor"
    UNDECIDED_CONTROLLER = "undecided controller"
    RETRIEVAL_PLUNGE = "retrieval plunge"
    RETRIEVAL_FLAT = "retrieval flat"


class Instrument(StrEnum):
    """What measures: signs of one instrument are not independent of each other and count once."""

    NUMBERS = "finite numbers"
    KL = "KL and clipping"
    RATIOS = "ratios"
    NORM = "pre-activation norm"
    FEATURES = "actor's features"
    CAPACITY = "capacity"
    POLICY = "action distribution"
    CRITIC = "critic"
    GRADIENT = "actor's gradient"
    GRAVITY = "probability of the best action"
    RETURN = "return"
    SAMPLING = "sampling distribution"
    CONTROLLER = "controller's actions"
    RETRIEVAL = "retrieval"


@dataclass(frozen=True)
class SignInfo:
    """One line of the table of signs.

    Attributes:
        instrument: what measures it.
        columns: columns of the records it is read off.
        alternatives: whether any one of the columns is enough; else all are needed.
        meaning: what it says about the run.
        source: where the sign is described.
        text: how it is told, with the fields name, value, bound, side (of the bound), start, best and width.
        label: a few letters for plots.
        immediate: whether a single row is enough.
    """

    instrument: Instrument
    columns: tuple[str, ...]
    meaning: str
    source: str
    text: str
    label: str
    alternatives: bool = False
    immediate: bool = False


SIGNS: dict[Sign, SignInfo] = {
    Sign.NON_FINITE: SignInfo(
        Instrument.NUMBERS,
        (
            "fault",
            "loss/skipped_minibatches",
            "asr/skipped_steps",
            "loss/value",
            "norm/actor_gradient",
            "norm/critic_gradient",
            "loss/embedding",
            "norm/gradient",
            "norm/controller_gradient",
        ),
        "a loss, gradient, parameter, observation, embedding or reward was NaN or infinite",
        "stable-baselines3 #1593, prime-rl #2972",
        "numbers that are not finite",
        "NaN",
        alternatives=True,
        immediate=True,
    ),
    Sign.TRUST_REGION_LEFT: SignInfo(
        Instrument.KL,
        ("trust/kl", "trust/clip_fraction", "trust/kl_k3", "trust/kl_k1", "trust/ratio_outside_fraction"),
        "one update moves the policy further than clipping is meant to allow",
        "docs/metrics.md, trust/kl and trust/clip_fraction",
        "{name} {value:.3g}, above {bound:.3g}",
        "KL",
        alternatives=True,
    ),
    Sign.LOW_RATIOS: SignInfo(
        Instrument.RATIOS,
        ("trust/ratio_below_mean", "trust/excess_ratio"),
        "ratios pass far beyond 1 ± ε: clipping no longer holds them",
        _MOALLA + ", Figs. 3, 4 and 6",
        "{name} {value:.3g}, {side} {bound:.3g}",
        "ratios",
        alternatives=True,
    ),
    Sign.KL_UP_CLIP_DOWN: SignInfo(
        Instrument.KL,
        ("trust/kl", "trust/clip_fraction"),
        "the policy moves further while fewer samples are clipped: what moves it is not what clipping sees",
        "openai/baselines #456",
        "KL {value:.3g} of {start:.3g} at the start, while the clip fraction fell",
        "KL↑ clip↓",
    ),
    Sign.PREACTIVATION_GROWTH: SignInfo(
        Instrument.NORM,
        ("health/actor/preactivation_norm",),
        "what the last hidden layer receives, its pre-activations, grows and grows",
        _MOALLA + ", Fig. 1",
        "pre-activation norm {value:.3g}, {start:.3g} at the start",
        "norm",
    ),
    Sign.DEAD_NEURONS: SignInfo(
        Instrument.FEATURES,
        ("health/actor/dead_neurons",),
        "most units of the actor's last hidden layer no longer respond to anything",
        _MOALLA + ", Fig. 2",
        "{value:.3g} of {width} neurons dead, {start:.3g} at the start",
        "dead",
    ),
    Sign.RANK_DECLINE: SignInfo(
        Instrument.FEATURES,
        ("health/actor/feature_rank_pca",),
        "the actor's features span few directions: it can tell few states apart",
        _MOALLA + ", Figs. 1 and 4",
        "rank {value:.3g} of {width}, {start:.3g} at the start",
        "rank",
    ),
    Sign.CAPACITY_LOSS: SignInfo(
        Instrument.CAPACITY,
        ("capacity/actor", "capacity/critic"),
        "the network fits new targets worse than it did at the start: it loses plasticity",
        _MOALLA + ", Fig. 1",
        "{name} {value:.3g}, {start:.3g} at the start",
        "capacity",
        alternatives=True,
    ),
    Sign.DEGENERATE_POLICY: SignInfo(
        Instrument.POLICY,
        ("policy/variance", "policy/entropy"),
        "the policy does the same in every state, and nearly at random",
        _MOALLA + ", Fig. 2",
        "policy variance across states {value:.2g}, while the entropy is high",
        "variance",
    ),
    Sign.ENTROPY_COLLAPSE: SignInfo(
        Instrument.POLICY,
        ("policy/entropy", "policy/entropy_base"),
        "the policy no longer explores",
        "trl #3571",
        "entropy {value:.3g} nats, {start:.3g} at the start",
        "entropy",
        alternatives=True,
    ),
    Sign.VALUE_FAILURE: SignInfo(
        Instrument.CRITIC,
        ("loss/value", "value/std"),
        "the critic's error is far larger than anything that it tells apart: advantages are noise",
        "explained variance, as in stable-baselines3",
        "squared error of the critic {value:.3g} × the variance of its values",
        "critic",
    ),
    Sign.VANISHING_GRADIENT: SignInfo(
        Instrument.GRADIENT,
        ("norm/actor_gradient",),
        "the policy is saturated: its gradient has all but vanished",
        "Mei et al. 2020, Escaping the Gravitational Pull of Softmax",
        "gradient of the actor {value:.2g}, below {bound:.2g}, a hundredth of its largest",
        "gradient",
    ),
    Sign.TRAPPED: SignInfo(
        Instrument.GRAVITY,
        ("gravity/best_prob",),
        "the policy sits near a suboptimal corner, where softmax's gradient is proportional to π(a*)",
        "Mei et al. 2020, Escaping the Gravitational Pull of Softmax",
        "best action has probability {value:.2g}, below {bound:.2g}",
        "well",
    ),
    Sign.PERFORMANCE_COLLAPSE: SignInfo(
        Instrument.RETURN,
        ("perf/return_mean",),
        "the return has fallen from its best",
        _MOALLA + ", Fig. 1",
        "return {value:.4g}, after a best of {best:.4g}",
        "return↓",
    ),
    Sign.PLATEAU: SignInfo(
        Instrument.RETURN,
        ("perf/return_mean",),
        "the return has not improved for a long time",
        "arXiv 2603.06009 on plateaus of PPO",
        "return {value:.4g}, no better for {bound:.0%} of the run so far",
        "plateau",
    ),
    Sign.BROAD_SAMPLING: SignInfo(
        Instrument.SAMPLING,
        ("asr/entropy",),
        "negatives are drawn from a long range of distances from the start, hard to easy",
        _ASR,
        "entropy {value:.3g} nats at the start, above {bound:.3g}",
        "broad",
    ),
    Sign.FLOOR_BINS: SignInfo(
        Instrument.SAMPLING,
        ("asr/floor_bins", "asr/policy_entropy"),
        "most bins are never drawn, and since an action multiplies the way up is long: a multiplicative well",
        "Roth et al. 2020 (PADS, arXiv 2003.11113), code: normal_high has 25 of 29",
        "{value:.0f} bins at the floor, more than {bound:.3g}",
        "floor",
    ),
    Sign.UNDECIDED_CONTROLLER: SignInfo(
        Instrument.CONTROLLER,
        ("asr/policy_entropy",),
        "the controller acts nearly at random: it has found no direction in its rewards",
        _ASR + ": the policy sits on a plateau",
        "entropy of a bin's action {value:.3g} nats, above {bound:.3g}",
        "undecided",
    ),
    Sign.RETRIEVAL_PLUNGE: SignInfo(
        Instrument.RETRIEVAL,
        RETRIEVAL_COLUMNS,
        "retrieval has fallen below its best by more than noise, and stays there",
        _ASR + ", the ASR gravity well",
        "{name} {value:.3g}, after a best of {best:.3g}",
        "recall↓",
        alternatives=True,
    ),
    Sign.RETRIEVAL_FLAT: SignInfo(
        Instrument.RETRIEVAL,
        RETRIEVAL_COLUMNS,
        "retrieval has not risen above its noise since the start of the run",
        "escapevelocity",
        "{name} {value:.3g}, {start:.3g} at the start",
        "flat",
        alternatives=True,
    ),
}
"""Every sign; thresholds are in `health.thresholds`."""

MEDIAN_LEADS: dict[Sign, float] = {
    Sign.TRUST_REGION_LEFT: 0.25,
    Sign.LOW_RATIOS: 0.25,
    Sign.PREACTIVATION_GROWTH: 0.1875,
    Sign.DEAD_NEURONS: 0.3058,
}
"""Median share of training between a warning and the collapse, in runs of 100,000 steps (studies/early_warning)."""

NO_WARNING = frozenset(
    {
        Sign.KL_UP_CLIP_DOWN,
        Sign.RANK_DECLINE,
        Sign.DEGENERATE_POLICY,
        Sign.ENTROPY_COLLAPSE,
        Sign.VALUE_FAILURE,
        Sign.VANISHING_GRADIENT,
        Sign.CAPACITY_LOSS,
    }
)
"""Part of a diagnosis, but no warning: no level of theirs tells collapses from sound runs (studies/early_warning).
Capacity loss more than doubled in four of four Hopper runs of 100,000 steps, two of them sound (`ev capacity`)."""

CIRCUMSTANCES = frozenset({Sign.BROAD_SAMPLING, Sign.UNDECIDED_CONTROLLER})
"""They mean something beside others only, and warn of nothing: every broad start has the first, every young controller
the second."""
