"""Many runs at once, each on a bandit of its own, watched while they go."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from escapevelocity.lab import Method
from escapevelocity.lab._blocks import COMPILER_OPTIONS, over_blocks
from escapevelocity.lab._float64 import in_float64
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.problems import evaluate_rewards
from escapevelocity.lab.simulate import advance, evaluate_state


class Observer(NamedTuple):
    """What is noted about each run; whatever it keeps has the runs on the last axis.

    Attributes:
        first: evaluation of the starts -> the notes before the first policy is seen.
        see: (notes, number of updates so far, exact evaluation, sign flips so far) -> notes.
        finished: notes -> True where a run need not go on, (B,).
    """

    first: Callable[[Evaluation], Any]
    see: Callable[[Any, Array, Evaluation, Array], Any]
    finished: Callable[[Any], Array]


class OwnBandits(NamedTuple):
    """A `Problem`: every run has its own rewards (K, B)."""

    rewards: Array

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """(K,)."""
        return (len(self.rewards),)

    def evaluate(self, probs: Array, step: Any = 0, bonus: Array | None = None) -> Evaluation:
        """Evaluate policies (K, B) exactly; `step` is ignored."""
        del step
        return evaluate_rewards(probs, self.rewards, None, bonus)


@in_float64
def follow(
    method: Method,
    rewards: Float[np.ndarray, "actions runs"],
    starts: Float[np.ndarray, "actions runs"],
    observer: Observer,
    max_steps: int,
    key: Any = None,
) -> Any:
    """Run `method` on every bandit from its start and return the observer's notes as NumPy arrays.

    Args:
        method: an update rule; its rate may be one per run.
        rewards: r(a) of each run's bandit.
        starts: initial policies.
        observer: sees the policies after 0, 1, …, `max_steps` updates; runs that it calls finished may go on.
        max_steps: most updates.
        key: JAX PRNG key, for sampled methods.
    """
    key = jax.random.key(0) if key is None else key
    return _follow(method, observer, jnp.asarray(rewards), jnp.asarray(starts), max_steps, key)


@partial(jax.jit, static_argnames=("method", "observer"), compiler_options=COMPILER_OPTIONS)
def _follow(
    method: Method, observer: Observer, rewards: Array, starts: Array, max_steps: Any, key: Array
) -> Any:
    def run(block: tuple[Any, Array], key: Array) -> Any:
        state, rewards = block
        problem = OwnBandits(rewards)

        def going(carry: tuple) -> Array:
            _, step, notes = carry
            return (step <= max_steps) & ~jnp.all(observer.finished(notes))

        def body(carry: tuple) -> tuple:
            state, step, notes = carry
            true, at = evaluate_state(problem, method, state, step)
            flips = jnp.zeros(rewards.shape[-1], jnp.int64)
            flips = flips if method.sign_flips is None else method.sign_flips(state)
            notes = observer.see(notes, step, true, flips)
            return advance(method, state, at, step, key), step + 1, notes

        notes = observer.first(problem.evaluate(method.policy(state)))
        return jax.lax.while_loop(going, body, (state, jnp.zeros((), jnp.int64), notes))[2]

    return over_blocks(run, (method.init(starts), rewards), key)
