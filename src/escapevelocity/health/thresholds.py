"""How far is too far: every number that the diagnosis and the early warning judge by, in one table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.health.gravity import ESCAPE_PROB
from escapevelocity.health.metrics import metric

PROVISIONAL = "provisional: set by no study yet"
STUDY = "studies/early_warning"


@dataclass(frozen=True)
class Threshold:
    """One number to judge by.

    Attributes:
        value: the number.
        unit: its unit.
        source: the paper, table or study that it comes from, or that it is provisional.
    """

    value: float
    unit: str
    source: str


def _end_of_range(column: str, end: str) -> tuple[float, str, str]:
    """One end of a metric's healthy range."""
    line = metric(column)
    return float(getattr(line.healthy, end)), line.unit, f"healthy range of {column}, docs/metrics.md"


def _ours(value: float | int, unit: str, reason: str = "") -> tuple[float, str, str]:
    return float(value), unit, f"{PROVISIONAL}; {reason}" if reason else PROVISIONAL


def _kept(line: tuple[float, str, str]) -> tuple[float, str, str]:
    """A line whose value the study has chosen again, from levels below and above it."""
    value, unit, source = line
    return value, unit, f"{source}; kept by {STUDY}"


_RANK = "health/actor/feature_rank_pca"


@dataclass(frozen=True)
class Thresholds:
    """All thresholds. A study replaces those it has set with `with_values` and keeps them as `to_json`."""

    smoothing: Threshold = Threshold(
        *_ours(5, "measurements", "a sign is read off the median of so many, the newest last")
    )
    """A single batch decides nothing."""
    persistence: Threshold = Threshold(
        *_ours(3, "measurements", "a sign counts once it has held at so many in a row")
    )
    """And ends once it has been absent at so many."""
    baseline: Threshold = Threshold(
        *_ours(1, "measurements", "the first batch is measured before any update")
    )
    """A column's start is the median of its first so many values."""
    rank_low: Threshold = Threshold(*_end_of_range(_RANK, "low"))
    """A rank below this, and below both shares, is lost."""
    rank_width_share: Threshold = Threshold(*_end_of_range(_RANK, "low_share"))
    """Share of the layer's width D."""
    rank_start_share: Threshold = Threshold(*_end_of_range(_RANK, "start_share"))
    """Share of the largest rank so far, that at the start among them."""
    dead_share: Threshold = Threshold(*_kept(_end_of_range("health/actor/dead_neurons", "high_share")))
    """More than this of the units that responded at the start is dead."""
    norm_high: Threshold = Threshold(*_end_of_range("health/actor/preactivation_norm", "high"))
    """A pre-activation norm above this has grown too far."""
    norm_growth: Threshold = Threshold(
        10.0, "× the start", f"{STUDY}, 100,000 steps; 5–10 in runs of 5 million that did not collapse"
    )
    """As has one that is more than so many times its start …"""
    norm_floor: Threshold = Threshold(
        1.0, "× √D", "closed form: the norm of pre-activations of size 1, which initialisations aim at"
    )
    """… and above this: units that receive less than that are not saturated, however little they began with."""
    far: Threshold = Threshold(
        *_ours(
            2, "× the bound", "studies/hopper_collapse: to 1.9 in runs of 5 million that kept their return"
        )
    )
    """What is so far beyond its bound is told as an illness though no other instrument shows it."""
    ratio_below: Threshold = Threshold(
        _end_of_range("trust/ratio_below_mean", "low")[0] / 0.8,
        "share of 1 − ε",
        f"healthy range of trust/ratio_below_mean at ε = 0.2, docs/metrics.md; kept by {STUDY}",
    )
    """The mean of the ratios below 1 − ε lies far below it."""
    excess_ratio: Threshold = Threshold(
        2.0, "× (1+ε)/(1−ε)", f"{STUDY}; 1.2–1.6 in healthy runs of ours, 2.3–6 in sick ones"
    )
    """The excess ratio lies far above its least value."""
    kl_high: Threshold = Threshold(*_kept(_end_of_range("trust/kl", "high")))
    """KL(old‖new) of one update."""
    clip_fraction_high: Threshold = Threshold(*_kept(_end_of_range("trust/clip_fraction", "high")))
    """More of the batch than this is clipped."""
    outside_high: Threshold = Threshold(*_end_of_range("trust/ratio_outside_fraction", "high"))
    """More ratios than this lie outside 1 ± ε; read where no KL after the whole update was logged."""
    kl_growth: Threshold = Threshold(*_ours(3, "× the start", "the pair of openai/baselines #456"))
    """KL has grown so far …"""
    clip_fall: Threshold = Threshold(*_ours(0.7, "× the start", "the pair of openai/baselines #456"))
    """… while the clip fraction has fallen to this."""
    kl_floor: Threshold = Threshold(*_ours(0.1, "nats", "below it the pair means nothing"))
    """KL that is worth a thought."""
    variance_low: Threshold = Threshold(*_end_of_range("policy/variance", "low"))
    """A policy that varies less over states does the same in all of them."""
    variance_fall: Threshold = Threshold(
        *_ours(10, "× variance_low", "an untrained policy starts with little variance")
    )
    """It must have varied so much before."""
    entropy_high: Threshold = Threshold(
        *_ours(0.9, "share of log A, or of the start", "high, as in Moalla et al. 2024, Fig. 2")
    )
    """Discrete actions: entropy that counts as high. (Continuous: at least the start's.)"""
    entropy_low: Threshold = Threshold(*_ours(0.05, "share of the start"))
    """Discrete actions: entropy that counts as gone."""
    entropy_drop: Threshold = Threshold(
        *_ours(3, "nats per action dimension", "std shrunk to exp(−3), a twentieth")
    )
    """Continuous actions: a fall of the base entropy that counts as collapse."""
    capacity_growth: Threshold = Threshold(
        *_ours(2, "× the first snapshot", "the loss rises in Moalla et al. 2024, Fig. 1")
    )
    """The capacity loss of actor or critic."""
    value_unexplained: Threshold = Threshold(
        *_ours(10, "× the variance of the values", "0.1–1.6 in healthy MuJoCo runs of ours")
    )
    """The critic's squared error against the variance of what it predicts."""
    gradient_share: Threshold = Threshold(*_ours(0.01, "share of its largest"))
    """The actor's gradient has all but vanished."""
    trapped: Threshold = Threshold(ESCAPE_PROB, "probability", "health.gravity: escaped means π(a*) ≥ 0.1")
    """Probability of the best action below which the policy is in the well."""
    return_fall: Threshold = Threshold(*_ours(0.5, "share of what had been gained"))
    """The return has lost this much of best − start …"""
    return_noise: Threshold = Threshold(*_ours(5, "standard deviations of a batch's mean return"))
    """… and so many of these."""
    return_gain: Threshold = Threshold(
        *_ours(3, "standard deviations of a batch's mean return", "medians of noise alone range over about 2")
    )
    """The run has learned something if its best is so far above its start."""
    return_step: Threshold = Threshold(
        *_ours(
            1,
            "standard deviations of a batch's mean return",
            "on 60 batches of noise 9 of 10 are called flat",
        )
    )
    """A return is an improvement on the last one if it is so much higher."""
    plateau_share: Threshold = Threshold(*_ours(0.5, "share of the run so far"))
    """The return has not improved for so long …"""
    plateau_batches: Threshold = Threshold(*_ours(20, "batches with a return"))
    """… of at least so many batches."""
    ceiling: Threshold = Threshold(
        *_ours(0.05, "share of best episode − start", "nearly every episode is as good as the best")
    )
    """A return this close to the best episode cannot improve: no plateau."""
    rising_share: Threshold = Threshold(*_ours(0.2, "share of the run so far"))
    """The return still rises if its last improvement is no older."""

    broad_entropy: Threshold = Threshold(
        *_ours(0.8, "share of log of the bins", "0.98 of our broad start, 0.46 of the narrow one")
    )
    """Entropy of the sampling distribution at the start that counts as broad."""
    floor_share: Threshold = Threshold(*_ours(0.5, "share of the bins"))
    """More bins than this at the floor are most."""
    undecided: Threshold = Threshold(*_ours(0.95, "share of log 3, a controller without a preference"))
    """Entropy of a bin's action above which the controller is undecided."""
    plunge_share: Threshold = Threshold(
        *_ours(0.05, "share of the best", "and more than noise, 2σ√(2 ln n): health.wells")
    )
    """Retrieval this far below its best has plunged."""

    def grown_norm(self, start: float, width: int | None) -> float:
        """Give the pre-activation norm above which one has grown too far from its start, and is no longer small."""
        return max(self.norm_growth.value * start, self.norm_floor.value * math.sqrt(width or 0))

    def most_dead(self, start: float, width: int) -> float:
        """Give how many units of a layer may be dead, of which `start` were at the start and have lost nothing."""
        return start + self.dead_share.value * (width - start)

    def with_values(self, values: Mapping[str, float | int], source: str) -> "Thresholds":
        """Replace thresholds by what a study has found; the others stay.

        Args:
            values: by name.
            source: the study, for the table.

        Raises:
            UserError: for an unknown name.

        Example:
            >>> Thresholds().with_values({"kl_high": 0.5}, "studies/mine").kl_high.value
            0.5
        """
        for name in values:
            _require_known(name)
        changed = {n: replace(getattr(self, n), value=float(v), source=source) for n, v in values.items()}
        return replace(self, **changed)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Give every threshold as JSON values: name -> value, unit, source."""
        return {field.name: dict(vars(getattr(self, field.name))) for field in fields(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Thresholds":
        """Read what `to_json` wrote; names that are missing keep their default.

        Raises:
            UserError: for an unknown name, or an entry that is not value, unit and source.
        """
        found = {}
        for name, entry in document.items():
            _require_known(name)
            try:
                found[name] = Threshold(float(entry["value"]), str(entry["unit"]), str(entry["source"]))
            except (KeyError, TypeError, ValueError):
                raise UserError(
                    f"thresholds[{name!r}] = {entry!r}: must hold value, unit and source"
                ) from None
        return cls(**found)


def _require_known(name: str) -> None:
    known = [field.name for field in fields(Thresholds)]
    if name not in known:
        raise UserError(f"threshold = {name!r}: must be one of {', '.join(known)}")
