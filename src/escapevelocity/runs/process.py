"""Settings of the process that a trainer wants, made where it starts; they change its speed, not its results.

The device is JAX's choice (`JAX_PLATFORMS`); nothing here depends on it.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from threadpoolctl import threadpool_limits

_M_MMAP_THRESHOLD = -3  # from malloc.h
_MMAP_THRESHOLD = 1 << 20  # bytes


def cache_folder() -> Path:
    """Where compiled programs are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "escapevelocity" / "xla"


@contextlib.contextmanager
def trainer_process(give_memory_back: bool = True) -> Iterator[None]:
    """Prepare the process for a run.

    Args:
        give_memory_back: see the third point below; a job whose programs allocate large arrays in every step is better
            off without, as `metric_learning` and convolutions are (a game's update took 11.3 s with it, 9.9 s without).
            What one run has set stays for the process's later ones: glibc does not undo it.

    - Programs on the CPU are dispatched synchronously: the policy step waits for its result anyway, and the
      hand-over to another thread costs three times as much as the network (measured: 45 µs against 10 µs).
      This only works before JAX is first used in the process; later it is left as it is.
    - Compiled programs are cached on disk, unless the user has chosen a place already.
    - Arrays of 1 MiB and more go back to the system when they are freed. glibc would keep ever larger ones in the heap
      of each thread: ten seeds grew from 580 to 980 MiB in 32 batches, and stay at 545 MiB so.
    - BLAS uses one thread: the matrices are small, and the same number of threads gives the same bits everywhere.
    """
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    if give_memory_back:
        with contextlib.suppress(OSError, AttributeError):  # Only glibc has this call, and this habit.
            ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    if not jax.config.jax_compilation_cache_dir:  # pyright: ignore[reportAttributeAccessIssue]
        with contextlib.suppress(OSError):  # Without a writable home there is no cache, and training goes on.
            cache_folder().mkdir(parents=True, exist_ok=True)
            jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    if (
        jax.default_backend() != "cpu"
    ):  # Accelerators would round factors to 10 bits, ratios and divergences with them.
        jax.config.update("jax_default_matmul_precision", "float32")
    with threadpool_limits(1, user_api="blas"):
        yield
