"""From the names of remedies to commands that are ready to type, made from a run's own settings."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import Run

_PAPERS_RATE = 3e-4  # Moalla et al. 2024, Table 3.


def commands(run: Run, remedies: Sequence[str]) -> list[str]:
    """Give a command for every remedy that this version has and that changes something; name the others.

    Args:
        run: the run that is ill.
        remedies: names, as a diagnosis gives them.
    """
    if run.job != "ppo":
        return list(remedies)
    from escapevelocity.ppo.saved import saved_spec

    spec = saved_spec(run.path)
    lines, later = [], []
    for remedy in remedies:
        options = _OPTIONS.get(remedy)
        if options is None:
            later.append(remedy)
        elif change := options(spec):
            lines.append(_command(run.path, spec, remedy, change))
    return lines + ([f"not in this version: {', '.join(later)}"] if later else [])


def _command(path: Path, spec: PPOSpec, remedy: str, change: str) -> str:
    name = f"{path.resolve().name}-{remedy}"
    given = ["ev", "train", spec.task, "--config", str(path), *change.split(), "--name", name]
    return shlex.join(given)


def _lower_learning_rate(spec: PPOSpec) -> str:
    rate = spec.optimizer.learning_rate
    return f"--learning-rate {_PAPERS_RATE if rate > _PAPERS_RATE else rate / 3:.2g}"


def _fewer_epochs(spec: PPOSpec) -> str:
    return f"--epochs {spec.optimizer.epochs // 2}" if spec.optimizer.epochs > 1 else ""


def _entropy_bonus(spec: PPOSpec) -> str:
    return f"--entropy-coef {max(0.01, 3 * spec.objective.entropy_coef):.2g}"


_OPTIONS: dict[str, Callable[[PPOSpec], str]] = {
    "lower-learning-rate": _lower_learning_rate,
    "higher-learning-rate": lambda spec: f"--learning-rate {3 * spec.optimizer.learning_rate:.2g}",
    "fewer-epochs": _fewer_epochs,
    "more-epochs": lambda spec: f"--epochs {2 * spec.optimizer.epochs}",
    "anneal": lambda spec: "--anneal linear" if spec.optimizer.anneal == "none" else "",
    "entropy-bonus": _entropy_bonus,
    "larger-batch": lambda spec: f"--rollout-length {2 * spec.environment.rollout_length}",
    "clip-gradients": lambda spec: "--max-grad-norm 0.5" if spec.optimizer.max_grad_norm > 0.5 else "",
    "clip-apart": lambda spec: "--clip-gradients apart" if spec.optimizer.clip_gradients == "jointly" else "",
    "measure-health": lambda spec: "--health-every 1" if spec.monitoring.health_every != 1 else "",
    "skip-nonfinite": lambda spec: "--on-nonfinite skip" if spec.monitoring.on_nonfinite == "stop" else "",
}
"""Options by remedy, empty where the run has it already. Remedies that are not here come with a later version."""
