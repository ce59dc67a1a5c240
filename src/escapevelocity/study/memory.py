"""How much memory this process has needed, from the system's own books."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import psutil

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
