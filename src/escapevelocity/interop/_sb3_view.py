"""What a Stable-Baselines3 policy does on a whole rollout, seen from the outside."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from escapevelocity import health
from escapevelocity.interop._columns import Snapshot, join_snapshots
from escapevelocity.interop.torch import TorchMonitor

_STATES_AT_ONCE = 512
"""All pre-activations of one Atari frame are 21,632 numbers: a whole batch of them would not fit everywhere."""


class Batch(NamedTuple):
    """A rollout, flattened over time and environments."""

    observations: Any
    """(samples, …) or a mapping of such tensors, as the policy takes them."""
    actions: Tensor
    log_probs: np.ndarray
    """log π_old(a|s), as the rollout stored it (samples,)."""
    advantages: np.ndarray


class View(NamedTuple):
    """What the policy does on a batch."""

    networks: Snapshot
    values: np.ndarray
    log_probs: np.ndarray
    entropy: float
    """Mean over states, in nats; where there is no closed form, of −log π(a|s)."""
    distributions: list[list[Distribution]]
    """Base distributions of the actions, per part of the batch; several for MultiDiscrete actions."""


def rollout_batch(model: OnPolicyAlgorithm) -> Batch:
    """Copy the rollout out of the buffer, before training shuffles it and the next rollout overwrites it."""
    buffer = model.rollout_buffer

    def flat(array: np.ndarray) -> Tensor:
        return buffer.to_torch(buffer.swap_and_flatten(array))

    stored = buffer.observations
    # As in `train`: Discrete actions are whole numbers without an axis of their own, all others are float32.
    actions = flat(buffer.actions).to(torch.float32)
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    return Batch(
        {key: flat(x) for key, x in stored.items()} if isinstance(stored, Mapping) else flat(stored),
        actions,
        flat(buffer.log_probs).flatten().cpu().numpy(),
        flat(buffer.advantages).flatten().cpu().numpy(),
    )


def view(model: OnPolicyAlgorithm, monitor: TorchMonitor, batch: Batch) -> View:
    """Run the policy over a batch in evaluation mode, as in a rollout, without gradients or random numbers."""
    policy = model.policy
    was_training = policy.training
    policy.set_training_mode(False)
    parts: list[View] = []
    try:
        with torch.no_grad(), _numbers_of_any_kind():
            for start in range(0, len(batch.actions), _STATES_AT_ONCE):
                rows = slice(start, start + _STATES_AT_ONCE)
                with monitor.recording() as networks:
                    values, log_prob, entropy = policy.evaluate_actions(
                        _rows(batch.observations, rows), batch.actions[rows]
                    )
                entropies = -log_prob if entropy is None else entropy
                found: Any = policy.action_dist.distribution
                parts.append(
                    View(
                        networks,
                        values.flatten().cpu().numpy(),
                        log_prob.flatten().cpu().numpy(),
                        float(entropies.sum()),
                        [found if isinstance(found, list) else [found]],
                    )
                )
    finally:
        policy.set_training_mode(was_training)
    return View(
        join_snapshots([part.networks for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.log_probs for part in parts]),
        sum(part.entropy for part in parts) / len(batch.actions),
        [part.distributions[0] for part in parts],
    )


def policy_measurements(
    before: View, after: View, batch: Batch, clip_epsilon: float, centred: bool, continuous: bool
) -> dict[str, health.Measured]:
    """Measure what the update did to the policy and the values, by the prefix of the columns' names.

    Args:
        before: the policy of the rollout.
        after: the policy after the update.
        batch: the rollout.
        clip_epsilon: ε of the ratios.
        centred: whether the objective subtracts the mean of the advantages; the sign that clipping depends on.
        continuous: whether actions are continuous.
    """
    advantages = batch.advantages - batch.advantages.mean() if centred else batch.advantages
    log_ratio = after.log_probs.astype(np.float64) - batch.log_probs.astype(np.float64)
    trust = health.trust_region(log_ratio, advantages, clip_epsilon, continuous)
    policy = {
        "entropy": before.entropy,
        "entropy_base": np.mean(_per_state(before, lambda one: one.entropy())),
        "variance": health.policy_variance(_parameters(before)),
        "variance_after": health.policy_variance(_parameters(after)),
    }
    value = {"std": health.value_std(before.values), "std_after": health.value_std(after.values)}
    # The entropies of one state are defined; where they are not, its numbers are not finite.
    spread = ("variance", "variance_after", "std", "std_after")
    why = dict.fromkeys(map(str, spread), "one state has no spread") if len(batch.actions) == 1 else {}
    return {
        "policy/": health.explain(policy, why),
        "value/": health.explain(value, why),
        "trust/": trust,
        "trust/kl": health.explain({"": _kl(before, after)}),  # The prefix is the whole name.
    }


def _rows(observations: Any, rows: slice) -> Any:
    if isinstance(observations, Mapping):
        return {key: x[rows] for key, x in observations.items()}
    return observations[rows]


def _parameters(seen: View) -> np.ndarray:
    """Probabilities of the actions, or means and standard deviations (samples, _)."""
    rows = []
    for part in seen.distributions:
        columns = [
            one.probs if hasattr(one, "probs") else torch.cat([one.mean, one.stddev], dim=-1)  # pyright: ignore
            for one in part
        ]
        rows.append(torch.cat(columns, dim=-1).cpu().numpy())
    return np.concatenate(rows)


def _per_state(seen: View, measure: Any) -> np.ndarray:
    return np.concatenate([sum(_over_axes(measure(one)) for one in part) for part in seen.distributions])


def _kl(before: View, after: View) -> float:
    """Mean over states of the exact KL(old‖new) of the base distributions."""
    per_state = [
        sum(_over_axes(kl_divergence(old, new)) for old, new in zip(olds, news, strict=True))
        for olds, news in zip(before.distributions, after.distributions, strict=True)
    ]
    return float(np.mean(np.concatenate(per_state)))


def _over_axes(of_each: Tensor) -> np.ndarray:
    """(samples, dimensions) summed over the independent dimensions of the action."""
    return (of_each.sum(dim=-1) if of_each.ndim > 1 else of_each).cpu().numpy()


@contextmanager
def _numbers_of_any_kind() -> Iterator[None]:
    """Let torch's distributions take NaN: that the policy is broken is a finding here, and no exception."""
    checks = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(checks)
