"""Files and folders that the system does not let this process read, also where the tests run as root."""

import contextlib
import ctypes
import os

import pytest

_VERSION_3, _DAC = 0x20080522, 0b110
"""Of linux/capability.h: CAP_DAC_OVERRIDE is bit 1, CAP_DAC_READ_SEARCH bit 2."""


@contextlib.contextmanager
def locked(*paths, mode=0):
    """Take the permissions of `paths` away, and from root what lets it read them all the same."""
    modes = {path: path.stat().st_mode & 0o7777 for path in paths}
    with _as_anybody():
        for path in reversed(modes):  # What is deeper first.
            path.chmod(mode)
        try:
            _require_locked(paths[0])
            yield
        finally:
            for path, old in modes.items():
                path.chmod(old)


def _require_locked(path):
    with contextlib.suppress(PermissionError):
        if path.is_dir():
            os.listdir(path)
            os.stat(f"{path}/.")
        else:
            path.read_bytes()
        pytest.skip("this system lets everybody read")


@contextlib.contextmanager
def _as_anybody():
    """Without root's capabilities (of this thread; they come back at the end)."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, old, new = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, old) == 0
    new[:] = old[:]
    new[0] &= ~_DAC  # Effective; what is permitted stays, so that it can be taken again.
    assert libc.capset(header, new) == 0
    try:
        yield
    finally:
        assert libc.capset(header, old) == 0
