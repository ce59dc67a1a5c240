"""`ev asr map`: a trained embedding's test classes as a map."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class ASRMap:
    """Draw what a trained embedding makes of classes that it was never trained on, as points in the plane."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    seed: int | None = None
    """Which member; by default the first."""
    method: Literal["tsne", "pca"] = "tsne"
    """tsne keeps neighbours together; pca shows the two directions of largest variance."""
    out: Path | None = None
    """Folder for the files; by default the run's plots folder."""


def main(argv: Sequence[str]) -> int:
    """Run `ev asr map`; returns the exit code."""
    command = parse(ASRMap, argv, "ev asr map")
    from escapevelocity.report.embedding_map import plot_map

    for path in plot_map(command.run, command.out, command.seed, command.method):
        print(path)
    return 0
