"""Every test runs with strict dtypes, no silent rank promotion, and warnings as errors (pyproject.toml)."""

import gc
import os
import shutil
import tempfile
from importlib.metadata import version

# One thread for BLAS, as in training (runs/process.py): two workers' pools on two cores spin against each other. A test
# that replays games against the emulator took 27 s of CPU so, and 1.3 s with one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # For libraries that are loaded from now on, and for processes.

# Compiling takes longer here than what it speeds up. Without LLVM's passes, without fusion through MLIR and with one
# piece per program it takes a fifth of the processor time (a small training: 16.5 s with all, 9.3 s without LLVM's
# passes, 3.0 s so). XLA's own passes stay. To test the code as users run it: XLA_FLAGS= make test
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    if version("jaxlib") == "0.10.2":  # A flag that jaxlib does not know ends the process.
        os.environ["XLA_FLAGS"] += (
            " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
        )

import jax
import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

# No test depends on how fast a machine is, nor on what else it does meanwhile.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
threadpool_limits(1, user_api="blas")  # For those that a plugin has loaded already.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Compiled programs go to a folder of these tests, not to the user's. What one test has compiled serves those after
    it, the other worker of pytest-xdist and the processes that tests start.
    """
    if not hasattr(
        config, "workerinput"
    ):  # The process that starts the workers, which inherit its environment.
        folder = tempfile.mkdtemp(prefix="escapevelocity-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["XDG_CACHE_HOME"] = folder
        # With a limit to the cache's size JAX locks it; without, it writes entries in place, and another process could
        # read half of one.
        os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(4 << 30)
    # Before the first program: JAX looks for its cache once. As runs/process.py has it, which respects what is set.
    jax.config.update(
        "jax_compilation_cache_dir",
        os.path.join(os.environ["XDG_CACHE_HOME"], "escapevelocity", "xla-limited"),
    )
    jax.config.update("jax_compilation_cache_max_size", int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"]))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    config.option.loadscopereorder = False  # pytest-xdist keeps the order of files that follows.


def pytest_collection_modifyitems(items):
    """Files with slow tests first: a long file that begins last leaves the other worker idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """What thousands of test items and their modules hold lives to the end: the garbage collector need not go through
    it again and again. Of three files about PPO's programs it took 7 % of the processor time, and 2 % so.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture
def rng():
    """A NumPy generator with a fixed seed, for tests that need any numbers rather than special ones."""
    import numpy as np

    return np.random.default_rng(20240508)
