"""escapevelocity: find out why policy optimisation stalls or collapses, and get it out."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from escapevelocity.ppo.agent import TrainedAgent as TrainedAgent
    from escapevelocity.ppo.agent import load as load
    from escapevelocity.ppo.config import PPOSpec as PPOSpec
    from escapevelocity.ppo.training import default_spec as default_spec
    from escapevelocity.ppo.training import resume_training as resume_training
    from escapevelocity.ppo.training import train as train
    from escapevelocity.runs import open_run as open_run

# Imported on first use: `ev --help` and `import escapevelocity` must not wait for JAX.
_HOMES = {
    "PPOSpec": "escapevelocity.ppo.config",
    "TrainedAgent": "escapevelocity.ppo.agent",
    "default_spec": "escapevelocity.ppo.training",
    "load": "escapevelocity.ppo.agent",
    "open_run": "escapevelocity.runs",
    "resume_training": "escapevelocity.ppo.training",
    "train": "escapevelocity.ppo.training",
}

__all__ = [
    "PPOSpec",
    "TrainedAgent",
    "__version__",
    "default_spec",
    "load",
    "open_run",
    "resume_training",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'escapevelocity' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
