"""`ev asr train`: train an embedding whose negatives a policy chooses."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from escapevelocity.cli._options import HELP, Given, split
from escapevelocity.cli._parse import parse
from escapevelocity.cli.train import expand_ranges
from escapevelocity.errors import UserError
from escapevelocity.metric_learning.config import ASRSpec, DataName


@dataclasses.dataclass(frozen=True)
class ASRTrain:
    """Train an embedding on the unit sphere from triplets whose negatives a policy chooses by their distance.

    The agent moves a distribution over distances every few training steps and is paid by retrieval on a validation
    set; --sampler gives fixed rules to compare with. Test classes are never trained on. Defaults follow from --data:
    `ev asr train --data omniglot --help` shows those for Omniglot. Records, checkpoints and settings land in OUT/NAME.

    Sources of the settings: [A] Dou et al. 2022 (ASR, arXiv 2208.08056), [P] Roth et al. 2020 (PADS, arXiv 2003.11113)
    and its code, [W] Wu et al. 2017 (arXiv 1706.07567), [S] Schulman et al. 2017 (arXiv 1707.06347).
    """

    spec: Annotated[ASRSpec, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ASRSpec)
    """What is trained, and how."""
    config: Path | None = None
    """Take all settings from a saved spec.json (or the run that holds it); options given here still override it."""
    download: tyro.conf.FlagCreatePairsOff[bool] = False
    """Fetch the images from their official address first, where they are not there yet."""
    out: Path = Path("runs")
    """Folder that holds runs."""
    name: str | None = None
    """Name of the run; by default the data set and the hash of its settings."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Also write the records for these trackers (pip install 'escapevelocity[track]'); wandb works offline."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the resolved settings and the planned segments, and stop."""


def main(argv: Sequence[str]) -> int:
    """Run `ev asr train`; returns the exit code."""
    argv = expand_ranges(argv)
    wants_help = any(argument in HELP for argument in argv)
    given = split(ASRTrain, [argument for argument in argv if argument not in HELP])
    defaults = _defaults_for_help(given) if wants_help else _defaults(given)
    command = parse(ASRTrain, argv, "ev asr train", default=ASRTrain(spec=defaults))
    from escapevelocity.metric_learning.splits import load_split
    from escapevelocity.metric_learning.training import run_path, train

    spec = command.spec
    path = run_path(spec, command.out, command.name)
    if command.dry_run:
        print("\n".join([*plan(spec, path), *notes(spec)]))
        return 0
    if command.download:
        load_split(spec.data, spec.data_dir, download=True)
    from escapevelocity.cli._note import StartNote
    from escapevelocity.report.table import terminal_observer
    from escapevelocity.report.trackers import make_trackers
    from escapevelocity.report.warning import EarlyWarning

    screen = terminal_observer()
    warning = EarlyWarning(screen.on_message)
    observers = [*make_trackers(command.track, path), StartNote(notes(spec)), screen, warning]
    return train(spec, command.out, command.name, observers).status.exit_code


def _defaults_for_help(given: Given) -> ASRSpec:
    """The settings that help shows: those that fit the images, if they are named."""
    try:
        return _defaults(given)
    except UserError:
        return ASRSpec()


def _defaults(given: Given) -> ASRSpec:
    """The settings that the options are laid over: those of --config, or those that fit the images."""
    config, data = (given.options.get(name, [None])[-1] for name in ("config", "data"))
    if config is not None:
        from escapevelocity.metric_learning.training import saved_spec

        try:
            # Settings alone: what was a branch begins at the beginning now.
            return dataclasses.replace(saved_spec(config), branch=None)
        except UserError as error:
            raise UserError(f"config = {config!r}: {error}") from error
    from escapevelocity.metric_learning.presets import preset_spec

    # An unknown name is refused by the full parse, which lists the known ones.
    return preset_spec(data if data is not None and data in get_args(DataName) else "digits")


def notes(spec: ASRSpec) -> list[str]:
    """Lines for the user before training starts."""
    random = spec.learner.backbone == "resnet50" and spec.learner.weights is None
    said = (
        "ResNet-50 without --weights begins at random with batch norms that never move: its embeddings begin nearly "
        "the same, in a single bin of distances, and --learning-rate 1e-5 is meant for ImageNet weights"
    )
    return [*rounding(spec), *([said] if random else [])]


def rounding(spec: ASRSpec) -> list[str]:
    """A line for the user where the steps are not whole periods."""
    every = spec.controller.every
    steps = spec.num_periods * every
    if steps == spec.steps:
        return []
    return [f"--steps {spec.steps} rounded down to {steps}: {spec.num_periods} whole periods of {every}"]


def plan(spec: ASRSpec, path: Path) -> list[str]:
    """What --dry-run prints: settings, folder and segments."""
    from escapevelocity.metric_learning.job import ASRJob
    from escapevelocity.runs import canonical_json

    job = ASRJob()
    first = spec.branch.checkpoint if spec.branch else 0
    return [
        canonical_json(spec, job.name).rstrip(),
        "",
        f"run directory  {path}",
        f"members        {len(spec.seeds)} (seeds {' '.join(map(str, spec.seeds))})",
        f"periods        {spec.num_periods} of {spec.controller.every} training steps per member",
        f"segments       {spec.num_segments}, each to a checkpoint:",
        *(
            f"  {k + 1:>3}  steps {job.step(spec, k) + 1:>9,} – {job.step(spec, k + 1):>9,}"
            for k in range(first, spec.num_segments)
        ),
    ]
