"""A measurement that cannot be silent: an undefined value is NaN and says why."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from escapevelocity.health._arrays import on_host

_UNEXPLAINED = "its inputs contain NaN or Inf"


class Measured(NamedTuple):
    """Named values, and for each that is undefined the reason.

    A value is a float, or an array (...) with one entry per population member. A value that could not be
    computed is NaN and never missing; `reasons` then holds, under the same name and in the same shape, the
    sentence that says why ("" for the members whose value is defined). A name whose values are all defined
    has no entry in `reasons`.

    Attributes:
        values: name -> float or float64 array (...).
        reasons: name -> str or array (...) of str, only for names with at least one NaN.
    """

    values: dict[str, np.ndarray | float]
    reasons: dict[str, np.ndarray | str]


def explain(values: Mapping[str, object], reasons: Mapping[str, object] | str = _UNEXPLAINED) -> Measured:
    """Turn named values into a `Measured` by attaching a reason to every NaN.

    Args:
        values: name -> number or array (...), torch's with a gradient or in half precision too; converted to float64.
        reasons: one sentence for all names, or name -> sentence or array (...) of sentences. Consulted only
            where a value is NaN; where nothing is given a general sentence stands in.

    Returns:
        The values with a reason for each NaN.

    Example:
        >>> explain({"value/std": float("nan")}, "a standard deviation needs two states").reasons
        {'value/std': 'a standard deviation needs two states'}
    """
    numbers: dict[str, np.ndarray | float] = {}
    texts: dict[str, np.ndarray | str] = {}
    for name, value in values.items():
        array = np.asarray(on_host(value), dtype=np.float64)
        numbers[name] = float(array) if array.ndim == 0 else array
        undefined = np.isnan(array)
        if not undefined.any():
            continue
        given = np.asarray(reasons if isinstance(reasons, str) else reasons.get(name, ""))
        text = np.where(undefined, np.where(given == "", _UNEXPLAINED, given), "")
        texts[name] = str(text) if text.ndim == 0 else text
    return Measured(numbers, texts)


def merge(parts: Mapping[str, Measured]) -> Measured:
    """Join measurements into one, each name led by its part's prefix.

    Args:
        parts: prefix (such as "health/actor/") -> measurement.

    Example:
        >>> merge({"trust/": Measured({"kl_k1": 0.5}, {})}).values
        {'trust/kl_k1': 0.5}
    """
    joined = Measured({}, {})
    for prefix, part in parts.items():
        joined.values.update({prefix + name: value for name, value in part.values.items()})
        joined.reasons.update({prefix + name: reason for name, reason in part.reasons.items()})
    return joined


def member(measured: Measured, index: int | tuple[int, ...]) -> Measured:
    """Take one population member's floats and reasons out of a measurement with leading axes.

    Args:
        measured: values of shape (...).
        index: the member's position along the leading axes.

    Example:
        >>> member(Measured({"srank": np.array([3.0, 4.0])}, {}), 1).values
        {'srank': 4.0}
    """
    values: dict[str, np.ndarray | float] = {
        name: float(np.asarray(value)[index]) for name, value in measured.values.items()
    }
    reasons: dict[str, np.ndarray | str] = {}
    for name, reason in measured.reasons.items():
        text = str(np.asarray(reason)[index])
        if text:
            reasons[name] = text
    return Measured(values, reasons)


def undefined_text(measured: Measured) -> str:
    """Join the reasons of one member into the text of the record column `health/undefined`.

    Args:
        measured: one member's floats (use `member` first when there are leading axes).

    Returns:
        "name, name: reason; name: reason" with names grouped under a shared reason; "" when all is defined.

    Example:
        >>> undefined_text(Measured({}, {"actor/srank": "features contain NaN"}))
        'actor/srank: features contain NaN'
    """
    names_of: dict[str, list[str]] = {}
    for name, reason in measured.reasons.items():
        names_of.setdefault(str(reason), []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in names_of.items())
