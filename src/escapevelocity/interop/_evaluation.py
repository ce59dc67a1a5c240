"""Run someone else's networks without leaving a trace in them."""

import functools
import inspect
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook


@contextmanager
def evaluation_mode(networks: Iterable[nn.Module], forward: Any = None) -> Iterator[None]:
    """Dropout off, batch statistics untouched, and every draw of random numbers undone afterwards.

    Nobody says which modules a function runs: those that it names are found in it, the others when they are called.

    Args:
        networks: modules that are known to run.
        forward: what runs them, of which the modules that it holds are taken too.
    """
    roots = [*networks, *_modules_of(forward)]
    devices = {p.device for root in roots for p in root.parameters() if p.device.type == "cuda"}
    kept = _Kept()
    # Compiled code would be compiled anew for the hooks, and fails at it; measured, it runs as it was written.
    with torch.random.fork_rng(sorted(device.index for device in devices)), _eagerly():
        hook = register_module_forward_pre_hook(lambda module, _: kept.take(module))
        try:
            for root in roots:
                kept.take(root)
            yield
        finally:
            hook.remove()
            kept.put_back()


@contextmanager
def _eagerly() -> Iterator[None]:
    with ExitStack() as stack:
        if hasattr(torch.compiler, "set_stance"):  # Since PyTorch 2.6.
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            # It warns of our own hook, which such a module calls twice; taking it twice changes nothing.
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global hooks")
        yield


class _Kept:
    """Modules in evaluation mode, with what they were before."""

    def __init__(self) -> None:
        self._training: dict[nn.Module, bool] = {}
        self._buffers: list[tuple[nn.Module, str, Tensor, Tensor]] = []

    def take(self, root: nn.Module) -> None:
        """Remember a module and those inside it, once, and switch them to evaluation."""
        if root in self._training:
            return
        for module in root.modules():
            if module not in self._training:
                self._training[module] = module.training
                module.training = False
                # A layer of one's own may count its states in any mode, as a running normalisation does.
                self._buffers += [
                    (module, name, x, x.detach().clone())
                    for name, x in module._buffers.items()
                    if x is not None
                ]

    def put_back(self) -> None:
        """Give every module its mode and its buffers back."""
        for module, training in self._training.items():
            module.training = training
        for module, name, buffer, value in self._buffers:
            if module._buffers.get(name) is not buffer:
                module._buffers[name] = buffer
            # Writing raises a tensor's version, which breaks a backward pass that waits for it: only where needed.
            if not torch.equal(buffer, value):
                with torch.no_grad():
                    buffer.copy_(value)


def _modules_of(forward: Any) -> list[nn.Module]:
    """Modules that a callable is, belongs to, closes over, names or has been given."""
    if isinstance(forward, functools.partial):
        held = [forward.func, *forward.args, *forward.keywords.values()]
        return [module for one in held for module in _modules_of(one)]
    candidates = [forward, getattr(forward, "__self__", None)]
    try:
        named = inspect.getclosurevars(forward)
        candidates += [*named.nonlocals.values(), *named.globals.values()]
    except (
        TypeError,
        ValueError,
    ):  # No function that is written in Python, or one with a name not yet bound.
        pass
    return [one for one in candidates if isinstance(one, nn.Module)]
