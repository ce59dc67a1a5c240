"""Which tensors of a forward pass came from which, and what went into its activations.

Module hooks do not see `F.relu(x)` or `x.tanh()`. A `TorchFunctionMode` sees every torch function that Python
calls, those inside modules included, so that a functional activation is found like any other. It does not see
into TorchScript, `torch.compile` or C++ extensions.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode

# fmt: off
ACTIVATIONS = frozenset((
    "relu", "gelu", "tanh", "leaky_relu", "elu", "selu", "celu", "silu", "mish", "sigmoid", "softplus",
    "hardtanh", "hardswish", "hardsigmoid", "relu6", "prelu", "rrelu", "softsign", "logsigmoid", "glu",
))
# fmt: on
"""Names of the torch functions that count as activations (`nn.ReLU6` calls hardtanh)."""

# fmt: off
LAYERS = frozenset((
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d",
    "conv_transpose3d", "embedding", "lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell",
    "rnn_tanh_cell", "rnn_relu_cell", "multi_head_attention_forward",
))
# fmt: on
"""Names of the torch functions that count as layers."""


class Node:
    """One result of a torch function.

    Attributes:
        function: the function's name, without the trailing underscore of its in-place form.
        parents: the results that it was computed from; parameters and the batch itself have no node.
        output: the result.
        preactivations: the input, if the function is an activation.
        order: how many results there were before it.
    """

    __slots__ = ("function", "order", "output", "parents", "preactivations")

    def __init__(
        self,
        function: str,
        parents: tuple["Node", ...],
        output: Tensor,
        preactivations: Tensor | None,
        order: int,
    ) -> None:
        self.function = function
        self.parents = parents
        self.output = output
        self.preactivations = preactivations
        self.order = order


class Frontier(NamedTuple):
    """The results that a tensor was last made of."""

    activations: list[Node]
    layers: list[Node]
    """Layers from which the tensor follows without any activation in between."""


class Graph(TorchFunctionMode):
    """A context that records what is computed inside it; the tensors live as long as the graph does."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes: dict[int, Node] = {}
        self._count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a torch function and remember its results."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        function = name.rstrip("_")
        inputs = list(tensors((args, kwargs)))
        parents = tuple(self._nodes[id(x)] for x in inputs if id(x) in self._nodes)
        preactivations = inputs[0] if function in ACTIVATIONS and inputs else None
        in_place = name.endswith("_") or any(x is True for x in (*args, *kwargs.values()))
        if preactivations is not None and in_place:
            preactivations = preactivations.clone()  # About to be overwritten.
        if in_place:
            for node in parents:
                if node.function in LAYERS:
                    # As well: an activation that is not known may be named.
                    node.output = node.output.clone()
        result = func(*args, **kwargs)
        if parents or function in LAYERS:
            for output in tensors(result):
                self._nodes[id(output)] = Node(function, parents, output, preactivations, self._count)
                self._count += 1
        return result

    def node(self, tensor: Tensor) -> Node | None:
        """The node of a tensor, None if it was not computed from a layer inside this context."""
        return self._nodes.get(id(tensor))

    def ancestors(self, tensor: Tensor) -> list[Node]:
        """Everything that a tensor was computed from, itself first; [] if it is not known."""
        found: dict[int, Node] = {}
        pending = [node for node in (self.node(tensor),) if node is not None]
        while pending:
            node = pending.pop()
            if id(node) not in found:
                found[id(node)] = node
                pending.extend(node.parents)
        return list(found.values())

    def frontier(self, tensor: Tensor) -> Frontier:
        """The nearest activations and layers that a tensor was computed from, on every path back."""
        found, seen = Frontier([], []), set()
        pending = [node for node in (self.node(tensor),) if node is not None]
        while pending:
            node = pending.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if node.preactivations is not None:
                found.activations.append(node)
            elif node.function in LAYERS:
                found.layers.append(node)
            else:
                pending.extend(node.parents)
        return found

    def preactivations(self, tensor: Tensor) -> list[Tensor]:
        """Inputs of all activations behind a tensor, in the order in which they ran; graphs are kept."""
        behind = sorted(self.ancestors(tensor), key=lambda node: node.order)
        return [node.preactivations for node in behind if node.preactivations is not None]


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in a value and in the tuples, lists and mappings that it holds, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors(part)


def rows_of(features: Tensor) -> int:
    """How many states the features (..., D) describe; 1 for a single one without a batch axis."""
    return math.prod(features.shape[:-1])


def by_row(tensor: Tensor, rows: int) -> Tensor:
    """One row per state, whatever axes (channels, height, width) a state's entries had: (rows, D)."""
    return tensor.reshape(rows, -1) if rows else tensor.new_empty(0, tensor.shape[-1])
