"""From what was seen inside two networks to the columns of a record. NumPy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from escapevelocity import health
from escapevelocity.errors import UserError

Matrix = Float[np.ndarray, "_ _"]
"""(states, units)."""


class Trace(NamedTuple):
    """What one network did on a batch.

    Attributes:
        features: Φ, the inputs of the head.
        activations: outputs of the last activation, which differ from Φ where a norm or pooling lies between.
        preactivations: inputs of that activation.
        preactivation_norm_all: mean over states of the L2 norm of all pre-activations together.
        activation: its name, as torch has it.
        why: why what is None or NaN above is.
    """

    features: Matrix
    activations: Matrix | None
    preactivations: Matrix | None
    preactivation_norm_all: float
    activation: str | None
    why: str


@dataclass
class Snapshot:
    """What the networks did in a recording.

    Attributes:
        networks: "actor" and, if there is one, "critic"; empty until the recording has ended.
    """

    networks: dict[str, Trace] = field(default_factory=dict)


def health_row(
    before: Snapshot, after: Snapshot | None = None, extra: Mapping[str, health.Measured] | None = None
) -> dict[str, float | str]:
    """Return the columns of one record, named and defined as in docs/metrics.md.

    Args:
        before: the networks before the update, or at any time if there is no `after`.
        after: the same networks on the same states after the update.
        extra: more measurements to put into the row, by the prefix of their names, such as
            `{"trust/": trust_region(log_ratio, advantages, clip_epsilon, continuous)}`.

    Returns:
        `health/actor/feature_rank_pca` and its like; with `after` also those with `_after` and `change/…`;
        `health/undefined` says why which value is NaN.

    Raises:
        UserError: if nothing was recorded, or the two snapshots are not of the same networks and states.
    """
    if not before.networks:
        raise UserError("before: holds no networks; a recording is filled when its `with` block has ended")
    parts = {f"health/{name}/": _measure(trace) for name, trace in before.networks.items()}
    merged = [health.merge(parts)]
    if after is not None:
        if after.networks.keys() != before.networks.keys():
            raise UserError(
                f"after: holds {', '.join(after.networks) or 'no networks'}:"
                f" must hold {', '.join(before.networks)}, as before does"
            )
        for name, new in after.networks.items():
            merged.append(_suffixed(health.merge({f"health/{name}/": _measure(new)}), "_after"))
            merged.append(health.merge({f"change/{name}/": _change(name, before.networks[name], new)}))
    merged.append(health.merge(extra or {}))
    everything = health.Measured(
        {name: value for part in merged for name, value in part.values.items()},
        {name: reason for part in merged for name, reason in part.reasons.items()},
    )
    numbers = {name: float(value) for name, value in everything.values.items()}
    return {**numbers, "health/undefined": health.undefined_text(everything)}


def join_snapshots(parts: Sequence[Snapshot]) -> Snapshot:
    """Put recordings of several parts of a batch behind each other."""
    names = parts[0].networks
    return Snapshot({name: join_traces([part.networks[name] for part in parts]) for name in names})


def join_traces(parts: Sequence[Trace]) -> Trace:
    """Put several parts of a batch behind each other."""
    if len(parts) == 1:
        return parts[0]
    norms = np.array([part.preactivation_norm_all for part in parts])
    return Trace(
        np.concatenate([part.features for part in parts]),
        _concatenate([part.activations for part in parts]),
        _concatenate([part.preactivations for part in parts]),
        float(np.average(norms, weights=[len(part.features) for part in parts])),
        parts[0].activation,
        next((part.why for part in parts if part.why), ""),
    )


def _concatenate(parts: Sequence[Matrix | None]) -> Matrix | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if len(known) == len(parts) else None


def _measure(trace: Trace) -> health.Measured:
    ranks = health.feature_ranks(trace.features)
    values: dict[str, object] = dict.fromkeys(
        ("dead_neurons", "preactivation_norm", "preactivation_norm_all"), np.nan
    )
    broken = "the batch has no states" if len(trace.features) == 0 else "pre-activations contain NaN"
    reasons = dict.fromkeys(values, trace.why or broken)
    if trace.activation is not None and trace.activations is not None:
        if trace.activation in health.ACTIVATIONS:
            values["dead_neurons"] = health.dead_neurons(trace.activations, trace.activation)
            single = len(trace.features) == 1 and not np.isnan(trace.activations).any()
            reasons["dead_neurons"] = "one state has no spread" if single else "activations contain NaN"
        else:
            reasons["dead_neurons"] = f"a dead unit has no definition for {trace.activation}"
    if trace.preactivations is not None:
        values["preactivation_norm"] = health.preactivation_norm(trace.preactivations)
        values["preactivation_norm_all"] = trace.preactivation_norm_all
    own = health.explain(values, reasons)
    return health.Measured({**ranks.values, **own.values}, {**ranks.reasons, **own.reasons})


def _change(name: str, old: Trace, new: Trace) -> health.Measured:
    if old.features.shape != new.features.shape:
        raise UserError(
            f"after: {name} has features of shape {new.features.shape}:"
            f" must be {old.features.shape}, those of the same states as before"
        )
    parts = {"features": health.feature_change(old.features, new.features)._asdict()}
    if old.preactivations is not None and new.preactivations is not None:
        change = health.feature_change(old.preactivations, new.preactivations)
        parts["preactivations"] = change._asdict()
    else:
        parts["preactivations"] = {"l2": np.nan, "cosine": np.nan}
    values = {f"{what}_{kind}": x for what, both in parts.items() for kind, x in both.items()}
    unknown = {f"preactivations_{kind}": old.why or new.why for kind in ("l2", "cosine")}
    return health.explain(values, unknown)


def _suffixed(measured: health.Measured, suffix: str) -> health.Measured:
    return health.Measured(
        {name + suffix: value for name, value in measured.values.items()},
        {name + suffix: reason for name, reason in measured.reasons.items()},
    )
