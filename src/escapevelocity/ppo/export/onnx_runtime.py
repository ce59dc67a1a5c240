"""Running an exported ONNX file, to check it."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from escapevelocity.ppo.export.check import Policy
from escapevelocity.ppo.export.description import ONNX_FILE, read_description

_SEVERE = 3  # Of ONNX Runtime's log: errors; it warns of devices that a machine does not have.


def has_onnx() -> bool:
    """Whether ONNX files can be written here."""
    return find_spec("onnx") is not None


def onnx_policy(folder: Path) -> tuple[Policy, str]:
    """Load the ONNX file of an exported policy: in ONNX Runtime if that is installed, else in onnx's own evaluator.

    Args:
        folder: what `ev export` wrote.

    Returns:
        The policy, and what runs it.
    """
    dtype = read_description(folder).observation.dtype
    if find_spec("onnxruntime") is None:
        from onnx.reference import ReferenceEvaluator

        session: Any = ReferenceEvaluator(str(folder / ONNX_FILE))
        names, inputs, runtime = session.output_names, session.input_names, "onnx's reference evaluator"
    else:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SEVERE
        session = onnxruntime.InferenceSession(
            str(folder / ONNX_FILE), options, providers=["CPUExecutionProvider"]
        )
        names, inputs = (
            [value.name for value in values] for values in (session.get_outputs(), session.get_inputs())
        )
        runtime = f"ONNX Runtime {onnxruntime.__version__}"

    def policy(observations: np.ndarray, elapsed: np.ndarray) -> Mapping[str, np.ndarray]:
        feed = {"observation": observations.astype(dtype), "elapsed": elapsed.astype(np.int64)}
        outputs = session.run(names, {name: feed[name] for name in inputs})
        return dict(zip(names, outputs, strict=True))

    return policy, runtime
