"""`ev asr starts`: the starts of the sampling distribution."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.metric_learning.config import ControllerConfig, SamplerConfig


@dataclasses.dataclass(frozen=True)
class ASRStarts:
    """List starts of the sampling distribution: energy, entropy and the distances that they imply.

    The last column is the multiplicative well: how many raises in a row, by --step-up, lift the lowest bin to the
    highest. `broad` and `narrow` differ in their spread, pads_normal_low and pads_normal_high in their mean.
    """

    init: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[START ...]")] = ()
    """Starts to show, such as normal(0.9,0.2); by default all that have a name."""
    bins: int = SamplerConfig.bins
    """Equal bins of the distance."""
    low: float = SamplerConfig.low
    """Lower edge of the first bin."""
    high: float = SamplerConfig.high
    """Upper edge of the last bin."""
    embedding_dim: int = 128
    """Dimensions of the embedding, on which `distance` depends."""
    step_up: float = ControllerConfig.step_up
    """Factor by which one action raises a bin's mass."""


def main(argv: Sequence[str]) -> int:
    """Run `ev asr starts`; returns the exit code."""
    command = parse(ASRStarts, argv, "ev asr starts")
    sampler = SamplerConfig(bins=command.bins, low=command.low, high=command.high)
    from escapevelocity.cli._console import print_numbers
    from escapevelocity.report.asr_starts import starts_table

    print_numbers(starts_table(command.init, sampler, command.embedding_dim, command.step_up))
    return 0
