"""Writing a trained policy for use elsewhere, all of it or nothing."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from escapevelocity.errors import UserError, require
from escapevelocity.ppo.agent import TrainedAgent
from escapevelocity.ppo.export.check import Agreement, Policy, compare, reference
from escapevelocity.ppo.export.description import DESCRIPTION_FILE, ONNX_FILE, TORCH_FILE
from escapevelocity.ppo.export.onnx_model import onnx_model
from escapevelocity.ppo.export.onnx_runtime import has_onnx, onnx_policy
from escapevelocity.ppo.export.translate import PlainPolicy, plain_policy
from escapevelocity.runs.atomic import write_arrays, write_bytes, write_json

FORMATS = ("torch", "onnx")
INSTALL_ONNX = "pip install 'escapevelocity[export]'"
INSTALL_TORCH = "pip install 'escapevelocity[torch]'"


class ExportedFile(NamedTuple):
    """One format of an exported policy."""

    path: Path
    """The file."""
    runtime: str | None
    """What ran it to check it; None where that is not installed."""
    agreement: Agreement | None
    """How close it is to the agent; None where it could not be checked."""

    def __str__(self) -> str:
        """Its name and what the check said, in one line."""
        if self.agreement is None:
            return f"{self.path.name}: not checked, PyTorch is not installed ({INSTALL_TORCH})"
        return f"{self.path.name}: {self.agreement}, in {self.runtime}"


class Export(NamedTuple):
    """What `export_policy` wrote."""

    folder: Path
    """Where."""
    files: tuple[ExportedFile, ...]
    """The formats, beside `policy.json`."""
    left_out: str | None
    """A format that was not written, and what to install for it."""


def _chosen(to: str | os.PathLike[str], formats: Sequence[str] | None) -> tuple[str, ...]:
    """The formats that will be written, checked before any work is done."""
    require(not os.path.lexists(to), "to", os.fspath(to), "a folder that does not exist yet")
    if formats is None:
        return FORMATS if has_onnx() else ("torch",)
    for name in formats:
        require(name in FORMATS, "format", name, f"one of {', '.join(FORMATS)}")
    require(len(formats) > 0, "format", "", f"one or more of {', '.join(FORMATS)}")
    if "onnx" in formats and not has_onnx():
        raise UserError(f"format = 'onnx': onnx is not installed; {INSTALL_ONNX}")
    return tuple(name for name in FORMATS if name in formats)


def export_policy(
    agent: TrainedAgent,
    to: str | os.PathLike[str],
    formats: Sequence[str] | None = None,
) -> Export:
    """Write a trained agent's policy as PyTorch's safetensors and as ONNX, each checked to act as the agent does.

    The folder gets `policy.json`, which describes the policy, and for each format `policy.safetensors` (the state_dict
    of an ordinary `nn.Sequential`; `load_policy` reads both) or `policy.onnx` (from the environment's observation to
    its action, all in one graph). Every file is read back and shown 1,000 observations; the folder appears only when
    all is well.

    Args:
        agent: from `escapevelocity.load`.
        to: the folder to make.
        formats: "torch", "onnx" or both, the default. Without the package onnx the default is "torch", which can be
            written even where PyTorch is missing; it is then not checked.

    Raises:
        UserError: the folder exists or cannot be made, an unknown format, or ONNX is asked for and not installed.
        MismatchError: a file does not give the agent's actions; nothing is left.
    """
    chosen, folder = _chosen(to, formats), Path(to)
    policy = plain_policy(agent)
    with _appearing(folder) as partial:
        _write(policy, partial, chosen)
        expected = reference(agent)
        files = []
        for name in chosen:
            path, (run, runtime) = partial / _FILES[name], _load(name, partial)
            found = None if run is None else compare(agent, expected, run, path.name)
            files.append(ExportedFile(folder / path.name, runtime, found))
    left_out = None if formats is not None or "onnx" in chosen else f"policy.onnx needs onnx: {INSTALL_ONNX}"
    return Export(folder, tuple(files), left_out)


@contextlib.contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes its name when all went well and is removed otherwise."""
    # Not *.tmp: inside a run these are files, which the engine clears away.
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        with _told(folder):
            partial.mkdir(parents=True)
        yield partial
        with _told(folder):
            os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"to = {os.fspath(folder)!r}: cannot be made: {error.strerror}; choose another --to"
        ) from error


_FILES = {"torch": TORCH_FILE, "onnx": ONNX_FILE}


def _write(policy: PlainPolicy, folder: Path, formats: Sequence[str]) -> None:
    write_json(folder / DESCRIPTION_FILE, policy.description.to_json())
    if "torch" in formats:
        write_arrays(folder / TORCH_FILE, policy.arrays)
    if "onnx" in formats:
        write_bytes(folder / ONNX_FILE, onnx_model(policy.description, policy.arrays))


def _load(name: str, folder: Path) -> tuple[Policy | None, str | None]:
    """The policy as another program would run it, and what runs it."""
    if name == "onnx":
        return onnx_policy(folder)
    if find_spec("torch") is None:
        return None, None
    import torch

    from escapevelocity.interop.exported import load_policy

    loaded = load_policy(folder)

    def run(observations, elapsed):
        with torch.no_grad():
            outputs = loaded(torch.as_tensor(observations), torch.as_tensor(elapsed))
        return {key: value.numpy() for key, value in outputs.items()}

    return run, f"PyTorch {torch.__version__}"
