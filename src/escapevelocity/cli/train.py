"""`ev train`: train PPO on a task."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from escapevelocity.cli._imports import modules_in
from escapevelocity.cli._options import HELP, Given, split
from escapevelocity.cli._parse import parse
from escapevelocity.cli._remedy_options import make_remedies, print_help, take_remedies, with_remedies
from escapevelocity.errors import UserError
from escapevelocity.imports import import_modules
from escapevelocity.ppo.config import PPOSpec

if TYPE_CHECKING:
    from escapevelocity.runs import Observer

MOST_SEEDS = 100_000


@dataclasses.dataclass(frozen=True)
class Train:
    """Train PPO on a task, with the health of its representation measured on every batch (for images and tasks that are
    stepped on the device, every 0.1 % of the run).

    The preset follows from the task's family: mujoco and atari (Moalla et al. 2024) for Gymnasium's MuJoCo tasks and
    ALE's games, minatar for Gymnax's MinAtar, classic (CleanRL) for all others. `ev train TASK --help` shows the
    defaults for TASK. Records, checkpoints and settings land in OUT/NAME.

    Sources of the settings: [M] Moalla et al. 2024 (arXiv 2405.00662), [S] Schulman et al. 2017 (arXiv 1707.06347),
    [G] Schulman et al. 2016 (arXiv 1506.02438), [C] CleanRL's ppo.py.
    """

    spec: PPOSpec = dataclasses.field(default_factory=PPOSpec)
    """What is trained, and how."""
    remedy: tuple[str, ...] = ()
    """Remedies against a collapse, any number of them, with their fields as --NAME.FIELD; none takes those of --config
    away. They are listed below."""
    config: Path | None = None
    """Take all settings from a saved spec.json (or the run that holds it); options given here still override it."""
    out: Path = Path("runs")
    """Folder that holds runs."""
    name: str | None = None
    """Name of the run; by default the task and the hash of its settings."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also write the records for these trackers (pip install 'escapevelocity[track]'); wandb works offline."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own environments or remedies, from the current folder or
    installed."""
    stop_on: Literal["collapse"] | None = None
    """Stop the run once every seed has collapsed: its representation is lost, or its return has fallen from its best.
    It then counts as interrupted, with the reason in its status and exit code 0."""
    keep_best: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep each seed's parameters of its best five batches: RUN/snapshots/best.safetensors, `ev evaluate --best`."""
    capacity: tyro.conf.FlagCreatePairsOff[bool] = False
    """Measure each snapshot's capacity loss as it is taken, as `ev capacity RUN` would do afterwards, alike. It keeps
    the data that networks are fitted to: of games 250 MB per seed."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved settings and the planned segments, and stop."""


def main(argv: Sequence[str]) -> int:
    """Run `ev train`; returns the exit code."""
    import_modules(modules_in(argv))
    line = take_remedies(expand_ranges(argv))
    if any(argument in HELP for argument in line.rest):
        return print_help(Train, line, "ev train", Train(spec=_defaults_for_help(line.rest)))
    given = split(Train, line.rest)
    command = parse(Train, line.rest, "ev train", default=Train(spec=_defaults(given)))
    from escapevelocity.ppo.training import run_path, train

    spec = with_remedies(command.spec, make_remedies(line, "ev train"), given.options)
    path = run_path(spec, command.out, command.name)
    if command.dry_run:
        print("\n".join([*plan(spec, path), *rounding(spec)]))
        return 0
    observers = observers_of(command.track, path, rounding(spec), command.stop_on)
    finished = train(spec, command.out, command.name, observers, command.keep_best, command.capacity)
    return finished.status.exit_code


def observers_of(
    track: Sequence[str], path: Path, notes: Sequence[str], stop_on: str | None
) -> "list[Observer]":
    """What watches a run that a command starts: trackers, notes to the user, the live table and the early warning."""
    from escapevelocity.cli._note import StartNote
    from escapevelocity.report.table import terminal_observer
    from escapevelocity.report.trackers import make_trackers
    from escapevelocity.report.warning import EarlyWarning

    # What can fail to start comes first: a table would already say that the run has begun.
    screen = terminal_observer()
    warning = EarlyWarning(screen.on_message, stop_on)
    return [*make_trackers(track, path), StartNote(notes), screen, warning]


