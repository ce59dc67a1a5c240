"""The settings of a run that change what its numbers mean."""

import math
from dataclasses import dataclass
from typing import Literal

from escapevelocity.errors import require

UpdateRule = Literal["softmax", "escort", "natural", "normalised", "inverse-probability"]
"""Update rules with an escape law in `health.gravity`."""


@dataclass(frozen=True)
class Context:
    """What the diagnosis should know about a run; None means unknown, and what depends on it is not measured.

    Attributes:
        width: D, units of the penultimate layer.
        clip_epsilon: ε of the clipped objective.
        continuous: whether actions are continuous.
        action_size: number of actions, or of action dimensions.
        total_steps: environment steps of the whole run as planned.
        epochs: passes over each batch.
        learning_rate: of the optimiser.
        activation: of the hidden layers.
        return_episodes: of how many episodes a return is the mean where it is a running one; None: of those that ended
            in the batch.
        tabular: the policy is a table (the lab): there are no features, ratios or critic to be ill.
        update_rule: how the policy is updated, for the escape law of a gravity well.
        escort_p: exponent of the escort transform, with update_rule "escort".
        retrieval: the run learns an embedding and is judged by its retrieval: there are no actor, critic or return.
            `diagnose` sets it where the records have such columns.
        bins: of the sampling distribution; where unknown, as many as `asr/distribution` has entries.
        step_up: what an action multiplies a bin's mass by.
        decision_every: training steps from one decision of the controller to the next.
    """

    width: int | None = None
    clip_epsilon: float | int = 0.2
    continuous: bool | None = None
    action_size: int | None = None
    total_steps: int | None = None
    epochs: int | None = None
    learning_rate: float | int | None = None
    activation: str | None = None
    return_episodes: int | None = None
    tabular: bool = False
    update_rule: UpdateRule = "softmax"
    escort_p: float | int | None = None
    retrieval: bool = False
    bins: int | None = None
    step_up: float | int = 1.25
    decision_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("width", "action_size", "total_steps", "epochs", "bins", "decision_every"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1, or None where it is unknown")
        require(1 < self.step_up < math.inf, "step_up", self.step_up, "a finite number above 1")
        require(0 < self.clip_epsilon < 1, "clip_epsilon", self.clip_epsilon, "above 0 and below 1")
        with_p = self.update_rule == "escort"
        require(
            (self.escort_p is not None) == with_p,
            "escort_p",
            self.escort_p,
            "given with escort, and only then",
        )
