"""Options of the compiler: known to this jaxlib, for known versions on the CPU alone, and without effect on values."""

import jax
import numpy as np

from escapevelocity.runs import compiler
from escapevelocity.runs.compiler import convolution_options


def test_the_options_are_known_to_this_jaxlib_and_keep_the_values(rng):
    image, kernel = rng.random((4, 20, 20, 8), np.float32), rng.random((3, 3, 8, 16), np.float32)

    def convolve(x, w):
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    plain, with_options = (
        jax.jit(convolve, compiler_options=options)(image, kernel)
        for options in (None, convolution_options())
    )
    # 72 products are summed in another order: a few of float32's units of 6e-8 on sums of about 18.
    np.testing.assert_allclose(plain, with_options, rtol=1e-5)


def test_there_are_options_for_known_versions_on_the_cpu_alone(monkeypatch):
    monkeypatch.setattr(compiler, "version", {"jaxlib": "0.10.2"}.__getitem__)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert list(convolution_options()) == ["xla_cpu_experimental_ynn_fusion_type"]
    monkeypatch.setattr(compiler, "version", {"jaxlib": "99.0"}.__getitem__)
    assert convolution_options() == {}
    monkeypatch.setattr(compiler, "version", {"jaxlib": "0.10.2"}.__getitem__)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert convolution_options() == {}
