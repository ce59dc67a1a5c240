"""The same health and the same remedies inside other people's trainers: PyTorch loops and Stable-Baselines3.

The sampler of `ev asr` is here as `AdaptiveMiner`, a miner of pytorch-metric-learning. The other way round,
`export_policy` writes what was trained here for PyTorch and ONNX, and `load_policy` reads it.

Importing this package does not import PyTorch. A name is loaded when it is first asked for, and asking for it
without the package it needs says what to install.
"""

import importlib
from typing import TYPE_CHECKING, Any

from escapevelocity.errors import UserError

if TYPE_CHECKING:
    from escapevelocity.interop._asr_torch import measure_embeddings
    from escapevelocity.interop._columns import Snapshot, health_row
    from escapevelocity.interop._export import export_policy
    from escapevelocity.interop.asr import AdaptiveMiner
    from escapevelocity.interop.escort import EscortCategorical
    from escapevelocity.interop.exported import ExportedPolicy, load_policy
    from escapevelocity.interop.losses import EscortCrossEntropyLoss, pfo_loss
    from escapevelocity.interop.sb3 import PFOPPO, EscortPolicy, HealthCallback
    from escapevelocity.interop.torch import TorchMonitor

__all__ = [
    "PFOPPO",
    "AdaptiveMiner",
    "EscortCategorical",
    "EscortCrossEntropyLoss",
    "EscortPolicy",
    "ExportedPolicy",
    "HealthCallback",
    "Snapshot",
    "TorchMonitor",
    "export_policy",
    "health_row",
    "load_policy",
    "measure_embeddings",
    "pfo_loss",
]

_MODULES = {
    "PFOPPO": "sb3",
    "AdaptiveMiner": "asr",
    "EscortCategorical": "escort",
    "EscortCrossEntropyLoss": "losses",
    "EscortPolicy": "sb3",
    "ExportedPolicy": "exported",
    "HealthCallback": "sb3",
    "Snapshot": "_columns",
    "TorchMonitor": "torch",
    "export_policy": "_export",
    "health_row": "_columns",
    "load_policy": "exported",
    "measure_embeddings": "_asr_torch",
    "pfo_loss": "losses",
}

_INSTALL = {
    "torch": "pip install 'escapevelocity[torch]'",
    "pytorch_metric_learning": "pip install pytorch-metric-learning",
    "stable_baselines3": "pip install stable-baselines3",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        missing = str(error.name).split(".")[0]
        if missing not in _INSTALL:
            raise
        raise UserError(
            f"escapevelocity.interop.{name} needs {missing}, which is not installed: {_INSTALL[missing]}"
        ) from None


def __dir__() -> list[str]:
    return __all__
