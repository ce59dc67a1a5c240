"""Capacity loss: how well a network, from where it is, still fits a target that it has never seen.

Moalla et al. 2024 (arXiv 2405.00662), Fig. 1 and code: actor and critic of a snapshot are fitted to one freshly
initialised network of the same class, by the forward KL target‖network and the squared error. A network that has lost
its plasticity is left with a larger loss.
"""

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from escapevelocity.envs import Task
from escapevelocity.errors import require
from escapevelocity.ppo.capacity_data import Observations, ProbeSize, collect_observations, probe_size
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.descent import descend, initial_moments
from escapevelocity.ppo.job import TrainingState, task_of
from escapevelocity.ppo.networks import Agent
from escapevelocity.ppo.passes import in_passes
from escapevelocity.ppo.programs import action_distribution, build_programs, make_treatment, member_key
from escapevelocity.ppo.update import sample_order
from escapevelocity.ppo.vectors import from_vectors, to_vectors
from escapevelocity.runs.compiler import convolution_options

COLUMNS = ("capacity/actor", "capacity/critic", "capacity/actor_data", "capacity/critic_data")
"""Losses of the last minibatch, as the paper plots them, and of the whole data after the fit."""
_STREAM = 2**30
"""Folded into a member's key; the streams of `programs.Stream` count from 0."""


@dataclasses.dataclass(frozen=True)
class CapacityConfig:
    """What a run's snapshots are fitted to, and on what."""

    data: Literal["initial", "target"] = "initial"
    """Whose rollouts the data are: the run's initial policy's (Moalla et al. 2024, code) or the random target's (their
    text)."""
    probe_seed: int = 0
    """Another one gives another random target and other data, for each seed of the run."""

    def __post_init__(self) -> None:
        require(self.data in ("initial", "target"), "data", self.data, "initial or target")
        require(0 <= self.probe_seed < 2**31, "probe-seed", self.probe_seed, "from 0 to 2147483647")


class Probe(NamedTuple):
    """What all snapshots of a member share. Outside of programs the members come first."""

    observations: Observations
    params: Float[Array, "samples params"]
    """Parameters of the target's action distribution."""
    values: Float[Array, " samples"]
    """The target's values."""
    order: Int32[Array, "steps minibatch"]
    """Samples of every gradient step: one permutation per epoch, without the incomplete minibatch at its end."""


class Fit(NamedTuple):
    """How a fit went; outside of programs the members come first. The losses of a step are taken before it."""

    actor: Float[Array, " steps"]
    """KL(target ‖ network) in nats, of each step's minibatch."""
    critic: Float[Array, " steps"]
    """Mean squared error, of each step's minibatch."""
    actor_data: Float[Array, ""]
    """KL on the whole data, after the fit."""
    critic_data: Float[Array, ""]

    def columns(self) -> dict[str, np.ndarray]:
        """What is stored: an entry per member under each of `COLUMNS`."""
        last = (self.actor[..., -1], self.critic[..., -1], self.actor_data, self.critic_data)
        return {name: np.asarray(loss, np.float64) for name, loss in zip(COLUMNS, last, strict=True)}


class Programs(NamedTuple):
    """Jitted functions; arrays have the members as first axis."""

    draw: Callable[[Array, Array], tuple[Agent, Array, Array]]
    """(seeds, probe seed) -> targets, keys of the actions' noise, and `Probe.order`."""
    outputs: Callable[[Agent, Observations], tuple[Array, Array]]
    """What an agent does on the data: parameters of its action distribution, and values."""
    fit: Callable[[Agent, Probe], Fit]


@lru_cache(maxsize=8)
def build_fit(spec: PPOSpec, task: Task, size: ProbeSize) -> Programs:
    """Build (not yet compile) the programs of a fit, with the run's networks and optimiser.

    Both losses are minimised as their sum, in one step of the training's own optimiser: actor and critic do not
    meet in it but in a shared trunk and in `clip_gradients="jointly"`.

    Args:
        spec: the run's settings.
        task: its task.
        size: amount of data, and epochs.
    """
    distribution, fresh = action_distribution(spec, task), make_treatment(spec, task).fresh
    minibatch = spec.optimizer.minibatch_size
    rate = jnp.float32(spec.optimizer.learning_rate)

    def draw(seed: Array, probe_seed: Array) -> tuple[Agent, Array, Array]:
        key = jax.random.fold_in(member_key(seed, _STREAM), probe_seed)
        target_key, noise_key, order_key = jax.random.split(key, 3)
        whole = size.steps // minibatch * minibatch
        order = sample_order(order_key, size.steps, size.epochs)[:, :whole]
        return fresh(target_key), noise_key, order.reshape(-1, minibatch)

    def look(agent: Agent, observations: Observations, samples: Array) -> tuple[Array, Array]:
        actor, critic = agent.trace(observations.take(samples))
        return distribution.params(agent.actor.outputs(actor)), critic.outputs[:, 0]

    def errors(agent: Agent, probe: Probe, samples: Array) -> tuple[Array, Array]:
        params, values = look(agent, probe.observations, samples)
        return distribution.kl(probe.params[samples], params), jnp.square(values - probe.values[samples])

    def outputs(agent: Agent, observations: Observations) -> tuple[Array, Array]:
        return in_passes(lambda samples: look(agent, observations, samples), observations.frames.shape[0])

    def fit(agent: Agent, probe: Probe) -> Fit:
        def loss(parameters: Any, samples: Array) -> tuple[Array, tuple[Array, Array]]:
            kl, squared = errors(from_vectors(parameters, agent), probe, samples)
            both = jnp.mean(kl), jnp.mean(squared)
            return both[0] + both[1], both

        def step(carry: tuple[Any, Any], samples: Array) -> tuple[tuple[Any, Any], tuple[Array, Array]]:
            parameters, moments = carry
            gradients, both = jax.grad(loss, has_aux=True)(parameters, samples)
            done = descend(parameters, gradients, moments, rate, spec, agent)
            return (done.parameters, done.moments), both

        start = to_vectors(agent), to_vectors(initial_moments(agent, spec.optimizer))
        (parameters, _), (actor, critic) = jax.lax.scan(step, start, probe.order)
        fitted = from_vectors(parameters, agent)
        whole = in_passes(lambda samples: errors(fitted, probe, samples), probe.values.shape[0])
        return Fit(actor, critic, jnp.mean(whole[0]), jnp.mean(whole[1]))

    over_members, jit = jax.vmap, jax.jit
    if _one_by_one(spec):
        over_members, jit = _over_one, partial(jax.jit, compiler_options=convolution_options())
    return Programs(
        jax.jit(jax.vmap(draw, in_axes=(0, None))), jit(over_members(outputs)), jit(over_members(fit))
    )


