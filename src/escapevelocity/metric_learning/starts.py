"""Where the sampling distribution starts: a text such as "normal(0.75,0.4)" becomes masses over bins of distance.

Two readings of "normal high" must never be merged. The gravity-well paper speaks of a normal with high *variance*:
negatives from a long range of distances, hard to easy; that is `broad`. PADS's `normal_high` is a narrow normal with a
high *mean*, which lies outside of the support: nearly all mass falls on the last bin; that is `pads_normal_high`.

Sources: Dou et al. 2022 (ASR, arXiv 2208.08056) and the gravity-well paper, which give no numbers: those of `broad` and
`narrow` are ours. Roth et al. 2020 (PADS, arXiv 2003.11113) with its code, github.com/Confusezius/CVPR2020_PADS,
PADS_utilities.py, `Parametric_Sampler.give_distr` and `probmode`. Wu et al. 2017 (arXiv 1706.07567), eq. 3.
"""

import difflib
import math
import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from escapevelocity.errors import UserError, require
from escapevelocity.metric_learning.config import SamplerConfig

FLOOR = 1e-15
"""Least mass of a bin at the start [PADS]: actions multiply, so a bin at 0 could never be lifted again."""

DISTANCE_CUTOFF = 0.5
"""Nearer candidates are weighted as if they were so far away (Wu et al. 2017, their code; PADS, losses.py)."""

_PADS_SHIFT = 2
"""PADS evaluates its densities at a bin's left edge + 2/(bins + 1): 2/30 with 29 bins."""

_SHAPED = ("normal", "uniform")
_PRESETS = {"broad": (0.75, 0.4), "narrow": (0.5, 0.05)}

_PADS_NORMAL = {
    "pads_normal_low": (0.5, 0.05),
    "pads_normal_avg": (1.1, 0.04),
    "pads_normal_high": (1.6, 0.04),
}
_PADS_INTERVAL = {
    "pads_uniform_low": (0.5 - 0.2, 0.5 + 0.2),
    "pads_uniform_avg": (1.0 - 0.2, 1.0 + 0.2),
    "pads_uniform_high": (1.5 - 0.2, 1.5 + 0.2),
    "pads_uniform_low_and_tight": (0.4 - 0.1, 0.4 + 0.1),
    "pads_uniform_lowish_and_tight": (0.6 - 0.1, 0.6 + 0.1),
    "pads_heavyside_low": (-math.inf, 0.5),
    "pads_distance": (-math.inf, 0.5),
}

STARTS: dict[str, str] = {
    "broad": "normal(0.75,0.4): negatives from hard to easy, the gravity-well paper's high variance",
    "narrow": "normal(0.5,0.05): its low variance",
    "normal(MEAN,STD)": "normal density over distances, cut to the support",
    "uniform(MEAN,STD)": "constant density on MEAN ± √3·STD, cut to the support",
    "flat": "every bin alike",
    "distance": "distance-weighted: the inverse density of distances between random points on the sphere",
    "pads_random": "every bin alike, with mass 1",
    "pads_distance": "bins up to 0.5; not distance-weighted, despite its name",
    "pads_heavyside_low": "bins up to 0.5",
    "pads_uniform_low": "bins in [0.3, 0.7]",
    "pads_uniform_avg": "bins in [0.8, 1.2]",
    "pads_uniform_high": "bins from 1.3 up",
    "pads_uniform_low_and_tight": "bins in [0.3, 0.5]",
    "pads_uniform_lowish_and_tight": "bins in [0.5, 0.7]",
    "pads_normal_low": "normal with mean 0.5 and standard deviation 0.05",
    "pads_normal_avg": "normal with mean 1.1 and standard deviation 0.04",
    "pads_normal_high": "normal with the high mean 1.6, beyond the support: 99.6 % on the last bin",
}
"""Every start with what it is; `ev asr starts` lists them."""

_WIDE = 1e5
"""Standard deviation, in widths of the support, from which on a normal is flat there to ten digits, while the integrals
of its bins begin to cancel."""

_SHAPE = re.compile(r"([a-z]+)\(([^()]*)\)")


@dataclass(frozen=True)
class Start:
    """A start, read from its text.

    Attributes:
        kind: normal, uniform, flat, distance, or one of PADS's with its prefix.
        mean: of the distances, for normal and uniform.
        std: alike; that of the whole density, before it is cut to the support.
    """

    kind: str
    mean: float | None = None
    std: float | None = None

    def __str__(self) -> str:
        return self.kind if self.mean is None else f"{self.kind}({self.mean:g},{self.std:g})"


def parse_start(text: str, low: float = 0.1, high: float = 1.4, field: str = "init") -> Start:
    """Read a start.

    Args:
        text: one of `STARTS`; spaces and capitals do not matter.
        low: lower end of the support, which the mean must lie in.
        high: its upper end.
        field: the setting's name, for messages.

    Raises:
        UserError: an unknown start (with the nearest), numbers that are none, a mean outside of the support, or a
            standard deviation that is not positive.

    Example:
        >>> parse_start("broad")
        Start(kind='normal', mean=0.75, std=0.4)
    """
    name = re.sub(r"\s", "", text).lower()
    shape = _SHAPE.fullmatch(name)
    if shape and shape[1] in _SHAPED:
        return _shaped(shape[1], *_numbers(shape[2], field, text), low, high, field)
    if name in _PRESETS:
        return _shaped("normal", *_PRESETS[name], low, high, field)
    if name not in STARTS:
        # A shape is told from its name: its numbers would count as differences.
        near = difflib.get_close_matches(name.split("(")[0], [known.split("(")[0] for known in STARTS], n=3)
        known = {known.split("(")[0]: known for known in STARTS}
        nearest = ", ".join(known[one] for one in near) or ", ".join(list(STARTS)[:4])
        raise UserError(f"{field} = {text!r}: must be a start such as {nearest}; ev asr starts lists them")
    return Start(name)


