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
_CACHE_LIMIT = 4 << 30  # bytes
_NO_LIMIT = -1  # JAX's default
_LIMIT_VARIABLE = "JAX_COMPILATION_CACHE_MAX_SIZE"


def cache_folder() -> Path:
    """Where compiled programs are kept between runs.

    Not `xla`, as before the cache had a limit: JAX cannot tell how old entries are that were written without one, and
    would then keep nothing.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "escapevelocity" / "xla-limited"


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
    - Compiled programs are cached on disk, unless the user has chosen a place already; at most 4 GiB of them, unless
      `JAX_COMPILATION_CACHE_MAX_SIZE` or JAX's configuration says otherwise.
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
            # With a limit JAX also locks the cache. Without, it writes entries in place, and another process, such as a
            # second run of a study, could read half of one.
            limit = jax.config.jax_compilation_cache_max_size  # pyright: ignore[reportAttributeAccessIssue]
            if limit == _NO_LIMIT and _LIMIT_VARIABLE not in os.environ:
                jax.config.update("jax_compilation_cache_max_size", _CACHE_LIMIT)
    if (
        jax.default_backend() != "cpu"
    ):  # Accelerators would round factors to 10 bits, ratios and divergences with them.
        jax.config.update("jax_default_matmul_precision", "float32")
    with threadpool_limits(1, user_api="blas"):
        yield
