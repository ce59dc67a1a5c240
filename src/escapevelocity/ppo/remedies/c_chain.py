"""Keep a gradient step from changing the outputs on other samples."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from escapevelocity.envs import Task
from escapevelocity.errors import require
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.remedies._trail import applied_mean
from escapevelocity.ppo.remedy import BatchEnd, Changed, MinibatchView, Remedy, Step


@dataclass(frozen=True)
class CChain(Remedy):
    """Churn reduction: CHAIN (Tang & Berseth 2024), C-CHAIN in continual RL (Tang et al. 2025, arXiv 2506.00592).

    Churn is what a gradient step does to the outputs on samples it did not use. With θ⁻ the parameters before the last
    step and s from another minibatch of the epoch than the loss's, the loss gains

        coef · E_s KL(π_θ⁻(·|s) ‖ π_θ(·|s)) + value_coef · E_s (V_θ(s) − V_θ⁻(s))².

    For discrete actions their code takes the cross-entropy, which has the same gradient; for continuous ones the
    squared distance of the means, where this is the KL of the base distributions. Before the first step, and wherever
    θ = θ⁻, it is 0 with gradient 0. Their coefficient can follow the size of the policy loss; ours is fixed.

    Recorded: `policy` and `value`, the two expectations, averaged over the batch's steps.
    """

    name: ClassVar[str] = "c-chain"
    needs_other_minibatch: ClassVar[bool] = True

    coef: float = 1.0
    """Weight of the policy's churn, at least 0; 1 for discrete actions, before it adapts [their code]."""
    value_coef: float = 0.0
    """Weight of the critic's churn, at least 0; PPO is published with the policy's alone [their code]."""

    def __post_init__(self) -> None:
        accepted = "a finite number of at least 0"
        require(0 <= self.coef < math.inf, "c-chain.coef", self.coef, accepted)
        require(0 <= self.value_coef < math.inf, "c-chain.value-coef", self.value_coef, accepted)

    def is_idle(self) -> bool:
        """Whether neither churn is penalised."""
        return self.coef == 0 and self.value_coef == 0

    def check(self, spec: PPOSpec, task: Task) -> None:
        """Raise `UserError` where an epoch has no other minibatch."""
        size, accepted = (
            spec.optimizer.minibatch_size,
            f"at most half the batch of {spec.batch_size} with c-chain",
        )
        require(2 * size <= spec.batch_size, "minibatch-size", size, accepted)

    def initial(self, agent: Agent) -> Agent:
        """θ⁻ = θ: no step has been made."""
        return agent

    def at_branch(self, agent: Agent, initial: Agent) -> Agent:
        """θ⁻ = θ: what the run it branches off from did last is not known."""
        return agent

    def penalty(self, view: MinibatchView) -> tuple[Float[Array, ""] | None, dict[str, Float[Array, ""]]]:
        """The weighted churn of policy and critic."""
        assert view.other is not None  # `needs_other_minibatch`
        params, values = _outputs(view, view.agent)
        old_params, old_values = _outputs(view, view.state)
        policy = jnp.mean(view.distribution.kl(old_params, params))
        value = jnp.mean(jnp.square(values - old_values))
        # A coefficient of 0 must not turn an infinite churn into NaN.
        terms = [coef * churn for coef, churn in ((self.coef, policy), (self.value_coef, value)) if coef]
        return sum(terms, jnp.float32(0)), {"policy": policy, "value": value}

    def after_step(self, step: Step) -> Changed:
        """Remember the parameters that the step started from."""
        return Changed(step.agent, step.moments, step.before)

    def after_batch(self, end: BatchEnd) -> tuple[Changed, dict[str, Float[Array, ""]]]:
        """Record the mean churn."""
        numbers = {name: applied_mean(trail) for name, trail in end.trail.items()}
        return Changed(end.agent, end.moments, end.state), numbers


def _outputs(
    view: MinibatchView, agent: Agent
) -> tuple[Float[Array, "samples params"], Float[Array, " samples"]]:
    """Parameters of the action distribution, and values, on the other minibatch."""
    actor, critic = agent.trace(view.other.observations)  # pyright: ignore[reportOptionalMemberAccess]
    return view.distribution.params(agent.actor.outputs(actor)), critic.outputs[:, 0]
