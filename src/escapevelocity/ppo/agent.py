"""A trained agent: load it from a run and let it act."""

import os
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from escapevelocity.envs import ObservationStatistics, Observer, Task
from escapevelocity.errors import require
from escapevelocity.policy import ActionDistribution
from escapevelocity.ppo.best import WINDOW, load_best_agents
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.frozen import Frozen, frozen_member
from escapevelocity.ppo.job import PPOJob, TrainingState, state_template, task_of
from escapevelocity.ppo.networks import Actor
from escapevelocity.ppo.programs import action_distribution
from escapevelocity.ppo.saved import saved_spec
from escapevelocity.runs import open_run


@dataclass(frozen=True)
class TrainedAgent:
    """One member of a run as it was at a checkpoint; `load` makes it."""

    spec: PPOSpec
    """The run's settings."""
    task: Task
    """What it was trained on."""
    seed: int
    """The member's seed."""
    env_steps: int
    """Environment steps it was trained for."""
    actor: Actor
    """Its policy network."""
    statistics: ObservationStatistics
    """Observation statistics, (1, observation_size) each."""
    frozen: Frozen | None = None
    """Set where a fault had frozen the member by then: these are its last good parameters, of an earlier step."""

    def act(
        self,
        observation: Any,
        elapsed: int | np.ndarray = 0,
        mode: bool = True,
        key: jax.Array | None = None,
    ) -> np.ndarray | np.integer:
        """Choose an action for one observation or for a batch of them.

        Args:
            observation: as the environment gives it, (observation_size,) or (n, observation_size); one-hot if it is
                Discrete. Images come in their shape or flattened; for a game of Atari's, (84, 84, 4) uint8: the
                latest four screens, oldest first, as `envs.FrameStack` stacks them.
            elapsed: steps since the start of the episode, one number or one per row. Agents of the preset
                `mujoco` see the time: count your steps and pass them.
            mode: take the most likely action; otherwise sample with `key`.
            key: JAX PRNG key for sampling.

        Returns:
            What the environment's `step` takes: (action_size,) floats or an integer; with a leading n for a batch.

        Raises:
            UserError: an observation or `elapsed` of another shape, or sampling without a key.

        Example:
            >>> agent = escapevelocity.load("runs/demo", seed=2)  # doctest: +SKIP
            >>> environment = gymnasium.make("Hopper-v4")  # doctest: +SKIP
            >>> observation, _ = environment.reset(seed=0)  # doctest: +SKIP
            >>> agent.act(observation, elapsed=0)  # doctest: +SKIP
            array([0.13, 0.02, -0.4], dtype=float32)
        """
        given = np.asarray(observation)
        rows, single = self._rows(given)
        count, steps = len(rows), np.asarray(elapsed)
        require(
            steps.shape in ((), (count,)), "elapsed", elapsed, f"one number, or one for each of {count} rows"
        )
        require(mode or key is not None, "key", key, "a JAX PRNG key when mode=False")
        inputs = self._inputs(rows, np.broadcast_to(steps, (count,)))
        actions = np.asarray(
            _choose(self.actor, inputs, None if mode else key, action_distribution(self.spec, self.task))
        )
        actions = actions + getattr(self.task.actions, "start", 0)
        return actions[0] if single else actions

    def _rows(self, observation: np.ndarray) -> tuple[np.ndarray, bool]:
        """The observations one by one, in the network's shape, and whether there is but one without a leading axis."""
        shape, size = self.task.observation_shape, self.task.observation_size
        single = observation.shape in (shape, (size,))
        rows = observation[None] if single else observation
        accepted = f"of shape {shape} or (n, {', '.join(map(str, shape))})"
        require(rows.shape[1:] in (shape, (size,)) and rows.ndim > 1, "observation", rows.shape, accepted)
        return rows.reshape(-1, *shape), single

    def _inputs(self, rows: np.ndarray, elapsed: np.ndarray) -> np.ndarray:
        """What the network sees: images as they are, vectors normalised and with the time where training had it."""
        if self.task.pixels:
            return rows.astype(np.uint8, copy=False)
        if rows.ndim > 2:
            return rows.astype(np.float32, copy=False)
        observer = Observer(
            ObservationStatistics(*(np.repeat(s, len(rows), axis=0) for s in self.statistics)),
            self.task.episode_limit if self.spec.environment.append_time else None,
        )
        inputs = np.empty((len(rows), observer.output_size), np.float32)
        observer.write(rows, elapsed, inputs)
        return inputs


