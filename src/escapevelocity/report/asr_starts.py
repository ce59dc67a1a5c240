"""The starts of the sampling distribution as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from escapevelocity.errors import UserError
from escapevelocity.metric_learning.config import SamplerConfig
from escapevelocity.metric_learning.distribution import actions_to_parity, measure_distribution
from escapevelocity.metric_learning.starts import STARTS, start_masses
from escapevelocity.report._shown import longest_word, write_number

_PRESETS = {"normal(MEAN,STD)", "uniform(MEAN,STD)"}


def starts_table(given: Sequence[str], sampler: SamplerConfig, embedding_dim: int, step_up: float) -> Table:
    """Make a table of starts: energy, entropy, free energy, distances, bins at the floor, raises to parity.

    Args:
        given: starts; without any, all that have a name.
        sampler: bins and support.
        embedding_dim: dimensions of the embedding.
        step_up: factor of a raise.

    Raises:
        UserError: a start that cannot be read.
    """
    named = [name for name in STARTS if name not in _PRESETS]
    shown = list(given) or [name for name in named if _fits(name, sampler)]
    rows = [_numbers(name, sampler, embedding_dim, step_up) for name in shown]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("start", no_wrap=True)
    headers = ("energy", "entropy", "free energy", "mean distance", "std", "floor bins", "raises to parity")
    for header, *texts in zip(headers, *rows, strict=True):
        table.add_column(header, justify="right", min_width=longest_word([header, *texts]))
    table.add_column("what it is", min_width=longest_word(STARTS.get(name, "") for name in shown))
    if not given and len(shown) < len(named):
        left_out = ", ".join(name for name in named if name not in shown)
        table.caption = (
            f"left out, as they need another support than {sampler.low:g} to {sampler.high:g}: {left_out}"
        )
    for name, cells in zip(shown, rows, strict=True):
        table.add_row(name, *cells, STARTS.get(name, ""))
    return table


def _numbers(name: str, sampler: SamplerConfig, embedding_dim: int, step_up: float) -> list[str]:
    masses = start_masses(name, sampler, embedding_dim, "start")
    found = measure_distribution(masses, sampler.low, sampler.high)
    raises = actions_to_parity(masses, step_up)
    numbers = (found.energy, found.entropy, found.free_energy, found.distance_mean, found.distance_std)
    cells = [write_number(round(float(number), 3)) for number in numbers]
    return [*cells, str(int(found.floor_bins)), str(int(raises.max()))]


def _fits(name: str, sampler: SamplerConfig) -> bool:
    """Whether a start with a name of its own lies in the support."""
    try:
        start_masses(name, sampler)
    except UserError:
        return False
    return True
