"""Every test runs with strict dtypes, no silent rank promotion, and warnings as errors (pyproject.toml)."""

import os

# One thread for BLAS, as in training (ppo/process.py): two workers' pools on two cores spin against each other. A test
# that replays games against the emulator took 27 s of CPU so, and 1.3 s with one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # For libraries that are loaded from now on, and for processes.

import jax
import pytest
from threadpoolctl import threadpool_limits

threadpool_limits(1, user_api="blas")  # For those that a plugin has loaded already.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng():
    """A NumPy generator with a fixed seed, for tests that need any numbers rather than special ones."""
    import numpy as np

    return np.random.default_rng(20240508)