@partial(jax.jit, static_argnames="distribution")
def _choose(
    actor: Actor, inputs: jax.Array, key: jax.Array | None, distribution: ActionDistribution
) -> jax.Array:
    with jax.default_matmul_precision("float32"):  # As in training: accelerators would round to 10 bits.
        params = distribution.params(actor.outputs(actor.network.trace(inputs)))
    if key is None:
        return distribution.to_environment(distribution.mode(params))
    noise = distribution.draw_noise(key, (inputs.shape[0],))
    return distribution.to_environment(distribution.sample(params, noise))


def load(
    path: str | os.PathLike[str],
    seed: int | None = None,
    checkpoint: int | None = None,
    best: bool = False,
) -> TrainedAgent:
    """Load a trained agent from a run directory. Nothing in the run is executed.

    Args:
        path: the run.
        seed: which member of the population; by default the first that no fault has frozen. A frozen one comes with a
            warning.
        checkpoint: number of segments done (`ev show RUN` lists them); by default the last whole one, with a warning
            for each damaged one after it.
        best: take the parameters of the member's best batches instead, which training with `keep_best` leaves.

    Raises:
        UserError: not a PPO run, no such seed or checkpoint, or a damaged one; both a checkpoint and the best.
    """
    agent, damaged = load_with_notes(path, seed, checkpoint, best)
    for text in [*damaged, *([str(agent.frozen)] if agent.frozen else [])]:
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    return agent


def load_with_notes(
    path: str | os.PathLike[str],
    seed: int | None = None,
    checkpoint: int | None = None,
    best: bool = False,
) -> tuple[TrainedAgent, list[str]]:
    """Load as `load` does, without warnings: the agent, and a line for each damaged checkpoint that was passed over."""
    run, spec = open_run(path), saved_spec(path)
    require(
        seed is None or seed in spec.seeds,
        "seed",
        seed,
        f"one of the run's seeds: {' '.join(map(str, spec.seeds))}",
    )
    require(checkpoint is None or not best, "checkpoint", checkpoint, "left out when the best is wanted")
    number, damaged = (checkpoint, []) if checkpoint is not None else run.latest_checkpoint()
    known = [saved.number for saved in run.checkpoints()]
    require(
        number in known, "checkpoint", number, f"one of the run's checkpoints: {' '.join(map(str, known))}"
    )
    state: TrainingState = run.load_checkpoint(number, state_template(spec))
    active = np.asarray(state.active)
    index = int(np.argmax(active)) if seed is None else spec.seeds.index(seed)
    seed, agent, steps = spec.seeds[index], state.learner.agent, PPOJob().step(spec, number)
    frozen = None
    if best:  # Sound parameters of a batch before any fault.
        kept = load_best_agents(run.path, agent, len(spec.seeds))
        has_one = bool(kept["return"][index] > -np.inf)
        require(has_one, "seed", seed, f"a seed with returns of {WINDOW} batches, to have a best")
        agent, steps = kept["agent"], int(kept["step"][index])
    elif not active[index]:
        frozen = frozen_member(run, seed, number)
        steps = steps if frozen.env_steps is None else frozen.env_steps
    return TrainedAgent(
        spec=spec,
        task=task_of(spec),
        seed=seed,
        env_steps=steps,
        actor=jax.tree.map(lambda x: jnp.asarray(x[index]), agent.actor),
        statistics=ObservationStatistics(
            *(np.asarray(x[index : index + 1], np.float64) for x in (state.mean, state.std))
        ),
        frozen=frozen,
    ), damaged
