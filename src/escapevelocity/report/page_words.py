"""Verdicts in plain words, for a reader who has never met one: is it healthy, and what happened."""

from typing import NamedTuple

from escapevelocity.health.verdict import Verdict


class Words(NamedTuple):
    """How a verdict is told."""

    tone: str
    """good, bad or unsure."""
    answer: str
    """To the question whether the run is healthy."""
    headline: str
    """What is the matter, in a few words."""
    plain: str
    """What that means, in a sentence or two."""


WORDS: dict[Verdict, Words] = {
    Verdict.NON_FINITE: Words(
        "bad",
        "No",
        "numbers stopped being finite",
        "A loss, gradient or parameter became infinite or undefined (NaN). From there on nothing is learned.",
    ),
    Verdict.REPRESENTATION_COLLAPSE: Words(
        "bad",
        "No",
        "the representation has collapsed",
        "What the network makes of its observations has shrunk to few directions, or its units have died. The"
        " policy can tell fewer situations apart, and training on seldom brings that back by itself.",
    ),
    Verdict.GRAVITY_WELL: Words(
        "bad",
        "No",
        "stuck near a poor choice",
        "The policy has settled close to an action that is not the best. It learns from the best one only as often as"
        " it still tries it, which is hardly ever: it gets out, if at all, after a very long time.",
    ),
    Verdict.ASR_GRAVITY_WELL: Words(
        "bad",
        "No",
        "retrieval fell into a well",
        "The negatives that the sampler draws teach the embedding little, and the policy that chooses them is slow to"
        " move away from where it started. Retrieval falls before it can climb.",
    ),
    Verdict.TRUST_REGION_FAILURE: Words(
        "bad",
        "No",
        "single updates are too large",
        "Updates change the policy far more than clipping is meant to allow, so one update can undo what many have"
        " learned.",
    ),
    Verdict.ENTROPY_COLLAPSE: Words(
        "bad",
        "No",
        "it stopped exploring too early",
        "The policy has become certain of its actions while it still earns little, so it no longer finds out about"
        " better ones.",
    ),
    Verdict.VALUE_FAILURE: Words(
        "bad",
        "No",
        "the critic does not predict the return",
        "The critic's errors are larger than anything that it can tell apart. What tells the policy which actions were"
        " good is then noise.",
    ),
    Verdict.PLATEAU: Words(
        "unsure",
        "Stalled",
        "it has stopped improving",
        "The return has not risen for a long time, and nothing that was measured says why. It may be as good as the"
        " task allows; or steps are too large, or batches too small.",
    ),
    Verdict.NOT_MEASURED: Words(
        "unsure",
        "Unclear",
        "it cannot be told",
        "What was recorded is not enough to say. That is not the same as healthy.",
    ),
    Verdict.LEARNING: Words(
        "good",
        "Yes, so far",
        "it is learning",
        "It still improves, and nothing that was measured points to an illness.",
    ),
    Verdict.HEALTHY: Words(
        "good",
        "Yes",
        "it has learned, and stays well",
        "It has learned, and nothing that was measured points to an illness.",
    ),
}
"""By verdict."""

TRY_WORDS = {
    "lower-learning-rate": "Take smaller steps: a lower learning rate",
    "higher-learning-rate": "Let the critic keep up: a higher learning rate",
    "fewer-epochs": "Go over each batch fewer times",
    "more-epochs": "Go over each batch more often",
    "anneal": "Take ever smaller steps: the learning rate falls to zero",
    "entropy-bonus": "Pay the policy for staying undecided: an entropy bonus",
    "larger-batch": "Learn from more steps at a time: larger batches",
    "clip-gradients": "Limit the norm of the gradient",
    "clip-apart": "Limit the gradients of actor and critic each for itself",
    "measure-health": "Measure health in every batch, so that more can be told",
    "longer-run": "Train for longer, so that more can be told",
    "pfo": "Keep the features near those that the data was gathered with: proximal feature optimisation (PFO)",
    "kl-early-stop": "Stop an update as soon as the policy has moved too far (KL)",
    "escort": "Replace the softmax by the escort transform, which does not stall near corners",
    "skip-nonfinite": "Leave out minibatches with numbers that are not finite",
    "narrower-start": "Start from fewer, harder distances",
    "broader-start": "Start from all distances",
    "curriculum": "Widen the distances on a schedule instead of by the agent",
    "escort-head": "Replace the controller's softmax by the escort transform",
    "reward-shaping": "Pay the controller otherwise",
    "larger-step-up": "Let the controller raise bins in larger steps",
}
"""What a remedy does, by its name in a diagnosis."""