def require_minibatch(spec: PPOSpec, size: ProbeSize | None = None) -> None:
    """Raise `UserError` where the data, by default those of the task's family, do not make a single minibatch."""
    size = size or probe_size(task_of(spec))
    given, accepted = (
        spec.optimizer.minibatch_size,
        f"at most {size.steps}, the samples that capacity is measured on",
    )
    require(given <= size.steps, "minibatch-size", given, accepted)


class CapacityMeter:
    """Measures the capacity loss of a run's snapshots.

    All that is random follows from the members' seeds and the probe seed: whenever a snapshot is measured, it meets
    the same target, data and order of minibatches.

    Args:
        spec: the run's settings.
        mean: (members, inputs) observation statistics of the run.
        std: likewise.
        config: what is fitted to what.
        size: amount of data; by default that of the task's family.

    Raises:
        UserError: there are less data than a minibatch has samples.
    """

    def __init__(
        self,
        spec: PPOSpec,
        mean: Array,
        std: Array,
        config: CapacityConfig | None = None,
        size: ProbeSize | None = None,
    ) -> None:
        self._spec, self._task, self._config = spec, task_of(spec), config or CapacityConfig()
        self._size = size or probe_size(self._task)
        self._mean, self._std = mean, std
        least, given = self._size.steps, spec.optimizer.minibatch_size
        require(
            given <= least,
            "minibatch-size",
            given,
            f"at most {least}, the samples that capacity is measured on",
        )
        # Programs differ by no seed: one compilation serves all members.
        self._any_seed = dataclasses.replace(spec, seeds=(0,), branch=None)
        self._programs = build_fit(self._any_seed, self._task, self._size)
        self._probes: dict[int, Probe] = {}

    @property
    def blocks(self) -> list[slice]:
        """Members that are measured at once: all of them, or one by one where large convolutions gain nothing."""
        members = len(self._spec.seeds)
        return [slice(i, i + 1) for i in range(members)] if _one_by_one(self._spec) else [slice(0, members)]

    def measure(self, agents: Agent, block: slice) -> dict[str, np.ndarray]:
        """Fit one snapshot.

        Args:
            agents: parameters of the whole population, members first.
            block: one of `blocks`.

        Returns:
            An entry for each member of the block under each of `COLUMNS`.
        """
        return self.fit(agents, block).columns()

    def fit(self, agents: Agent, block: slice) -> Fit:
        """Fit one snapshot, and give all that is known of it; arguments as in `measure`."""
        return self._programs.fit(jax.tree.map(lambda x: jnp.asarray(x[block]), agents), self.probe(block))

    def probe(self, block: slice) -> Probe:
        """What the members of a block are fitted to; made once, and kept (see `keep_only`)."""
        if block.start not in self._probes:
            self._probes[block.start] = self._make_probe(block)
        return self._probes[block.start]

    def keep_only(self, block: slice) -> None:
        """Free the data of all other blocks: 250 MB per member of an Atari run."""
        self._probes = {start: probe for start, probe in self._probes.items() if start == block.start}

    def _make_probe(self, block: slice) -> Probe:
        spec = dataclasses.replace(self._spec, seeds=self._spec.seeds[block])
        seeds, size = jnp.asarray(spec.seeds, jnp.uint32), self._size
        target, noise_keys, order = self._programs.draw(seeds, jnp.uint32(self._config.probe_seed))
        learner = build_programs(self._any_seed, self._task).initialize(seeds)
        if self._config.data == "target":
            learner = learner._replace(agent=target)
        everyone = jnp.ones(len(spec.seeds), bool)
        state = TrainingState(learner, self._mean[block], self._std[block], everyone)
        observations = collect_observations(
            spec, self._task, state, noise_keys, size, self._config.probe_seed
        )
        return Probe(observations, *self._programs.outputs(target, observations), order)


def _one_by_one(spec: PPOSpec) -> bool:
    return spec.network.convolutions == "nature"  # As in training: being batched, they only need more memory.


def _over_one(function: Callable[..., Any]) -> Callable[..., Any]:
    """Like `jax.vmap`, for a single member."""

    def mapped(*arguments: Any) -> Any:
        return jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], arguments)))

    return mapped
