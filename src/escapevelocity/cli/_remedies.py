"""From the names of remedies to commands that are ready to type, made from a run's own settings."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from escapevelocity.health.thresholds import Thresholds
from escapevelocity.metric_learning.config import ASRSpec
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.report.reproduce import remedy_options
from escapevelocity.runs import Run

_PAPERS_RATE = 3e-4  # Moalla et al. 2024, Table 3.
_ENOUGH = int(Thresholds().plateau_batches.value)
"""Batches from which a diagnosis says something of every run, also of one whose return is flat."""


def commands(
    run: Run, remedies: Sequence[str], onset: int | None = None, imports: Sequence[str] = ()
) -> list[str]:
    """Give the commands of `commands_by_remedy`, and name the remedies that this version does not have.

    Args:
        run: the run that is ill.
        remedies: names, as a diagnosis gives them.
        onset: step of the first sign, if there is one.
        imports: modules that its own remedies and environments come from.
    """
    known = {"ppo": _OPTIONS, "asr": _SAMPLER_OPTIONS}.get(run.job, remedies)
    later = [remedy for remedy in remedies if remedy not in known]
    lines = [line for _, line in commands_by_remedy(run, remedies, onset)]
    if imports and run.job in ("ppo", "asr"):
        lines = [shlex.join([*shlex.split(line), "--import", *imports]) for line in lines]
    return lines + ([f"not in this version: {', '.join(later)}"] if later else [])


def commands_by_remedy(run: Run, remedies: Sequence[str], onset: int | None = None) -> list[tuple[str, str]]:
    """Give a command for every remedy that this version has and that changes something.

    The last command tries the first of them that is new to the run from its last checkpoint before the onset.

    Args:
        run: the run that is ill.
        remedies: names, as a diagnosis gives them.
        onset: step of the first sign, if there is one.

    Returns:
        Remedies with their commands; with their names alone for a job whose settings are not known here.
    """
    if run.job == "asr":
        return _sampler_commands(run, remedies)
    if run.job != "ppo":
        return [(remedy, remedy) for remedy in remedies]
    from escapevelocity.ppo.saved import saved_spec

    spec = saved_spec(run.path)
    changes = {remedy: _OPTIONS[remedy](spec) for remedy in remedies if remedy in _OPTIONS}
    changes = {remedy: change for remedy, change in changes.items() if change}
    lines = [
        (remedy, _command(run.path, ["train", spec.task, "--config"], change, remedy))
        for remedy, change in changes.items()
    ]
    if onset is not None and any(0 < saved.step < onset for saved in run.checkpoints()):
        # A remedy proper, where there is one, before a mere setting.
        able = [remedy for remedy in changes if remedy not in _NOT_FOR_BRANCHES]
        for remedy in sorted(able, key=lambda r: "--remedy" not in changes[r])[:1]:
            change = f"--at onset {changes[remedy]}"
            lines.append((remedy, _command(run.path, ["branch"], change, f"branch-{remedy}")))
    return lines


def _sampler_commands(run: Run, remedies: Sequence[str]) -> list[tuple[str, str]]:
    """The same for a run of adaptive sampling."""
    from escapevelocity.metric_learning.training import saved_spec

    spec = saved_spec(run.path)
    changes = {remedy: _SAMPLER_OPTIONS[remedy](spec) for remedy in remedies if remedy in _SAMPLER_OPTIONS}
    return [
        (remedy, _command(run.path, ["asr", "train", "--config"], change, remedy))
        for remedy, change in changes.items()
        if change
    ]


def _command(path: Path, command: Sequence[str], change: str, remedy: str) -> str:
    name = f"{path.resolve().name}-{remedy}"
    return shlex.join(["ev", *command, str(path), *change.split(), "--name", name])


def _with(name: str, fields: str = "") -> Callable[[PPOSpec], str]:
    """Options that add a remedy to those that the run has; empty where it has this one."""

    def options(spec: PPOSpec) -> str:
        if any(remedy.name == name for remedy in spec.remedies):
            return ""
        names, given = [*(remedy.name for remedy in spec.remedies), name], remedy_options(spec.remedies)
        return " ".join(["--remedy", *names, *given[len(names) :], fields]).strip()

    return options


def _pfo(spec: PPOSpec) -> str:
    """The published coefficient for the penultimate layer (Moalla et al. 2024): 10 on MuJoCo with ReLU, else 1."""
    is_small_relu = spec.network.convolutions == "none" and spec.network.activation != "tanh"
    return _with("pfo", f"--pfo.coef {10 if is_small_relu else 1}")(spec)


def _escort(spec: PPOSpec) -> str:
    return _with("escort")(spec) if spec.network.head == "softmax" else ""


def _lower_learning_rate(spec: PPOSpec) -> str:
    rate = spec.optimizer.learning_rate
    return f"--learning-rate {_PAPERS_RATE if rate > _PAPERS_RATE else rate / 3:.2g}"


def _fewer_epochs(spec: PPOSpec) -> str:
    return f"--epochs {spec.optimizer.epochs // 2}" if spec.optimizer.epochs > 1 else ""


def _entropy_bonus(spec: PPOSpec) -> str:
    return f"--entropy-coef {max(0.01, 3 * spec.objective.entropy_coef):.2g}"


def _longer(batches: int, batch_steps: int) -> str:
    """Empty where the run is to be long enough, and is only not there yet."""
    return f"--steps {_ENOUGH * batch_steps}" if batches < _ENOUGH else ""


_NOT_FOR_BRANCHES = ("larger-batch", "measure-health", "longer-run", "escort")
"""A branch keeps the size of its parent's batches and its head; and seeing more is no remedy."""
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
    "measure-health": lambda spec: "--health-every 1" if spec.health_interval != 1 else "",
    "longer-run": lambda spec: _longer(spec.num_batches, spec.batch_steps),
    "pfo": _pfo,
    "kl-early-stop": _with("kl-early-stop"),
    "escort": _escort,
    "skip-nonfinite": lambda spec: "--on-nonfinite skip" if spec.monitoring.on_nonfinite == "stop" else "",
}
"""Options by remedy, empty where the run has it already. Remedies that are not here come with a later version."""

_SAMPLER_OPTIONS: dict[str, Callable[[ASRSpec], str]] = {
    "narrower-start": lambda spec: "--init narrow" if spec.sampler.init != "narrow" else "",
    "broader-start": lambda spec: "--init broad" if spec.sampler.init != "broad" else "",
    "curriculum": lambda spec: "--sampler curriculum --init narrow --then broad",
    "escort-head": lambda spec: "--head escort" if spec.controller.head == "softmax" else "",
    "reward-shaping": lambda spec: "--reward change" if spec.controller.reward == "sign" else "--reward sign",
    "larger-step-up": lambda spec: f"--step-up {spec.controller.step_up**2:.3g}",
    "lower-learning-rate": lambda spec: f"--learning-rate {spec.learner.learning_rate / 3:.2g}",
    "skip-nonfinite": lambda spec: "--on-nonfinite skip" if spec.on_nonfinite == "stop" else "",
    "longer-run": lambda spec: _longer(spec.num_periods, spec.controller.every),
}
"""The same for adaptive sampling."""
