"""The settings of a run that change what its numbers mean."""

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
        tabular: the policy is a table (the lab): there are no features, ratios or critic to be ill.
        update_rule: how the policy is updated, for the escape law of a gravity well.
        escort_p: exponent of the escort transform, with update_rule "escort".
    """

    width: int | None = None
    clip_epsilon: float | int = 0.2
    continuous: bool | None = None
    action_size: int | None = None
    total_steps: int | None = None
    epochs: int | None = None
    learning_rate: float | int | None = None
    activation: str | None = None
    tabular: bool = False
    update_rule: UpdateRule = "softmax"
    escort_p: float | int | None = None

    def __post_init__(self) -> None:
        for name in ("width", "action_size", "total_steps", "epochs"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1, or None where it is unknown")
        require(0 < self.clip_epsilon < 1, "clip_epsilon", self.clip_epsilon, "above 0 and below 1")
        with_p = self.update_rule == "escort"
        require(
            (self.escort_p is not None) == with_p,
            "escort_p",
            self.escort_p,
            "given with escort, and only then",
        )