def start_masses(
    start: Start | str, sampler: SamplerConfig, embedding_dim: int = 128, field: str = "init"
) -> Float[np.ndarray, " bins"]:
    """Give the masses that a start puts on the bins, float64.

    They sum to 1, but for `pads_random`, which puts 1 on each bin as PADS's code does (sampling does not see it).
    `normal` and `uniform` are integrated over each bin exactly, and no mass is below 1e-15. PADS's densities are taken
    as they are in its code: at the bin's left edge + 2/(bins + 1), clipped to [1e-15, 1] before they are normalised, so
    that its floor is 1e-15 of a density and not of a mass; its normal is 1/√(2π·std)·exp(−½z²), which exceeds 1 near
    its mean and is cut there.

    Args:
        start: a start, or its text.
        sampler: bins and support.
        embedding_dim: dimension of the embedding, for `distance`.
        field: the setting's name, for messages.

    Raises:
        UserError: see `parse_start`; an embedding of fewer than two dimensions; one of PADS's that falls on no bin,
            where its code would make it flat.

    Example:
        >>> masses = start_masses("pads_normal_high", SamplerConfig())
        >>> round(float(masses[-1]), 3)
        0.996
    """
    if isinstance(start, str):
        start = parse_start(start, sampler.low, sampler.high, field)
    edges = np.linspace(sampler.low, sampler.high, sampler.bins + 1)
    if start.kind == "pads_random":
        return np.ones(sampler.bins)
    if start.kind.startswith("pads_"):
        density = _pads_density(start.kind, edges[:-1] + _PADS_SHIFT / (sampler.bins + 1))
        support = f"one that falls on any of the {sampler.bins} bins from {sampler.low:g} to {sampler.high:g}"
        require(bool(density.max() > FLOOR), field, start.kind, support)
        return _normalised(np.clip(density, FLOOR, 1))
    if start.mean is not None and start.std is not None:
        shape = _normal_masses if start.kind == "normal" else _uniform_masses
        masses = shape(edges, start.mean, start.std)
    elif start.kind == "distance":
        require(embedding_dim >= 2, "embedding-dim", embedding_dim, "at least 2")
        masses = _inverse_distance_density((edges[:-1] + edges[1:]) / 2, embedding_dim)
    else:
        masses = np.ones(sampler.bins)
    return _normalised(np.maximum(_normalised(masses), FLOOR))


def _shaped(kind: str, mean: float, std: float, low: float, high: float, field: str) -> Start:
    require(low <= mean <= high, f"{field}: mean", mean, f"in the support, {low:g} to {high:g}")
    require(0 < std < math.inf, f"{field}: standard deviation", std, "a finite number above 0")
    return Start(kind, mean, std)


def _numbers(text: str, field: str, whole: str) -> tuple[float, float]:
    try:
        mean, std = map(float, text.split(","))
    except ValueError:
        raise UserError(
            f"{field} = {whole!r}: must hold two numbers, mean and standard deviation, such as normal(0.75,0.4)"
        ) from None
    return mean, std


def _normalised(masses: np.ndarray) -> np.ndarray:
    return masses / masses.sum()


def _normal_masses(edges: np.ndarray, mean: float, std: float) -> np.ndarray:
    """P(a < x ≤ b) of every bin, from the tail on its own side of the mean, where it does not cancel."""
    if std > _WIDE * (edges[-1] - edges[0]):
        return np.ones(len(edges) - 1)
    with np.errstate(over="ignore"):  # A tiny std: ±∞ are the right ends.
        z = (edges - mean) / (std * math.sqrt(2))
    upper = np.array([math.erfc(value) for value in z]) / 2
    lower = np.array([math.erfc(-value) for value in z]) / 2
    return np.where(z[:-1] >= 0, upper[:-1] - upper[1:], lower[1:] - lower[:-1])


def _uniform_masses(edges: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Share of MEAN ± √3·STD that lies in every bin; of an interval narrower than rounding, all in one."""
    half = math.sqrt(3) * std
    overlap = np.minimum(edges[1:], mean + half) - np.maximum(edges[:-1], mean - half)
    overlap = np.maximum(overlap, 0)
    if overlap.sum() == 0:
        overlap[min(int(np.searchsorted(edges, mean, side="right")), len(edges) - 1) - 1] = 1
    return overlap


def _inverse_distance_density(distances: np.ndarray, dim: int) -> np.ndarray:
    """1/q(d), q(d) ∝ d^{n−2}·(1 − d²/4)^{(n−3)/2}, relative to its largest (Wu et al. 2017, eq. 3)."""
    d = np.maximum(distances, DISTANCE_CUTOFF)
    log_inverse = (2 - dim) * np.log(d) - (dim - 3) / 2 * np.log1p(-(d**2) / 4)
    return np.exp(log_inverse - log_inverse.max())


def _pads_density(kind: str, x: np.ndarray) -> np.ndarray:
    if kind in _PADS_NORMAL:
        mean, std = _PADS_NORMAL[kind]
        # The code's own constant: std, not its square, stands under the root.
        return np.exp(-((x - mean) ** 2) / (2 * std**2)) / math.sqrt(2 * math.pi * std)
    first, last = _PADS_INTERVAL[kind]
    return ((x >= first) & (x <= last)).astype(np.float64)
