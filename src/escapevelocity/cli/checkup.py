"""`ev checkup`: a saved Stable-Baselines3 model, looked at after the fact."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse
from escapevelocity.errors import UserError
from escapevelocity.imports import import_modules

_INSTALL = {
    "torch": "pip install 'escapevelocity[torch]'",
    "stable_baselines3": "pip install stable-baselines3",
}


@dataclasses.dataclass(frozen=True)
class Checkup:
    """Load a PPO or A2C of Stable-Baselines3, let it act, and report the health of its networks at rest.

    The file is read as data: nothing that is pickled in it is opened, unless --trust is given. The exit code is 0
    whatever is found.
    """

    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL.zip")]
    """The file that `model.save` wrote."""
    env: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(required)")] = None
    """Id of the environment that it was trained on."""
    steps: int = 4096
    """Environment steps to let it act, and states to measure on."""
    seed: int = 0
    """Seed of the environment, of sampled actions and of the fresh network for comparison."""
    stochastic: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample the actions, as in training, rather than take the most likely ones."""
    activation: str | None = None
    """Activation of the hidden layers, such as ReLU, where the file names none that is known."""
    vec_normalize: Path | None = None
    """The statistics of a VecNormalize that the model was trained in; a pickle, so only with --trust."""
    raw_observations: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on without those statistics: for a VecNormalize that left observations alone."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Load the file as PPO.load does, which runs whatever code it holds; for policies of your own."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print JSON."""
    import_modules: Annotated[tuple[str, ...], tyro.conf.arg(name="import")] = ()
    """Modules to import first: those that register your own environments, from the current folder or installed."""


def main(argv: Sequence[str]) -> int:
    """Run `ev checkup`; returns the exit code."""
    command = parse(Checkup, argv, "ev checkup")
    if command.env is None:
        accepted = "the id of the environment that the model was trained on, as in --env Hopper-v4"
        raise UserError(f"env = None: must be {accepted}")
    import_modules(command.import_modules)
    try:
        from escapevelocity.interop._checkup_text import checkup_text
        from escapevelocity.interop.checkup import checkup
    except ModuleNotFoundError as error:
        if error.name not in _INSTALL:
            raise
        raise UserError(
            f"ev checkup needs {error.name}, which is not installed: {_INSTALL[error.name]}"
        ) from None
    found = checkup(
        command.model,
        command.env,
        steps=command.steps,
        seed=command.seed,
        stochastic=command.stochastic,
        activation=command.activation,
        vec_normalize=command.vec_normalize,
        raw_observations=command.raw_observations,
        trust=command.trust,
    )
    if command.json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(checkup_text(found))
    return 0
