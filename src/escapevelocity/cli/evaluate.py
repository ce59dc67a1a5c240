"""`ev evaluate`: run a trained agent in fresh environments."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from escapevelocity.cli._parse import parse


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Run a trained agent in fresh environments and print the returns of its sampled and of its most likely actions."""

    run: tyro.conf.Positional[Path]
    """The run's folder."""
    seeds: tuple[int, ...] = ()
    """Members of the population; by default all."""
    episodes: int = 10
    """Episodes per member and kind of action."""
    checkpoint: int | None = None
    """Number of segments done, as `ev show RUN` lists them; by default the last."""
    evaluation_seed: int = 0
    """Seed of the start states and samples."""
    video: bool = False
    """Also film one episode of each member with its most likely actions: RUN/plots/video-seed-N.gif."""


def main(argv: Sequence[str]) -> int:
    """Run `ev evaluate`; returns the exit code."""
    command = parse(Evaluate, argv, "ev evaluate")
    from rich.console import Console
    from rich.table import Table

    from escapevelocity.ppo.agent import load
    from escapevelocity.ppo.config import PPOSpec
    from escapevelocity.ppo.evaluation import evaluate, record_video
    from escapevelocity.runs import load_spec

    seeds = command.seeds or load_spec(PPOSpec, command.run, "ppo").seeds
    table = Table("seed", "env steps", "actions", "episodes", "return mean", "return std", "length mean")
    for seed in seeds:
        agent = load(command.run, seed, command.checkpoint)
        for mode in (False, True):
            result = evaluate(agent, command.episodes, mode, command.evaluation_seed)
            table.add_row(
                str(seed),
                f"{agent.env_steps:,}",
                "mode" if mode else "sampled",
                str(command.episodes),
                f"{result.returns.mean():.1f}",
                f"{result.returns.std(ddof=1):.1f}" if command.episodes > 1 else "–",
                f"{result.lengths.mean():.1f}",
            )
        if command.video:
            path = command.run / "plots" / f"video-seed-{seed}.gif"
            frames = record_video(agent, path, seed=command.evaluation_seed)
            Console().print(f"{path}: {frames} frames")
    Console().print(table)
    return 0
