"""`ev evaluate`: run a trained agent in fresh environments."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.cli.train import expand_ranges
from escapevelocity.errors import require
from escapevelocity.imports import import_modules


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Run a trained agent in fresh environments and print the returns of its sampled and of its most likely actions."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run's folder."""
    seeds: tuple[int, ...] = ()
    """Members of the population: integers and inclusive ranges a:b; by default all."""
    episodes: int = 10
    """Episodes per member and kind of action."""
    checkpoint: int | None = None
    """Number of segments done, as `ev show RUN` lists them; by default the last whole one."""
    best: tyro.conf.FlagCreatePairsOff[bool] = False
    """Take each member's parameters of its best batches, which `ev train --keep-best` leaves."""
    evaluation_seed: int = 0
    """Seed of the start states and samples."""
    video: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also film one episode of each member with its most likely actions: RUN/plots/video-seed-N.gif."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own environments or remedies, from the current folder or
    installed."""

    def __post_init__(self) -> None:
        require(self.episodes >= 1, "episodes", self.episodes, "at least 1")
        require(
            0 <= self.evaluation_seed < 2**31, "evaluation-seed", self.evaluation_seed, "from 0 to 2147483647"
        )


def main(argv: Sequence[str]) -> int:
    """Run `ev evaluate`; returns the exit code."""
    command = parse(Evaluate, expand_ranges(argv), "ev evaluate")
    import_modules(command.import_modules)
    from escapevelocity.cli._console import numbers_table, print_numbers
    from escapevelocity.ppo.agent import load_with_notes
    from escapevelocity.ppo.evaluation import evaluate, record_video, require_film
    from escapevelocity.ppo.saved import saved_spec
    from escapevelocity.runs import open_run
    from escapevelocity.runs.atomic import require_writable

    # All agents first, so that a mistake in the last seed does not come after minutes of work.
    seeds = command.seeds or saved_spec(open_run(command.run).path).seeds
    loaded = [load_with_notes(command.run, seed, command.checkpoint, command.best) for seed in seeds]
    agents = [agent for agent, _ in loaded]
    notes = [text for _, damaged in loaded for text in damaged]
    notes += [str(agent.frozen) for agent in agents if agent.frozen]
    for text in dict.fromkeys(notes):  # Each seed meets the same damaged checkpoints.
        print(f"ev: {text}", file=sys.stderr)
    plots = command.run / "plots"
    if command.video:
        require_film(agents[0])
        require_writable(plots, "video")
    headings = ("seed", "env steps", "actions", "episodes", "return mean", "return std", "length mean")
    table = numbers_table(headings)
    for agent in agents:
        for mode in (False, True):
            result = evaluate(agent, command.episodes, mode, command.evaluation_seed)
            table.add_row(
                str(agent.seed),
                f"{agent.env_steps:,}",
                "mode" if mode else "sampled",
                str(command.episodes),
                f"{result.returns.mean():.1f}",
                f"{result.returns.std(ddof=1):.1f}" if command.episodes > 1 else "–",
                f"{result.lengths.mean():.1f}",
            )
    print_numbers(table)
    for agent in agents if command.video else ():
        path = plots / f"video-seed-{agent.seed}.gif"
        print(f"{path}: {record_video(agent, path, seed=command.evaluation_seed)} frames")
    return 0
