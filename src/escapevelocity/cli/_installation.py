"""What `ev doctor` looks at: each part of the installation, its state, and what to type where it is not well."""

import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

from escapevelocity.cli._probes import PROBES

State = Literal["ok", "missing", "broken"]
_PATIENCE = 180.0  # Seconds that a probe may take.
_REINSTALL = "pip install --force-reinstall {}"
_LEAST_MEMORY, _LEAST_DISK = (
    2.0,
    1.0,
)  # GiB: five seeds of Hopper peak below 1, and a study's records need room.


class Finding(NamedTuple):
    """One part of the installation."""

    part: str
    state: State
    says: str
    """What was found."""
    fix: str = ""
    """What to type, where something is to be done."""


class Extra(NamedTuple):
    """A package that not everybody needs."""

    package: str
    purpose: str
    install: str


_EXTRAS = (
    Extra("stable-baselines3", "health in its trainers, ev checkup", "pip install stable-baselines3"),
    Extra("ray", "studies on a cluster", "pip install 'escapevelocity[ray]'"),
    Extra("gymnax", "environments inside jit, MinAtar", "pip install 'escapevelocity[gymnax]'"),
    Extra("onnxruntime", "ev export to ONNX", "pip install 'escapevelocity[export]'"),
    Extra("tensorboardX", "--track tensorboard, TensorBoard logs", "pip install 'escapevelocity[track]'"),
    Extra("wandb", "--track wandb", "pip install 'escapevelocity[track]'"),
    Extra("pytorch-metric-learning", "the adaptive miner for it", "pip install pytorch-metric-learning"),
)
_TORCH = Extra("torch", "health in PyTorch, ev export", "pip install 'escapevelocity[torch]'")


def look(runs: Path) -> list[Finding]:
    """Look at everything; takes some seconds, since libraries are loaded and tried out.

    Args:
        runs: folder that runs would be written to.
    """
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        tried = {
            name: pool.submit(probe, name) for name in PROBES if name != "torch" or is_installed("torch")
        }
        found = [python(), packages()]
        found.append(tried_out("JAX", tried["jax"].result(), _REINSTALL.format("jax jaxlib")))
        if is_installed("envpool"):
            found.append(
                tried_out(
                    "EnvPool", tried["envpool"].result(), "ev train TASK --backend gymnasium does without"
                )
            )
        else:
            says = "there is none for this system; tasks run on Gymnasium, which is slower"
            found.append(Finding("EnvPool", "missing", says))
        found.append(tried_out("MuJoCo", tried["mujoco"].result(), _REINSTALL.format("mujoco gymnasium")))
        found.append(tried_out("Atari games", tried["games"].result(), _REINSTALL.format("ale-py")))
        if "torch" in tried:
            found.append(
                tried_out(
                    "torch", tried["torch"].result(), _REINSTALL.format("torch"), f"{_version('torch')}, "
                )
            )
        else:
            found.append(optional(_TORCH))
    found += [optional(extra) for extra in _EXTRAS]
    return [
        *found,
        browser(),
        *(writable(name, path) for name, path in _folders(runs)),
        machine(),
        disk(runs),
        data(),
    ]


def works(findings: list[Finding]) -> bool:
    """Whether training works: nothing that it stands on is broken. A broken optional part does not count."""
    optional_parts = {"EnvPool", "Atari games", "torch", "EV_DATA_DIR"}
    return not any(one.state == "broken" and one.part not in optional_parts for one in findings)


