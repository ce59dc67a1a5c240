"""How a person reads a checkup."""

import math

from escapevelocity.interop.checkup import Checkup

_SHOWN = {
    "health/actor/feature_rank_pca": "actor: rank (PCA)",
    "health/actor/effective_rank": "actor: effective rank",
    "health/actor/dead_neurons": "actor: dead neurons",
    "health/actor/preactivation_norm": "actor: pre-activation norm",
    "health/critic/feature_rank_pca": "critic: rank (PCA)",
    "health/critic/dead_neurons": "critic: dead neurons",
    "health/critic/preactivation_norm": "critic: pre-activation norm",
    "policy/variance": "policy variance across states",
    "policy/entropy": "policy entropy, nats",
    "value/std": "std of the values across states",
}

_NO_VERDICT = "A sign is no verdict: a network can do well with many dead neurons (arXiv 2603.21173)."


def checkup_text(found: Checkup) -> str:
    """Write a checkup for a person: the signs first, then the numbers, and what they rest on."""
    count = len(found.findings)
    headline = (
        f"{count} sign{'s' if count != 1 else ''} of illness" if count else "no sign of illness at rest"
    )
    trained = (
        ""
        if found.training_steps is None
        else f", trained for {found.training_steps:,} steps by its own word"
    )
    lines = [f"{found.path}: {headline.upper()}", f"{found.env}{trained}"]
    if found.row:
        lines.append(f"{found.steps:,} states, {found.actions} actions, seed {found.seed}: {_returns(found)}")
    for one in found.findings:
        lines += ["", f"{one.sign}: {one.text}", f"  {one.meaning}"]
    if count:
        lines += ["", _NO_VERDICT]
    if found.row:
        lines += ["", f"{'on these states':<32}{'model':>12}{'fresh network':>16}"]
        lines += [
            f"{label:<32}{_number(found.row[name]):>12}{_number(found.fresh[name]):>16}"
            for name, label in _SHOWN.items()
        ]
        lines.append(
            f"The actor's last hidden layer has {found.width} units; the fresh network has the same shape."
        )
        if found.row["health/undefined"]:
            lines += ["", "undefined", f"  {found.row['health/undefined']}"]
    lines += ["", "not measured", *(f"  {text}" for text in found.not_measured)]
    lines += ["", "what was trusted", *(f"  {text}" for text in found.trusted)]
    return "\n".join(lines)


def _returns(found: Checkup) -> str:
    count = len(found.returns)
    if not count:
        return "no episode ended, so there is no return"
    mean = f"{count} episode{'s' if count > 1 else ''}, return {found.return_mean:.4g}"
    low, high = found.interval
    return mean if math.isnan(low) else f"{mean} (95 % interval {low:.4g} to {high:.4g})"


def _number(value: float | str) -> str:
    return "–" if isinstance(value, str) or math.isnan(value) else f"{value:.4g}"
