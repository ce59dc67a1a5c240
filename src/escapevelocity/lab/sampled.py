"""The same methods with sampled actions: one action per state and step, its reward, and importance weights.

With exact gradients the natural and the normalised gradient are the fastest; with on-policy samples they can
commit to a wrong arm for ever (Mei et al. 2021b, arXiv 2110.15572). So measure failures, not only times.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from escapevelocity.errors import require
from escapevelocity.health.gravity import Integer, Number, python_number
from escapevelocity.lab.evaluation import Evaluation
from escapevelocity.lab.methods import Method
from escapevelocity.lab.problems import checked_starts
from escapevelocity.lab.simulate import evaluate, require_count, trajectory

_Z95 = 1.959963984540054


class Commitment(NamedTuple):
    """How many of a number of runs ended on a wrong action.

    Attributes:
        wrong: runs in which the best action's probability ended below the tolerance.
        runs: all runs.
        fraction: wrong / runs.
        low: lower end of the 95 % Wilson interval of the failure probability.
        high: its upper end.
    """

    wrong: int
    runs: int
    fraction: float
    low: float
    high: float


def sampled(
    method: Method, baseline: Literal["value"] | Number = "value", reward_noise: Number = 0.0
) -> Method:
    """Let a method see one on-policy action per state instead of the exact evaluation.

    An action a_t ~ π is drawn in every state, with return R = Q(s, a_t) + noise. The method is given
    Q̂(a) = b + 1{a = a_t}(R − b)/π(a), which has mean Q for any baseline b, and  = Q̂ − πᵀQ̂. For softmax that
    is REINFORCE, π· = (R − b)(e_{a_t} − π); for NPG the estimator of Mei et al. 2021b. Visitation stays exact.
    Updates linear in A (SPG, EPG, NPG, mirror descent, inverse-probability, Tsallis, alternate) are unbiased.

    Args:
        method: an exact method.
        baseline: "value" for the true V(s) = πᵀQ, or a number; 0 in Mei et al. 2021b.
        reward_noise: standard deviation ≥ 0 of normal noise on R.

    Raises:
        UserError: on another baseline or a negative noise.

    Example:
        >>> from escapevelocity.lab import npg
        >>> sampled(npg(0.4), baseline=0.0).name
        'NPG, sampled'
    """
    baseline, reward_noise = python_number(baseline), python_number(reward_noise)
    is_number = isinstance(baseline, int | float) and np.isfinite(baseline)
    require(baseline == "value" or bool(is_number), "baseline", baseline, '"value" or a finite number')
    valid = isinstance(reward_noise, int | float) and 0 <= reward_noise < np.inf
    require(bool(valid), "reward_noise", reward_noise, "a finite standard deviation ≥ 0")

    def sample(key: Array, at: Evaluation) -> Evaluation:
        action_key, noise_key = jax.random.split(key)
        gumbel = jax.random.gumbel(action_key, at.probs.shape, at.probs.dtype)
        action = jnp.argmax(jnp.log(at.probs) + gumbel, axis=0)
        taken = jax.nn.one_hot(action, len(at.probs), axis=0, dtype=at.probs.dtype)
        returns = jnp.sum(taken * at.action_values, axis=0, keepdims=True)
        if reward_noise > 0:
            returns += reward_noise * jax.random.normal(noise_key, returns.shape, returns.dtype)
        b = at.state_values[None] if baseline == "value" else baseline
        outcome = returns - b
        importance = taken / jnp.maximum(at.probs, 1e-300)
        return at._replace(
            outcome=outcome,
            importance=importance,
            advantage=importance * outcome - outcome,
            action_values=b + importance * outcome,
        )

    return method._replace(name=f"{method.name}, sampled", sample=sample)


def commitment(
    problem: Any,
    method: Method,
    start: Any,
    runs: Integer,
    steps: Integer,
    key: Any,
    tolerance: Number = 0.01,
) -> Commitment:
    """Run a sampled method many times from one start and count the runs that ended on a wrong action.

    Args:
        problem: a bandit without contexts.
        method: a sampled method.
        start: initial policy (K,).
        runs: independent repetitions.
        steps: updates per run.
        key: JAX PRNG key.
        tolerance: a run has failed when π(a*) < tolerance at its end; in (0, 1).

    Returns:
        The count and its 95 % Wilson interval.

    Raises:
        UserError: on a start off the simplex, counts below 1, or a method that does not sample.

    Example:
        >>> import jax
        >>> from escapevelocity.lab import Bandit, npg
        >>> method = sampled(npg(1.0), baseline=0.0)
        >>> outcome = commitment(Bandit([1.0, 0.9]), method, [0.5, 0.5], 1000, 50, jax.random.key(0))
        >>> 0.2 < outcome.low < outcome.high < 0.6
        True
    """
    require(method.sample is not None, "method", method.name, "a sampled method; wrap it in sampled(...)")
    require(len(problem.policy_shape) == 1, "problem", problem.policy_shape, "a bandit without contexts")
    runs, steps = require_count(runs, "runs"), require_count(steps, "steps")
    tolerance = python_number(tolerance)
    in_range = isinstance(tolerance, float) and 0 < tolerance < 1
    require(in_range, "tolerance", tolerance, "in (0, 1)")
    one = checked_starts(problem, np.asarray(start, dtype=np.float64)[..., None])
    last = trajectory(problem, method, np.tile(one, (1, runs)), [steps], key).probs[0]
    wrong = int((evaluate(problem, last).best_prob < tolerance).sum())
    return Commitment(wrong, runs, wrong / runs, *wilson_interval(wrong, runs))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), sound also for 0 and for all.

    Raises:
        UserError: without a trial, or with more successes than trials.

    Example:
        >>> low, high = wilson_interval(0, 100)
        >>> round(low, 4), round(high, 4)
        (0.0, 0.037)
    """
    require(trials >= 1, "trials", trials, "an integer ≥ 1")
    require(0 <= successes <= trials, "successes", successes, f"in 0..{trials} (trials)")
    share, z2 = successes / trials, _Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 / (1 + z2 / trials) * np.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    # None and all are exactly 0 and 1 in the formula, but not in its rounding.
    low = 0.0 if successes == 0 else float(centre - half)
    return low, 1.0 if successes == trials else float(centre + half)
