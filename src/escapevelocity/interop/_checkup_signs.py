"""Which signs of illness a network shows at rest, held against a fresh one on the same states."""

from collections.abc import Mapping
from typing import NamedTuple

from escapevelocity.health import outside_healthy_range
from escapevelocity.health.signs import SIGNS, Sign
from escapevelocity.health.thresholds import Thresholds

_RANK, _NORM = "health/actor/feature_rank_pca", "health/actor/preactivation_norm"
_DEAD = "health/actor/dead_neurons"


class Finding(NamedTuple):
    """A sign that a model shows at rest.

    Attributes:
        sign: which.
        text: what was seen, with its numbers.
        meaning: what it says.
    """

    sign: Sign
    text: str
    meaning: str


def finding(sign: Sign, text: str) -> Finding:
    """Name a sign with what was seen; its meaning is that of the table of signs."""
    return Finding(sign, text, SIGNS[sign].meaning)


def static_signs(
    row: Mapping[str, float | str], fresh: Mapping[str, float | str], width: int, dimensions: int | None
) -> list[Finding]:
    """Find the signs that need no history, by the thresholds of `health.thresholds`.

    A fresh network of the same shape stands for the start of the run, which nobody measured.

    Args:
        row: columns of the model.
        fresh: columns of the fresh network on the same states.
        width: units of the actor's last hidden layer.
        dimensions: of a continuous action; None for discrete ones.
    """
    t = Thresholds()
    now = {name: value for name, value in row.items() if isinstance(value, float)}
    start = {name: value for name, value in fresh.items() if isinstance(value, float)}
    found = []
    norm = min(t.norm_high.value, t.norm_growth.value * start[_NORM])
    if now[_NORM] > norm:
        text = f"pre-activation norm {now[_NORM]:.4g}, {start[_NORM]:.3g} in a fresh network"
        found.append(finding(Sign.PREACTIVATION_GROWTH, text))
    if outside_healthy_range(_DEAD, now[_DEAD], width):
        text = f"{now[_DEAD]:.0f} of {width} neurons dead, {start[_DEAD]:.0f} in a fresh network"
        found.append(finding(Sign.DEAD_NEURONS, text))
    if outside_healthy_range(_RANK, now[_RANK], width, start[_RANK]):
        text = f"rank {now[_RANK]:.0f} of {width}, {start[_RANK]:.0f} in a fresh network"
        found.append(finding(Sign.RANK_DECLINE, text))
    entropy, first, variance = now["policy/entropy"], start["policy/entropy"], now["policy/variance"]
    high = first if dimensions else t.entropy_high.value * first
    if variance < t.variance_low.value and entropy >= high:
        across = f"{variance:.2g} ({start['policy/variance']:.2g} in a fresh network)"
        text = f"policy variance across states {across}, entropy {entropy:.3g} nats"
        found.append(finding(Sign.DEGENERATE_POLICY, text))
    low = first - t.entropy_drop.value * dimensions if dimensions else t.entropy_low.value * first
    if entropy < low:
        text = f"entropy {entropy:.3g} nats, {first:.3g} in a fresh network"
        found.append(finding(Sign.ENTROPY_COLLAPSE, text))
    return found


def narrow_states(fresh: Mapping[str, float | str], width: int) -> list[str]:
    """Say so where the states are so alike that a low rank would be theirs and not the network's."""
    rank = fresh[_RANK]
    if isinstance(rank, float) and outside_healthy_range(_RANK, rank, width):
        alike = f"rank decline: the states are so alike that a fresh network has rank {rank:.0f} on them too"
        return [f"{alike}; it is a sign only below half of that (--stochastic varies the states)"]
    return []
