"""Every test runs with strict dtypes, no silent rank promotion, and warnings as errors (pyproject.toml)."""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng():
    """A NumPy generator with a fixed seed, for tests that need any numbers rather than special ones."""
    import numpy as np

    return np.random.default_rng(20240508)