def python() -> Finding:
    """The interpreter."""
    return Finding("Python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def packages() -> Finding:
    """The packages that the library cannot do without, in versions that it was made for."""
    try:
        lines = requires("escapevelocity") or []
    except PackageNotFoundError:
        return Finding("packages", "broken", "escapevelocity is not installed", "pip install .")
    faults = []
    for name, least in _core(lines):
        if not is_installed(name):
            faults.append((name, f"{name} is missing"))
        elif least and _numbers(_version(name)) < _numbers(least):
            faults.append((name, f"{name} {_version(name)} is older than {least}"))
    if faults:
        names = " ".join(name for name, _ in faults)
        return Finding(
            "packages", "broken", "; ".join(says for _, says in faults), f"pip install --upgrade {names}"
        )
    shown = ", ".join(f"{name} {_version(name)}" for name in ("escapevelocity", "jax", "numpy", "gymnasium"))
    return Finding("packages", "ok", f"{shown} and {len(_core(lines)) - 3} others")


def _core(lines: list[str]) -> list[tuple[str, str]]:
    """Required packages with their least versions, from an installed package's metadata; extras are left out."""
    found = []
    for line in lines:
        requirement, _, condition = line.partition(";")
        if "extra ==" in condition or ("sys_platform == " in condition and sys.platform not in condition):
            continue
        name = re.match(r"[\w.-]+", requirement)
        least = re.search(r">=\s*([\d.]+)", requirement)
        if name:
            found.append((name[0], least[1] if least else ""))
    return found


def optional(extra: Extra) -> Finding:
    """A package that is there or not; it is not loaded."""
    if is_installed(extra.package):
        return Finding(extra.package, "ok", _version(extra.package))
    return Finding(extra.package, "missing", f"for {extra.purpose}", extra.install)


def probe(name: str) -> tuple[bool, str]:
    """Try a library out in a process of its own; whether it worked, and what it said."""
    command = [sys.executable, "-m", "escapevelocity.cli._probes", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        return False, f"no answer after {_PATIENCE:g} s"
    if done.returncode < 0:
        return False, f"ended by {signal.Signals(-done.returncode).name}"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or [
        "ended without a word"
    ]
    return done.returncode == 0, lines[-1][:200]


def tried_out(part: str, outcome: tuple[bool, str], fix: str, prefix: str = "") -> Finding:
    """The finding from a probe's outcome."""
    worked, says = outcome
    return Finding(part, "ok", prefix + says) if worked else Finding(part, "broken", says, fix)


def browser() -> Finding:
    """Chromium, which only the tests of pages need; looking at them takes any browser."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path:
        return Finding("Chromium", "ok", path)
    return Finding(
        "Chromium", "missing", "for the tests of reports and dashboard", "apt-get install chromium"
    )


def _folders(runs: Path) -> Iterator[tuple[str, Path]]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    yield "folder of runs", runs
    yield "cache", cache / "escapevelocity"
    yield "temporary files", Path(tempfile.gettempdir())


def writable(name: str, folder: Path) -> Finding:
    """Whether a file can be written to a folder, or to the nearest one above it that is there. Nothing is left."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            return Finding(name, "ok", f"{folder}: can be written")
    except OSError as error:
        fix = {"cache": "export XDG_CACHE_HOME=FOLDER", "temporary files": "export TMPDIR=FOLDER"}
        return Finding(
            name, "broken", f"{folder}: {error.strerror}", fix.get(name, "ev train TASK --out FOLDER")
        )


def machine() -> Finding:
    """Cores that this process may use, and memory."""
    import psutil

    cores = (
        len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    )
    free = psutil.virtual_memory().available / 2**30
    says = f"{cores} cores, {free:.1f} of {psutil.virtual_memory().total / 2**30:.1f} GiB of memory free"
    if free < _LEAST_MEMORY:
        return Finding(
            "machine", "ok", f"{says}; that is little", "ev train TASK --seeds 1, or end other programs"
        )
    return Finding("machine", "ok", says)


def disk(runs: Path) -> Finding:
    """Room where runs are written."""
    there = runs.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / 2**30
    if free < _LEAST_DISK:
        return Finding(
            "disk", "broken", f"{free:.2f} GiB free at {there}", "free space, or ev train TASK --out FOLDER"
        )
    return Finding("disk", "ok", f"{free:.0f} GiB free")


def data() -> Finding:
    """The folder of images for `ev asr` and `ev lab`."""
    folder = os.environ.get("EV_DATA_DIR")
    if not folder:
        says = "not set: images of ev asr are looked for in the cache; digits need none"
        return Finding("EV_DATA_DIR", "missing", says, "export EV_DATA_DIR=FOLDER")
    if not Path(folder).is_dir():
        return Finding(
            "EV_DATA_DIR", "broken", f"{folder} is not a folder", f"mkdir -p {shlex.quote(folder)}"
        )
    return Finding("EV_DATA_DIR", "ok", f"{folder}, {len(list(Path(folder).iterdir()))} entries")


def is_installed(package: str) -> bool:
    """Whether a package of that name is installed; it is not imported."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _version(package: str) -> str:
    return version(package) if is_installed(package) else "–"


def _numbers(text: str) -> tuple[int, ...]:
    """A version's leading numbers, which is all that a least version needs."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
