"""Find a network's features and pre-activations in a recorded forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, float32, nn

from escapevelocity import health
from escapevelocity.errors import UserError
from escapevelocity.interop._columns import Trace, join_traces
from escapevelocity.interop._graph import LAYERS, Graph, by_row, rows_of, tensors


class Call(NamedTuple):
    """One run of a module that may be the head."""

    name: str
    features: Tensor
    """Its input."""
    outputs: list[Tensor]


@contextmanager
def recorded_calls(network: nn.Module) -> Iterator[list[Call]]:
    """Hook a network's possible heads, and remove the hooks afterwards: its Linear layers, or itself without any."""
    calls: list[Call] = []
    with ExitStack() as hooks:
        for name, module in _possible_heads(network).items():

            def hook(_: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
                inputs = list(tensors((args, kwargs)))
                if inputs:
                    calls.append(Call(name, inputs[0], list(tensors(output))))

            handle = module.register_forward_hook(hook, with_kwargs=True)
            hooks.callback(handle.remove)
        yield calls


def read_trace(
    field: str, network: nn.Module, calls: Sequence[Call], graph: Graph, activation: str | None
) -> Trace:
    """Return what the network's penultimate layer did, all runs of its head behind each other.

    Args:
        field: what the network is called in error messages.
        network: the module, as it was hooked.
        calls: runs of its possible heads, in order.
        graph: what was computed.
        activation: the user's word on what follows the penultimate layer.

    Raises:
        UserError: if no head ran, if several did on different features, or if no hidden layer feeds it.
    """
    if not calls:
        looked = ", ".join(_label(name, module) for name, module in _possible_heads(network).items())
        raise UserError(
            f"{field}: nothing to measure, its head never ran in this recording; looked for a call of {looked}"
            " (TorchScript and torch.compile hide theirs: measure the module they were made from)"
        )
    head = _find_head(field, calls, graph)
    own = [call for call in calls if call.name == head]
    hidden = any(node.function in LAYERS for call in own for node in graph.ancestors(call.features))
    if not hidden and {id(call.features) for call in calls} == {id(call.features) for call in own}:
        raise UserError(
            f"{field}: nothing to measure, it has no hidden layer; looked for a linear, convolutional or"
            f" recurrent layer before its head {_label(head, _possible_heads(network)[head])};"
            f" its layers: {_layer_names(network)}"
        )
    return join_traces([_read_call(call, graph, activation, hidden) for call in own])


def _possible_heads(network: nn.Module) -> dict[str, nn.Module]:
    every: dict[str, nn.Module] = dict(network.named_modules())
    return {name: module for name, module in every.items() if isinstance(module, nn.Linear)} or {"": network}


def _find_head(field: str, calls: Sequence[Call], graph: Graph) -> str:
    """The last Linear that ran, among those that feed no other one."""
    used = {id(node) for call in calls for node in graph.ancestors(call.features)}
    ends: dict[str, set[int]] = {}
    for call in calls:
        nodes = [graph.node(output) for output in call.outputs]
        if not any(id(node) in used for node in nodes if node is not None):
            ends.setdefault(call.name, set()).add(id(call.features))
    # A recurrent head feeds itself; of features from unknown code nothing more can be told.
    if not ends or graph.node(calls[-1].features) is None:
        return calls[-1].name
    if any(features != next(iter(ends.values())) for features in ends.values()):
        raise UserError(
            f"{field}: has several heads on different features, {', '.join(ends)}: give the one to measure,"
            f" such as TorchMonitor(model.{next(iter(ends))}, …, forward=model)"
        )
    return next(call.name for call in reversed(calls) if call.name in ends)


def _read_call(call: Call, graph: Graph, activation: str | None, hidden: bool) -> Trace:
    rows = rows_of(call.features)
    features = _to_numpy(call.features, rows)
    behind = [_to_numpy(x, rows) for x in graph.preactivations(call.features) if _fits(x, rows)]
    nearest, layers = graph.frontier(call.features)
    count = len(nearest) + len(layers)
    why = ""
    if not hidden:
        why = "its layers feed the head through TorchScript, torch.compile or custom code that hides them"
    elif count > 1:
        why = f"the features join {count} branches of the network"
    elif not nearest and activation is None:
        why = "no known activation between the last hidden layer and the features: name it, activation='relu'"
    elif nearest and not _fits(nearest[0].output, rows):
        why = f"the last activation has shape {tuple(nearest[0].output.shape)}, not one row per state"
    if why:
        named = None if activation is None else features
        return Trace(features, named, None, np.nan, activation, why)
    if activation is not None:
        inside = nearest[0].preactivations if nearest else layers[0].output
        outputs, name = features, activation
    else:
        inside, outputs, name = (
            nearest[0].preactivations,
            _to_numpy(nearest[0].output, rows),
            nearest[0].function,
        )
    preactivations = _to_numpy(inside, rows)
    norm_all = float(health.preactivation_norm(behind or [preactivations]))
    return Trace(features, outputs, preactivations, norm_all, name, "")


def _fits(tensor: Tensor, rows: int) -> bool:
    return rows == 0 or tensor.numel() % rows == 0


def _to_numpy(tensor: Any, rows: int) -> np.ndarray:
    """A copy on the host that shares nothing; half precision is raised to float32, which holds it exactly."""
    tensor = by_row(tensor.detach().to("cpu", copy=True), rows)
    return (tensor.to(float32) if tensor.dtype.itemsize < 4 else tensor).numpy()


def _label(name: str, module: nn.Module) -> str:
    return f"{name} ({type(module).__name__})" if name else type(module).__name__


def _layer_names(network: nn.Module) -> str:
    leaves = [_label(name, module) for name, module in network.named_modules() if not list(module.children())]
    return ", ".join(leaves[:20]) + (f" and {len(leaves) - 20} more" if len(leaves) > 20 else "")
