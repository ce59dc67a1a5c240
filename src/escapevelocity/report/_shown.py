"""Which numbers a person sees of a run under way, how they are written, and when they are marked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from escapevelocity.errors import UserError
from escapevelocity.health import METRICS, outside_healthy_range
from escapevelocity.runs import Run

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_LONGEST = 2000  # Characters of a text from disk that is shown.
UNDEFINED = "–"
"""Stands for a value that is undefined or was not measured."""


@dataclass(frozen=True)
class Shown:
    """One column of the live table."""

    column: str
    """Column of the records."""
    header: str
    """Its heading; a line break where the table breaks it."""
    worst: Literal["low", "high", ""]
    """Which end is bad; empty where neither is."""

    @property
    def label(self) -> str:
        """The heading on one line."""
        return self.header.replace("\n", " ")


SHOWN = (
    Shown("perf/return_mean", "return", "low"),
    Shown("perf/length_mean", "length", ""),
    Shown("policy/entropy", "entropy", ""),
    Shown("trust/kl", "KL", "high"),
    Shown("trust/clip_fraction", "clip\nfrac.", "high"),
    Shown("health/actor/feature_rank_pca", "actor\nrank", "low"),
    Shown("health/actor/dead_neurons", "dead\nunits", "high"),
    Shown("health/actor/preactivation_norm", "pre-act\nnorm", "high"),
    Shown("trust/ratio_min", "lowest\nratio", "low"),
    Shown("trust/ratio_below_mean", "mean\n<1−ε", "low"),
)
"""What the live table and the plain lines show, in order."""

ASR_SHOWN = (
    Shown("validation/recall_at_1", "recall@1\nvalid.", "low"),
    Shown("validation/nmi", "NMI\nvalid.", "low"),
    Shown("test/recall_at_1", "recall@1\ntest", "low"),
    Shown("test/nmi", "NMI\ntest", "low"),
    Shown("loss/embedding", "loss", ""),
    Shown("loss/active_fraction", "active\npairs", ""),
    Shown("asr/distance_mean", "mean\ndistance", ""),
    Shown("asr/entropy", "entropy", ""),
    Shown("asr/policy_entropy", "policy\nentropy", ""),
    Shown("asr/reward", "reward", ""),
)
"""The same of adaptive sampling."""


def shown_of(job: str) -> tuple[Shown, ...]:
    """What is shown of a run of that job."""
    return ASR_SHOWN if job == "asr" else SHOWN


RANGED = tuple(
    column
    for metric in METRICS
    if metric.healthy is not None
    for column in metric.columns()
    if not column.endswith("_after")
)
"""Columns that have a healthy range; after-update twins are left out, they would say the same thing twice."""


def number(value: Any) -> float:
    """Give a record's value as a float; NaN for null, text and whatever else is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def write_number(value: float) -> str:
    """Write a number in at most eight characters; a dash for NaN.

    Example:
        >>> [write_number(x) for x in (1234.5, 22.0, 0.1782, 1.2e-5, float("nan"))]
        ['1,234', '22', '0.178', '1.2e-05', '–']
    """
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if 0 < size < 1e-99:
        return "<1e-99" if value > 0 else ">-1e-99"
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.1e}"
    if size >= 100 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.{1 if size >= 10 else 2 if size >= 1 else 3}f}"


def shown(value: Any, longest: int | None = _LONGEST) -> str:
    """Give a text from disk as it may be shown: no control characters, no half characters, not without end.

    A terminal obeys control characters: a stranger's run must not clear it, nor write to the clipboard.

    Args:
        value: the text.
        longest: how many characters of it are shown; None for all.

    Example:
        >>> shown("stopped\\x1b[2J")
        'stopped�[2J'
    """
    text = _CONTROL.sub("�", str(value))
    return text if longest is None or len(text) <= longest else text[:longest] + "…"


def longest_word(texts: Iterable[str]) -> int:
    """Give the least width of a column in which no word is broken, and so no number.

    Example:
        >>> longest_word(["mean distance", "0.75"])
        8
    """
    return max((len(word) for text in texts for word in text.split()), default=0)


def write_time(seconds: float) -> str:
    """Write a duration as m:ss or h:mm:ss; a dash for NaN.

    Example:
        >>> write_time(75.0), write_time(3661.0)
        ('1:15', '1:01:01')
    """
    if not math.isfinite(seconds):
        return UNDEFINED
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def is_marked(column: str, value: float, width: int | None, start: float | None = None) -> bool:
    """Say whether a value is outside its healthy range; False too where nothing can be said.

    Args:
        column: column of the records.
        value: its value.
        width: units of the penultimate layer, None when the job has none.
        start: where the run began (`first_values`), None when that is not known.
    """
    try:
        return outside_healthy_range(column, value, width, start) is True
    except UserError:  # a column of another job, or a bound relative to a width that nobody knows
        return False


def first_rows(records: pa.Table) -> list[dict[str, Any]]:
    """Give the rows of a run's first batch, one per member."""
    if records.num_rows == 0 or "batch" not in records.column_names:
        return []
    in_first = records["batch"].to_numpy() == records["batch"][0].as_py()
    return records.filter(pa.array(in_first)).to_pylist()


def first_values(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Give the smallest value of every ranged column, before and after the update, among the members' first rows: where
    the run began.
    """
    starts: dict[str, float] = {}
    for row in rows:
        for column in (*RANGED, *(f"{column}_after" for column in RANGED)):
            value = number(row.get(column))
            if not math.isnan(value):
                starts[column] = min(value, starts.get(column, math.inf))
    return starts


def worst_of(values: Sequence[float], worst: str) -> float:
    """Give the worst defined value; NaN when there is none or no end is bad."""
    defined = [value for value in values if not math.isnan(value)]
    if not defined or not worst:
        return math.nan
    return min(defined) if worst == "low" else max(defined)


def layer_width(spec: Any) -> int | None:
    """Find the units of the penultimate layer in a spec (dataclass or JSON mapping), None if it has none."""
    hidden = find_setting(spec, "network", "hidden")
    return int(hidden[-1]) if isinstance(hidden, list | tuple) and hidden else None


def task_name(spec: Any, job: str) -> str:
    """What a run is about: its task, its images, or else its job."""
    return str(find_setting(spec, "task") or find_setting(spec, "data", "data") or job)


def start_label(run: Run) -> str:
    """How a run of adaptive sampling draws its negatives, in a word; empty for other runs."""
    sampler, init, then = (find_setting(run.spec, "sampler", name) for name in ("sampler", "init", "then"))
    if run.job != "asr":
        return ""
    return {"adaptive": str(init), "curriculum": f"{init}, then {then}"}.get(str(sampler), str(sampler))


def find_setting(spec: Any, *path: str) -> Any:
    """Look up a nested setting of any job's spec, None if it has none of that name."""
    for name in path:
        spec = spec.get(name) if isinstance(spec, Mapping) else getattr(spec, name, None)
    return spec
