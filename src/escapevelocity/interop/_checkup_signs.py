"""Which signs of illness a network shows at rest, held against a fresh one on the same states."""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from escapevelocity.health import outside_healthy_range
from escapevelocity.health.signs import SIGNS, Sign
from escapevelocity.health.thresholds import Thresholds

_RANK, _NORM = "health/actor/feature_rank_pca", "health/actor/preactivation_norm"
_DEAD, _VARIANCE = "health/actor/dead_neurons", "policy/variance"

_LESS = 100.0
"""An untrained head is small, and its variance over states a matter of luck: over 12 initialisations it spanned up to
240 times on the states of CartPole, Acrobot, MountainCar and Hopper. Of a policy that has collapsed it is nearly 0."""


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

    A fresh network of the same shape stands for the start of the run, which nobody measured: what it shows too on
    these states is theirs, or that of its small first weights, and no sign.

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
    grown = t.grown_norm(start[_NORM], width)
    # Large observations make a large norm before anything has been learned: then only growth is a sign.
    norm = grown if start[_NORM] > t.norm_high.value / 2 else min(t.norm_high.value, grown)
    if now[_NORM] > norm:
        text = f"pre-activation norm {now[_NORM]:.4g}, {start[_NORM]:.3g} in a fresh network"
        found.append(finding(Sign.PREACTIVATION_GROWTH, text))
    # Units that the states leave dead in a fresh network have lost nothing: the others count.
    idle = 0.0 if math.isnan(start[_DEAD]) else start[_DEAD]
    if now[_DEAD] > t.most_dead(idle, width):
        text = f"{now[_DEAD]:.0f} of {width} neurons dead, {start[_DEAD]:.0f} in a fresh network"
        found.append(finding(Sign.DEAD_NEURONS, text))
    if outside_healthy_range(_RANK, now[_RANK], width, start[_RANK]):
        text = f"rank {now[_RANK]:.0f} of {width}, {start[_RANK]:.0f} in a fresh network"
        found.append(finding(Sign.RANK_DECLINE, text))
    entropy, first = now["policy/entropy"], start["policy/entropy"]
    if _same_in_every_state(now, start, dimensions) and now[_VARIANCE] < start[_VARIANCE] / _LESS:
        across = f"{now[_VARIANCE]:.2g} ({start[_VARIANCE]:.2g} in a fresh network)"
        text = f"policy variance across states {across}, entropy {entropy:.3g} nats"
        found.append(finding(Sign.DEGENERATE_POLICY, text))
    low = first - t.entropy_drop.value * dimensions if dimensions else t.entropy_low.value * first
    if entropy < low:
        text = f"entropy {entropy:.3g} nats, {first:.3g} in a fresh network"
        found.append(finding(Sign.ENTROPY_COLLAPSE, text))
    return found


def undecided(
    row: Mapping[str, float | str],
    fresh: Mapping[str, float | str],
    width: int,
    dimensions: int | None,
    found: Collection[Finding],
) -> list[str]:
    """Say which signs cannot be told from what a fresh network shows on the same states."""
    now = {name: value for name, value in row.items() if isinstance(value, float)}
    start = {name: value for name, value in fresh.items() if isinstance(value, float)}
    shown, told = {one.sign for one in found}, []
    if Sign.RANK_DECLINE not in shown and outside_healthy_range(_RANK, start[_RANK], width):
        alike = f"rank decline: the states are so alike that a fresh network has rank {start[_RANK]:.0f} on them too"
        told.append(f"{alike}; it is a sign only below half of that (--stochastic varies the states)")
    if Sign.DEAD_NEURONS not in shown and outside_healthy_range(_DEAD, now[_DEAD], width):
        told.append(
            f"dead neurons: {now[_DEAD]:.0f} of {width} are dead, but a fresh network has {start[_DEAD]:.0f} on these "
            "states too; they are a sign only above half of the others (--stochastic varies the states)"
        )
    if Sign.DEGENERATE_POLICY not in shown and _same_in_every_state(now, start, dimensions):
        told.append(
            f"high entropy, no variance: the policy does nearly the same in every state (variance "
            f"{now[_VARIANCE]:.2g}), as a fresh network does ({start[_VARIANCE]:.2g}): whether it has collapsed or not "
            "begun to learn, only a log of its training can tell"
        )
    return told


def _same_in_every_state(
    now: Mapping[str, float], start: Mapping[str, float], dimensions: int | None
) -> bool:
    """Hardly any variance over the states, and as much entropy as an untrained policy."""
    t, first = Thresholds(), start["policy/entropy"]
    high = first if dimensions else t.entropy_high.value * first
    return now[_VARIANCE] < t.variance_low.value and now["policy/entropy"] >= high
