"""How much memory there is, and how much this process has needed, from the system's own books."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory() -> int:
    """The peak resident memory of this process in bytes, since it began or since `reset_peak`.

    On Linux it is VmHWM: the ru_maxrss of a process that was forked begins with its parent's.
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak() -> None:
    """Let the peak begin at what is resident now. Only Linux can (proc(5), clear_refs); elsewhere it stays."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5", encoding="ascii")


def available_memory() -> int:
    """Memory in bytes that new work can have before the system swaps, or ends a process of its container."""
    available = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError, StopIteration):  # ValueError: no limit, "max".
        # The limit of a container (Linux, control groups version 2); what it caches of files it can give back.
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = int(next(line for line in lines if line.startswith("inactive_file ")).split()[1])
        available = min(available, max(0, limit - used + cached))
    return available
