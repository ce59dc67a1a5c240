"""`ev export`: write a trained agent's policy for PyTorch and ONNX."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.imports import import_modules


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a trained agent's policy as PyTorch's safetensors and as ONNX, each checked to give the same actions."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    seed: int | None = None
    """Which member of the population; by default the first that no fault has frozen."""
    to: Path | None = None
    """The folder to make; by default RUN/policy-seed-N."""
    format: tuple[Literal["torch", "onnx"], ...] = ()
    """What to write; by default both, or torch alone where onnx is not installed."""
    checkpoint: int | None = None
    """Number of segments done, as `ev show RUN` lists them; by default the last whole one."""
    best: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take the member's parameters of its best batches, which `ev train --keep-best` leaves."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own environments, from the current folder or installed."""


def main(argv: Sequence[str]) -> int:
    """Run `ev export`; returns the exit code."""
    command = parse(Export, argv, "ev export")
    import_modules(command.import_modules)
    from escapevelocity.interop import export_policy
    from escapevelocity.ppo.agent import load_with_notes
    from escapevelocity.ppo.export.check import MismatchError

    agent, notes = load_with_notes(command.run, command.seed, command.checkpoint, command.best)
    for text in [*notes, *([str(agent.frozen)] if agent.frozen else [])]:
        print(f"ev: {text}", file=sys.stderr)
    seed = agent.seed
    to = command.to or command.run / f"policy-seed-{seed}"
    try:
        export = export_policy(agent, to, command.format or None)
    except MismatchError as error:
        print(f"ev: {' '.join(str(error).split())}; nothing was written", file=sys.stderr)
        return 1
    print(f"{export.folder}: {agent.task.name}, seed {seed}, after {agent.env_steps:,} environment steps")
    for file in export.files:
        print(f"  {file}")
    if export.left_out:
        print(f"ev: {export.left_out}", file=sys.stderr)
    return 0
