"""Options of XLA's compiler for programs with convolutions, which its defaults on CPUs make slow."""

from importlib.metadata import version
from typing import Any

import jax

# The option is experimental: its name and its kinds are known of these versions alone.
_KNOWN_JAXLIBS = ("0.10.2",)
_FUSIONS = ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("DOT", "ELTWISE", "REDUCE"))


def convolution_options() -> dict[str, Any]:
    """What `jax.jit` should compile programs with convolutions with.

    By default, XLA's compiler for CPUs hands single convolutions to a library that computes each in one thread and
    takes about twice as long as its own routine (jaxlib 0.10.2). This list of what goes to the library leaves them out.

    Returns:
        Options; empty on accelerators, and for versions of jaxlib that may not know them.
    """
    if jax.default_backend() != "cpu" or version("jaxlib") not in _KNOWN_JAXLIBS:
        return {}
    return {"xla_cpu_experimental_ynn_fusion_type": _FUSIONS}
