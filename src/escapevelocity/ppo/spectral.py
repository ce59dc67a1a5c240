"""The largest singular value of a weight matrix, without a state to keep."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_SQUARINGS = 6
_TINY = 1e-30
_SMALLEST = 1e-6  # Its square, by which gradients are divided, must not be 0 in float32.


def largest_singular_value(weight: Float[Array, "outputs inputs"]) -> Float[Array, ""]:
    """σ = uᵀWv, differentiable in W with u and v held fixed (Miyato et al. 2018, eq. 9 to 11).

    Where the paper makes one step of power iteration per update from a vector that it keeps, W·Wᵀ is squared six times
    here, which is 64 steps at once: nothing needs to be stored, and the same weights give the same σ anywhere.
    A direction of equal start in every component could be orthogonal to u, so the iteration starts from the row of W·Wᵀ
    with the largest diagonal entry. What comes out is σ from below: 0.1 % less for random 64 × 64 matrices, 1 % for
    64 × 3,136. Smaller σ than 1e-6 count as 1e-6, so that layers that ReDo has emptied do no harm.
    """
    fixed = jax.lax.stop_gradient(weight)
    gram = fixed @ fixed.T if fixed.shape[0] <= fixed.shape[1] else fixed.T @ fixed
    power = gram / jnp.maximum(jnp.trace(gram), _TINY)
    start = power[jnp.argmax(jnp.diagonal(power))]
    for _ in range(_SQUARINGS):
        power = power @ power
        power = power / jnp.maximum(jnp.trace(power), _TINY)
    short = _unit(power @ start)
    if fixed.shape[0] <= fixed.shape[1]:
        left, right = short, _unit(fixed.T @ short)
    else:
        left, right = _unit(fixed @ short), short
    return jnp.maximum(left @ (weight @ right), _SMALLEST)


def _unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    return x / jnp.maximum(jnp.linalg.norm(x), _TINY)