def expand_ranges(argv: Sequence[str]) -> list[str]:
    """Write inclusive ranges after --seeds out: `--seeds 1:3 7` becomes `--seeds 1 2 3 7`."""
    expanded: list[str] = []
    in_seeds = False
    for given in argv:
        if given.startswith("-"):
            in_seeds = given.partition("=")[0] == "--seeds"
        flag, _, argument = given.partition("=") if given.startswith("--seeds=") else ("", "", given)
        expanded += [flag] if flag else []
        if not in_seeds or ":" not in argument:
            expanded.append(argument)
            continue
        match = re.fullmatch(r"(\d+):(\d+)", argument)
        if match is None or not int(match[1]) <= int(match[2]) < int(match[1]) + MOST_SEEDS:
            raise UserError(
                f"seeds = {argument!r}: must be integers and ranges a:b with a ≤ b and at most {MOST_SEEDS} seeds"
            )
        expanded += map(str, range(int(match[1]), int(match[2]) + 1))
    return expanded


def _defaults_for_help(arguments: list[str]) -> PPOSpec:
    """The settings that help shows: those for the task if it is named, and else the preset `mujoco`."""
    try:
        return _defaults(split(Train, [argument for argument in arguments if argument not in HELP]))
    except UserError:
        return PPOSpec()


def _defaults(given: Given) -> PPOSpec:
    """The settings that the options are laid over: those of --config, or of the preset that fits the task."""
    config, preset = _last(given, "config"), _last(given, "preset")
    if config is not None:
        if preset is not None:
            raise UserError(
                f"preset = {preset!r}: --config {config} already says every setting; leave one of the two out"
            )
        from escapevelocity.ppo.saved import saved_spec

        try:
            # Settings alone: what was a branch begins at the beginning now.
            return dataclasses.replace(saved_spec(config), branch=None)
        except UserError as error:
            raise UserError(f"config = {config!r}: {error}") from error
    if not given.positionals:
        raise UserError("task: missing; name an environment before the options, such as ev train Hopper-v4")
    from escapevelocity.ppo.presets import PRESETS

    if preset not in (None, *PRESETS):
        raise UserError(f"preset = {preset!r}: must be one of {', '.join(PRESETS)}")
    from escapevelocity.ppo.training import default_spec

    return default_spec(given.positionals[0], preset)


def _last(given: Given, option: str) -> str | None:
    values = given.options.get(option)
    return values[-1] if values else None


def rounding(spec: PPOSpec) -> list[str]:
    """A line for the user where the steps are not whole batches."""
    size, count = spec.batch_steps, spec.num_batches
    steps = count * size
    return (
        []
        if steps == spec.steps
        else [f"--steps {spec.steps} rounded down to {steps}: {count} whole batches of {size}"]
    )


def plan(spec: PPOSpec, path: Path) -> list[str]:
    """What --dry-run prints: settings, folder and segments."""
    from escapevelocity.ppo.job import PPOJob
    from escapevelocity.runs import canonical_json

    job = PPOJob()
    count = job.segments(spec)
    lines = [canonical_json(spec, job.name).rstrip(), "", f"run directory  {path}"]
    lines.append(f"members        {len(spec.seeds)} (seeds {' '.join(map(str, spec.seeds))})")
    lines.append(f"batches        {spec.num_batches} of {spec.batch_steps} steps per member")
    lines.append(f"segments       {count}, each from fresh environments to a checkpoint:")
    lines += [
        f"  {k + 1:>3}  steps {job.step(spec, k) + 1:>11,} – {job.step(spec, k + 1):>11,}"
        for k in range(spec.branch.checkpoint if spec.branch else 0, count)
    ]
    return lines
