"""A policy as an ONNX model: from what the environment gives to what it takes, in one graph."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from escapevelocity.ppo.export.description import (
    LEAK,
    LOG_STD_LIMIT,
    MIN_STD,
    NORM_EPSILON,
    SOFTPLUS_SHIFT,
    HeadDescription,
    Layer,
    ObservationDescription,
    PolicyDescription,
)

OPSET, IR_VERSION = 17, 8
"""Of ONNX 1.12 (2022), so that older runtimes read it; nothing newer is needed."""


class _Graph:
    """Nodes and constants in the order in which they are added; values are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: type = np.float32, name: str | None = None) -> str:
        from onnx import numpy_helper

        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        from onnx import helper

        name = name or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name


def onnx_model(description: PolicyDescription, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode a policy as ONNX.

    Inputs are `observation` (batch, …), raw, in the dtype that the description names, and where the policy sees the
    time `elapsed` (batch,) int64, steps since the start of the episode. Outputs are `action` as the environment takes
    it, (batch, size) float32 or (batch,) int64, and the parameters of its distribution: `mean` and `std` (batch, size)
    of the normal before it is squashed or clipped, or `probabilities` (batch, actions).

    Args:
        description: all but the weights.
        arrays: the weights by their PyTorch names.

    Returns:
        The file's content.
    """
    import onnx
    from onnx import helper

    graph = _Graph()
    x = _network_input(graph, description)
    for number, layer in enumerate(description.layers):
        own = {
            name: graph.constant(arrays[f"{number}.{name}"], name=f"{number}.{name}")
            for name in ("weight", "bias")
            if f"{number}.{name}" in arrays
        }
        x = _layer(graph, x, layer, **own)
    head = description.head
    (_discrete_head if head.is_discrete else _box_head)(graph, x, head)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "policy", _inputs(description.observation), _outputs(head), graph.constants
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="escapevelocity",
        doc_string=f"The most likely actions of a policy of {description.task}.",
    )
    told = ("task", "seed", "env_steps")
    helper.set_model_props(model, {name: str(getattr(description, name)) for name in told})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _inputs(observation: ObservationDescription) -> list[Any]:
    from onnx import TensorProto, helper

    kind = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
    values = [("observation", kind[observation.dtype], ["batch", *observation.shape])]
    if observation.time_limit is not None:
        values.append(("elapsed", TensorProto.INT64, ["batch"]))
    return [helper.make_tensor_value_info(*value) for value in values]


def _outputs(head: HeadDescription) -> list[Any]:
    from onnx import TensorProto, helper

    size = head.num_actions if head.is_discrete else len(head.low)
    values = [(name, TensorProto.FLOAT, ["batch", size]) for name in head.outputs]
    if head.is_discrete:
        values[0] = ("action", TensorProto.INT64, ["batch"])
    return [helper.make_tensor_value_info(*value) for value in values]


def _network_input(graph: _Graph, description: PolicyDescription) -> str:
    from onnx import TensorProto

    observation, x = description.observation, "observation"
    if observation.mean is not None and observation.std is not None:
        x = graph.add("Sub", x, graph.constant([observation.mean], np.float64))
        x = graph.add("Div", x, graph.constant([observation.std], np.float64))
    if observation.dtype != "float32":
        x = graph.add("Cast", x, to=TensorProto.FLOAT)
    if observation.dtype == "uint8":
        x = graph.add("Div", x, graph.constant(255.0))
    if description.sees_images:
        return graph.add("Transpose", x, perm=[0, 3, 1, 2])
    if len(observation.shape) > 1:
        return graph.add("Flatten", x, axis=1)
    if observation.time_limit is None:
        return x
    time = graph.add("Cast", "elapsed", to=TensorProto.DOUBLE)
    time = graph.add("Mul", time, graph.constant(2.0 / observation.time_limit, np.float64))
    time = graph.add("Cast", graph.add("Sub", time, graph.constant(1.0, np.float64)), to=TensorProto.FLOAT)
    column = graph.add("Unsqueeze", time, graph.constant([1], np.int64))
    return graph.add("Concat", x, column, axis=1)


def _layer(graph: _Graph, x: str, layer: Layer, weight: str = "", bias: str = "") -> str:
    if layer.kind == "Conv2d":
        return graph.add("Conv", x, weight, bias, strides=[layer.stride] * 2, kernel_shape=[layer.kernel] * 2)
    if layer.kind == "Linear":
        return graph.add("Gemm", x, weight, bias, transB=1)
    if layer.kind in ("LayerNorm", "GroupNorm"):
        return _layer_norm(graph, x, layer, weight, bias)
    return _ACTIVATIONS[layer.kind](graph, x)


def _layer_norm(graph: _Graph, x: str, layer: Layer, weight: str, bias: str) -> str:
    """Ba et al. 2016, eq. 4, over all axes but the first; scale and offset belong to axis 1."""
    axes = [1, 2, 3] if layer.kind == "GroupNorm" else [1]
    shape = graph.constant([1, layer.inputs, *[1] * (len(axes) - 1)], np.int64)
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes=axes))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=axes)
    std = graph.add("Sqrt", graph.add("Add", variance, graph.constant(NORM_EPSILON)))
    scaled = graph.add("Mul", graph.add("Div", centred, std), graph.add("Reshape", weight, shape))
    return graph.add("Add", scaled, graph.add("Reshape", bias, shape))


def _gelu(graph: _Graph, x: str) -> str:
    """x·(1 + erf(x/√2))/2."""
    erf = graph.add("Erf", graph.add("Mul", x, graph.constant(0.5**0.5)))
    share = graph.add("Mul", graph.add("Add", erf, graph.constant(1.0)), graph.constant(0.5))
    return graph.add("Mul", x, share)


def _crelu(graph: _Graph, x: str) -> str:
    negative = graph.add("Relu", graph.add("Neg", x))
    return graph.add("Concat", graph.add("Relu", x), negative, axis=1)


_ACTIVATIONS: dict[str, Callable[[_Graph, str], str]] = {
    "Flatten": lambda graph, x: graph.add("Flatten", x, axis=1),
    "Tanh": lambda graph, x: graph.add("Tanh", x),
    "ReLU": lambda graph, x: graph.add("Relu", x),
    "LeakyReLU": lambda graph, x: graph.add("LeakyRelu", x, alpha=LEAK),
    "GELU": _gelu,
    "CReLU": _crelu,
}


def _box_head(graph: _Graph, x: str, head: HeadDescription) -> None:
    size = len(head.low)
    if head.log_std:
        mean = graph.add("Identity", x, name="mean")
        std = np.exp(np.clip(head.log_std, -LOG_STD_LIMIT, LOG_STD_LIMIT))
        graph.add("Expand", graph.constant([std]), graph.add("Shape", mean), name="std")
    else:
        halves = [graph.constant(edge, np.int64) for edge in ([0], [size], [2 * size])]
        axis = graph.constant([1], np.int64)
        mean = graph.add("Slice", x, halves[0], halves[1], axis, name="mean")
        second = graph.add("Slice", x, halves[1], halves[2], axis)
        positive = graph.add("Softplus", graph.add("Add", second, graph.constant(SOFTPLUS_SHIFT)))
        graph.add("Add", positive, graph.constant(MIN_STD), name="std")
    low = np.array([-np.inf if bound is None else bound for bound in head.low])
    high = np.array([np.inf if bound is None else bound for bound in head.high])
    action = mean
    if head.kind == "tanh_normal":
        half_range = graph.constant([high / 2 - low / 2])
        action = graph.add("Mul", graph.add("Tanh", mean), half_range)
        action = graph.add("Add", action, graph.constant([low / 2 + high / 2]))
    action = graph.add("Max", action, graph.constant([low]))
    graph.add("Min", action, graph.constant([high]), name="action")


def _discrete_head(graph: _Graph, x: str, head: HeadDescription) -> None:
    if head.kind == "softmax":
        score = x
        graph.add("Softmax", x, axis=1, name="probabilities")
    else:
        score = graph.add("Abs", graph.add("Add", x, graph.constant(1.0)))
        _escort_probabilities(graph, score, head.p)
    first = graph.add("ArgMax", score, axis=1, keepdims=0)
    graph.add("Add", first, graph.constant(head.start, np.int64), name="action")


def _escort_probabilities(graph: _Graph, magnitudes: str, p: float) -> None:
    """|θ|^p / Σ|θ|^p, scaled by the largest |θ| so that no power overflows; uniform where θ = 0 throughout."""
    one = graph.constant(1.0)
    largest = graph.add("ReduceMax", magnitudes, axes=[1])
    is_positive = graph.add("Greater", largest, graph.constant(0.0))
    scaled = graph.add("Div", magnitudes, graph.add("Where", is_positive, largest, one))
    powers = graph.add("Where", is_positive, graph.add("Pow", scaled, graph.constant(p)), one)
    total = graph.add("ReduceSum", powers, graph.constant([1], np.int64))
    graph.add("Div", powers, total, name="probabilities")
