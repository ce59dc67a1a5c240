"""The health of one batch: what is cheap on the device, ranks and trust on the host, one row of numbers per member."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from escapevelocity import health
from escapevelocity.policy import ActionDistribution, Categorical
from escapevelocity.ppo.config import DISCRETE_HEADS, PPOSpec
from escapevelocity.ppo.networks import Agent, Trace
from escapevelocity.ppo.objective import Batch
from escapevelocity.ppo.passes import LARGEST, in_passes
from escapevelocity.ppo.treatment import Treatment
from escapevelocity.ppo.vectors import to_vectors


class Seen(NamedTuple):
    """What is kept of a network's forward pass over a batch."""

    outputs: Float[Array, "samples outputs"]
    features: Float[Array, "samples units"]
    preactivations: Float[Array, "samples units"]
    """Of the penultimate layer."""
    layer_norms: Float[Array, "samples layers"]
    """L2 norms of every hidden layer's pre-activations."""


class View(NamedTuple):
    """What an agent does on a batch of observations."""

    params: Float[Array, "samples params"]
    """Parameters of the action distribution."""
    actor: Seen
    critic: Seen


class Measurement(NamedTuple):
    """What the device measured; the host adds ranks and trust."""

    scalars: dict[str, Float[Array, ""]]
    """By column name."""
    features: dict[str, Float[Array, "samples units"]]
    """Penultimate activations: actor, critic, and both `_after`."""
    log_ratio: Float[Array, " samples"]
    """log π_new(a|s) − log π_old(a|s)."""


def view(agent: Agent, observations: Num[Array, "samples ..."], distribution: ActionDistribution) -> View:
    """Run both networks over a batch with their inside shown."""
    return view_and_references(agent, observations, distribution, None)[0]


def view_and_references(
    agent: Agent,
    observations: Num[Array, "samples ..."],
    distribution: ActionDistribution,
    treatment: Treatment | None,
) -> tuple[View, tuple[Any, ...]]:
    """What the agent does on a batch, and what the remedies keep of it for each sample; images in several passes."""

    def one_pass(observations: Num[Array, "samples ..."]) -> tuple[View, tuple[Any, ...]]:
        actor, critic = agent.trace(observations)
        params = distribution.params(agent.actor.outputs(actor))
        references = treatment.references(params, actor, critic) if treatment else ()
        return View(params, _seen(actor), _seen(critic)), references

    samples = observations.shape[0]
    if observations.ndim == 2 or samples <= LARGEST:
        return one_pass(observations)
    return in_passes(lambda rows: one_pass(observations[rows]), samples)


def _seen(trace: Trace) -> Seen:
    norms = jnp.stack([health.state_norms(layer) for layer in trace.preactivations], axis=-1)
    return Seen(trace.outputs, trace.features, trace.preactivations[-1], norms)


def measure(
    before: View, agent: Agent, batch: Batch, distribution: ActionDistribution, spec: PPOSpec
) -> Measurement:
    """Measure one member's batch before and after its update (ppo_collapse.md, "Measures").

    Args:
        before: what the old parameters did on the batch.
        agent: the new parameters.
        batch: the batch that both are measured on.
        distribution: family of action distributions.
        spec: the run's settings.
    """
    after, weights = view(agent, batch.observations, distribution), to_vectors(agent)
    told_apart, told_apart_after = before.params, after.params
    if isinstance(distribution, Categorical):
        told_apart, told_apart_after = distribution.probs(before.params), distribution.probs(after.params)
    scalars = {
        "policy/entropy": jnp.mean(distribution.entropy(before.params, batch.noise)),
        "policy/entropy_base": jnp.mean(distribution.base_entropy(before.params)),
        "policy/variance": health.policy_variance(told_apart),
        "policy/variance_after": health.policy_variance(told_apart_after),
        "value/std": health.value_std(before.critic.outputs[:, 0]),
        "value/std_after": health.value_std(after.critic.outputs[:, 0]),
        "trust/kl": jnp.mean(distribution.kl(before.params, after.params)),
        "norm/actor_weights": jnp.linalg.norm(weights.actor),
        "norm/critic_weights": jnp.linalg.norm(weights.critic),
    }
    features = {}
    for name, old, new in (("actor", before.actor, after.actor), ("critic", before.critic, after.critic)):
        for suffix, seen in (("", old), ("_after", new)):
            features[name + suffix] = seen.features
            prefix = f"health/{name}/"
            scalars[prefix + "dead_neurons" + suffix] = _dead_units(seen.features, spec)
            scalars[prefix + "preactivation_norm" + suffix] = health.preactivation_norm(seen.preactivations)
            scalars[prefix + "preactivation_norm_all" + suffix] = health.preactivation_norm(seen.layer_norms)
        for what, old_units, new_units in (
            ("features", old.features, new.features),
            ("preactivations", old.preactivations, new.preactivations),
        ):
            change = health.feature_change(old_units, new_units)
            scalars[f"change/{name}/{what}_l2"] = change.l2
            scalars[f"change/{name}/{what}_cosine"] = change.cosine
    log_ratio = distribution.log_prob(after.params, batch.actions) - batch.log_probs
    return Measurement(scalars, features, log_ratio)


def _dead_units(features: Float[Array, "samples units"], spec: PPOSpec) -> Float[Array, ""]:
    """A unit of CReLU has two outputs, and is dead when both are."""
    if spec.network.activation == "crelu":
        positive, negative = jnp.split(features, 2, axis=-1)
        features = positive + negative
    return health.dead_neurons(features, spec.network.activation)


def health_rows(measured: Measurement, advantages: np.ndarray, spec: PPOSpec) -> list[dict[str, float | str]]:
    """Ranks and trust on the host in float64, joined with the device's numbers: one row of columns per member.

    Args:
        measured: arrays with the members as first axis.
        advantages: (members, samples), as the objective used them but for their normalisation.
        spec: the run's settings.
    """
    log_ratio = np.asarray(measured.log_ratio, np.float64)
    parts = {
        "": health.explain(measured.scalars),
        "trust/": health.trust_region(
            log_ratio,
            _sign_of_use(advantages, spec),
            spec.objective.clip_epsilon,
            spec.network.head not in DISCRETE_HEADS,
        ),
    }
    for name, features in measured.features.items():
        network, suffix = name.removesuffix("_after"), "_after" if name.endswith("_after") else ""
        ranks = health.feature_ranks(np.asarray(features))
        parts[f"health/{network}/"] = _join(parts.get(f"health/{network}/"), ranks, suffix)
    merged = health.merge(parts)
    rows = []
    for index in range(len(advantages)):
        own = health.member(merged, index)
        rows.append({**own.values, "health/undefined": health.undefined_text(own)})
    return rows


def _sign_of_use(advantages: np.ndarray, spec: PPOSpec) -> np.ndarray:
    """Whether clipping is active depends on the sign of the advantage, centred where the objective centres it.

    The objective centres each minibatch by its own mean; over the whole batch the batch's mean stands in.
    """
    if not spec.objective.normalize_advantages:
        return advantages
    with np.errstate(invalid="ignore"):  # An infinite advantage makes NaN, which `trust_region` explains.
        return advantages - advantages.mean(axis=-1, keepdims=True)


def _join(old: health.Measured | None, new: health.Measured, suffix: str) -> health.Measured:
    values = {name + suffix: value for name, value in new.values.items()}
    reasons = {name + suffix: reason for name, reason in new.reasons.items()}
    if old is None:
        return health.Measured(values, reasons)
    return health.Measured({**old.values, **values}, {**old.reasons, **reasons})
