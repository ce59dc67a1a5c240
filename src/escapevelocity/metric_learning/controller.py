"""The agent that moves the sampling distribution: it decides for every bin, and learns from the last decision.

Where ASR's paper is silent the public code of PADS decides (Roth et al. 2020; github.com/Confusezius/CVPR2020_PADS,
PADS_utilities.py, `PADS.update`). From it:

- PPO's ratio is one *per bin*, not the joint one of all bins, and the clipped objective is its mean over the bins;
- the old policy of the ratio is a copy that is refreshed every few updates, not the policy that drew the actions;
- the advantage is r + γ·V(s′) − V(s), both values of the present network and without a gradient; it is not
  normalised: there is one transition;
- V(s) is fitted to the *metric* measured after the decision, 0.5·(V − metric)², not to a return.

All functions are pure. A population is a controller with a leading axis under `jax.vmap`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int32

from escapevelocity.metric_learning.config import ControllerConfig, SamplerConfig
from escapevelocity.metric_learning.distribution import apply_actions
from escapevelocity.metric_learning.policy_network import (
    Decision,
    PolicyNetwork,
    draw_decision,
    initial_network,
)
from escapevelocity.metric_learning.rewards import reward as reward_of
from escapevelocity.metric_learning.rewards import reward_metric
from escapevelocity.metric_learning.starts import start_masses
from escapevelocity.metric_learning.state import (
    History,
    controller_state,
    empty_history,
    observe,
    state_size,
)
from escapevelocity.metric_learning.transition import LossTerms, Transition, ppo_loss, reinforce_loss


class Controller(NamedTuple):
    """All that the agent remembers; arrays only, of fixed shapes.

    Attributes:
        network: the policy, and V where the method is PPO.
        old_network: the policy of the ratio's denominator; None with REINFORCE.
        moments: Adam's.
        masses: of the bins, un-normalised.
        history: of the validation metrics.
        metric: the last finite metric that rewards are made of; NaN before the first.
        baseline: running mean of the rewards, 0 before the first; REINFORCE subtracts it.
        updates: gradient steps taken, each of which has seen one reward.
        state: the state of the last decision.
        actions: the last decision.
        has_decided: whether there is one.
    """

    network: PolicyNetwork
    old_network: PolicyNetwork | None
    moments: optax.OptState
    masses: Float[Array, "*population bins"]
    history: History
    metric: Float[Array, "*population"]
    baseline: Float[Array, "*population"]
    updates: Int32[Array, "*population"]
    state: Float[Array, "*population state"]
    actions: Int32[Array, "*population bins"]
    has_decided: Bool[Array, "*population"]


class ControllerReport(NamedTuple):
    """One gradient step, measured before it; NaN where the method has no such thing or nothing was decided yet.

    Attributes:
        reward: r.
        loss: what was minimised.
        gradient_norm: of all parameters together.
        advantage: r + γ·V(s′) − V(s), or r − baseline.
        value: V(s).
        ratio: mean over bins of π(a|s)/π_old(a|s).
        clip_fraction: share of bins whose ratio is clipped, so that they have no gradient.
        updated: whether a step was taken.
        finite: False where reward, metric, loss or gradient was not, so that no step was taken.
    """

    reward: Float[Array, "*population"]
    loss: Float[Array, "*population"]
    gradient_norm: Float[Array, "*population"]
    advantage: Float[Array, "*population"]
    value: Float[Array, "*population"]
    ratio: Float[Array, "*population"]
    clip_fraction: Float[Array, "*population"]
    updated: Bool[Array, "*population"]
    finite: Bool[Array, "*population"]


def make_controller(
    config: ControllerConfig, sampler: SamplerConfig, key: Array, embedding_dim: int = 128
) -> Controller:
    """A controller that has seen nothing, with the masses of `sampler.init`.

    Args:
        config: the agent's settings.
        sampler: bins, support and start of the distribution.
        key: PRNG key.
        embedding_dim: dimension of the embedding, for the start `distance`.

    Raises:
        UserError: a start that cannot be read.
    """
    size = state_size(sampler.bins)
    network = initial_network(config, size, sampler.bins, key)
    return Controller(
        network=network,
        old_network=network if config.method == "ppo" else None,
        moments=_initial_moments(config, network),
        masses=jnp.asarray(start_masses(sampler.init, sampler, embedding_dim), jnp.float32),
        history=empty_history(),
        metric=jnp.float32(jnp.nan),
        baseline=jnp.float32(0),
        updates=jnp.int32(0),
        state=jnp.zeros(size, jnp.float32),
        actions=jnp.ones(sampler.bins, jnp.int32),
        has_decided=jnp.bool_(False),
    )


@partial(jax.jit, static_argnums=0)
def decide(
    config: ControllerConfig, controller: Controller, state: Float[Array, " state"], key: Array
) -> tuple[Controller, Decision]:
    """Draw an action for every bin and carry it out.

    Args:
        config: the agent's settings.
        controller: the agent.
        state: see `controller_state`.
        key: PRNG key of this decision.

    Returns:
        The controller with moved masses, which remembers state and actions; and the decision.
    """
    decision = draw_decision(config, controller.network, state, key)
    masses = apply_actions(controller.masses, decision.actions, config.step_up)
    moved = controller._replace(
        masses=masses, state=state, actions=decision.actions, has_decided=jnp.bool_(True)
    )
    return moved, decision


@partial(jax.jit, static_argnums=0)
def learn(
    config: ControllerConfig,
    controller: Controller,
    reward: Float[Array, ""],
    next_state: Float[Array, " state"],
    metric: Float[Array, ""],
) -> tuple[Controller, ControllerReport]:
    """Take one gradient step on the last transition.

    No step is taken before the first decision, nor where the reward, the metric (with PPO), the loss or a gradient is
    not finite: network, moments, baseline and counters then stay as they are.

    Args:
        config: the agent's settings.
        controller: the agent, which remembers the state s and the actions.
        reward: r, for what has followed from them.
        next_state: s′.
        metric: what V(s) is fitted to. It is remembered as the one that the next change is measured from; one that is
            not finite is not.
    """
    transition = Transition(controller.state, controller.actions, reward, next_state, metric)
    grads, loss, terms = _gradient(config, controller, transition)
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(grads)))
    finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(reward)
    updated = finite & controller.has_decided
    network, moments = _where(
        updated,
        _stepped(config, controller.network, controller.moments, grads),
        (controller.network, controller.moments),
    )
    updates = controller.updates + updated.astype(jnp.int32)
    old = controller.old_network
    if old is not None:
        old = _where(updated & (updates % config.refresh_every == 0), network, old)
    decay = jnp.where(controller.updates == 0, 1, jnp.asarray(config.baseline_decay, reward.dtype))
    baseline = controller.baseline + decay * (reward - controller.baseline)
    told = [jnp.where(controller.has_decided, x, jnp.nan) for x in (reward, loss, norm, *terms)]
    report = ControllerReport(*told, updated=updated, finite=finite | ~controller.has_decided)
    learned = controller._replace(
        network=network,
        old_network=old,
        moments=moments,
        metric=jnp.where(jnp.isfinite(metric), metric, controller.metric),
        baseline=jnp.where(updated, baseline, controller.baseline),
        updates=updates,
    )
    return learned, report


class Turn(NamedTuple):
    """A whole turn of the agent.

    Attributes:
        metric: the weighted mean of the validation metrics.
        report: of the gradient step on the last decision.
        decision: the new one.
    """

    metric: Float[Array, "*population"]
    report: ControllerReport
    decision: Decision


@partial(jax.jit, static_argnums=0)
def take_turn(
    config: ControllerConfig,
    controller: Controller,
    metrics: Float[Array, " metrics"],
    progress: Float[Array, ""],
    key: Array,
) -> tuple[Controller, Turn]:
    """Observe, be paid for the last decision and learn from it, and decide anew: PADS's order (`PADS.update`).

    Args:
        config: the agent's settings.
        controller: the agent.
        metrics: validation metrics, as `metric_vector` orders them.
        progress: share of the training that is done.
        key: PRNG key of this decision.
    """
    metric = reward_metric(metrics, config.reward_weights)
    paid = reward_of(config.reward, metric, controller.metric)
    history = observe(controller.history, metrics)
    state = controller_state(history, controller.masses, progress)
    controller, report = learn(config, controller._replace(history=history), paid, state, metric)
    controller, decision = decide(config, controller, state, key)
    return controller, Turn(metric, report, decision)


def turn_columns(turn: Turn) -> dict[str, float]:
    """A turn under the names of the table of metrics."""
    report, decision = turn.report, turn.decision
    named = {
        "asr/metric": turn.metric,
        "asr/reward": report.reward,
        "asr/advantage": report.advantage,
        "asr/value": report.value,
        "asr/ratio": report.ratio,
        "asr/clip_fraction": report.clip_fraction,
        "norm/controller_gradient": report.gradient_norm,
        "asr/policy_entropy": decision.entropy,
        "asr/policy_energy": decision.energy,
        "asr/policy_free_energy": decision.free_energy,
        "asr/action_up": decision.action_up,
        "asr/action_down": decision.action_down,
        "asr/controller_finite": report.finite & decision.finite,
    }
    return {name: float(value) for name, value in named.items()}


def _gradient(
    config: ControllerConfig, controller: Controller, transition: Transition
) -> tuple[PolicyNetwork, Array, LossTerms]:
    """Gradient of the loss on a transition, the loss, and what there is to tell beside it."""
    if controller.old_network is None:
        gradient = jax.value_and_grad(reinforce_loss, has_aux=True)
        (loss, terms), grads = gradient(controller.network, config, controller.baseline, transition)
    else:
        gradient = jax.value_and_grad(ppo_loss, has_aux=True)
        (loss, terms), grads = gradient(controller.network, config, controller.old_network, transition)
    return grads, loss, terms


def _initial_moments(config: ControllerConfig, network: Any) -> optax.OptState:
    return optax.adam(config.controller_learning_rate).init(network)


def _stepped(config: ControllerConfig, network: Any, moments: optax.OptState, grads: Any) -> tuple[Any, Any]:
    """Network and moments after a step of Adam."""
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to the step's integer number.
        steps, moments = optax.adam(config.controller_learning_rate).update(grads, moments, network)
    return optax.apply_updates(network, steps), moments


def _where(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
