"""What a remedy is called in the trainer whose log was read."""

from collections.abc import Sequence

_NAMES: dict[str, tuple[str, str, str]] = {
    "lower-learning-rate": ("learning_rate", "--learning-rate", "lr"),
    "higher-learning-rate": ("learning_rate", "--learning-rate", "lr"),
    "fewer-epochs": ("n_epochs", "--update-epochs", "num_epochs"),
    "more-epochs": ("n_epochs", "--update-epochs", "num_epochs"),
    "anneal": ("learning_rate as a function of the remaining progress", "--anneal-lr", "lr as a schedule"),
    "entropy-bonus": ("ent_coef", "--ent-coef", "entropy_coeff"),
    "larger-batch": ("n_steps", "--num-steps", "train_batch_size_per_learner"),
    "clip-gradients": ("max_grad_norm", "--max-grad-norm", "grad_clip"),
    "kl-early-stop": ("target_kl", "--target-kl", ""),
    "pfo": ("escapevelocity.interop.PFOPPO", "escapevelocity.interop.pfo_loss", ""),
    "escort": ("escapevelocity.interop.EscortPolicy", "escapevelocity.interop.EscortCategorical", ""),
    "measure-health": ("escapevelocity.interop.HealthCallback", "escapevelocity.interop.TorchMonitor", ""),
    "longer-run": ("total_timesteps", "--total-timesteps", ""),
    "natural-gradient": ("sb3_contrib.TRPO, in the place of PPO", "", ""),
}
"""Remedy -> setting of Stable-Baselines3, of CleanRL (or any PyTorch loop), of RLlib; "" where it has none.

Not here, and so not offered: `clip-apart` and `skip-nonfinite`, for which none of the three has a setting."""


def advice(remedies: Sequence[str]) -> list[str]:
    """Say for every remedy what it is called elsewhere; those without a counterpart there are left out.

    Example:
        >>> advice(["fewer-epochs", "clip-apart"])
        ['fewer-epochs: n_epochs (Stable-Baselines3), --update-epochs (CleanRL), num_epochs (RLlib)']
    """
    return [_line(remedy) for remedy in remedies if remedy in _NAMES]


def _line(remedy: str) -> str:
    trainers = ("Stable-Baselines3", "CleanRL", "RLlib")
    known = zip(_NAMES[remedy], trainers, strict=True)
    return f"{remedy}: " + ", ".join(f"{name} ({trainer})" for name, trainer in known if name)
