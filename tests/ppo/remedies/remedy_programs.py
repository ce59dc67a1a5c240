"""A run's update as a program that is traced but not compiled, for any remedies and any family of tasks."""

import dataclasses

import jax
import jax.numpy as jnp

from escapevelocity.envs import DiscreteActions
from escapevelocity.ppo.job import task_of
from escapevelocity.ppo.programs import build_programs, input_shape
from escapevelocity.ppo.remedies import REMEDIES
from escapevelocity.ppo.training import default_spec

NAMES = sorted(REMEDIES)
SOONER = {"redo": {"every": 1}}
"""Fields by which a remedy acts within the few batches of a test."""
FAMILIES = {
    "mujoco": "Hopper-v4",
    "classic": "CartPole-v1",
    "atari": "ALE/Phoenix-v5",
    "minatar": "gymnax:Breakout-MinAtar",
}


def remedy_of(name):
    return REMEDIES[name](**SOONER.get(name, {}))


def family_spec(family):
    """The preset of a family, cut down to two batches of 2 environments × 32 steps and networks of 8 units."""
    spec = default_spec(FAMILIES[family], family)
    environment = dataclasses.replace(spec.environment, num_envs=2, rollout_length=32, normalization_steps=64)
    return dataclasses.replace(
        spec,
        environment=environment,
        steps=2 * 64 * environment.frame_skip,
        network=dataclasses.replace(spec.network, hidden=(8,), activation="relu"),
        optimizer=dataclasses.replace(spec.optimizer, epochs=2, minibatch_size=32),
        monitoring=dataclasses.replace(spec.monitoring, health_every=1),
    )


def quickly_compiled(programs):
    """The same programs, compiled without optimisation: compiling is nearly all that such a test costs."""
    quick = {"xla_backend_optimization_level": 0}
    return type(programs)(*(jax.jit(program, compiler_options=quick) for program in programs))


class TracedUpdate:
    """The update of all members: shapes and dtypes of what goes in and comes out, and the text of its program."""

    def __init__(self, spec):
        task = task_of(spec)
        programs = build_programs(spec, task)
        seeds = jnp.asarray(spec.seeds, jnp.uint32)
        batch_number = jnp.uint32(0)
        rollout = (spec.environment.rollout_length, len(spec.seeds), spec.environment.num_envs)
        self.learner = jax.eval_shape(programs.initialize, seeds)
        noise = jax.eval_shape(programs.draw_noise, seeds, batch_number)

        def like(dtype, *shape):
            return jax.ShapeDtypeStruct((*rollout, *shape), dtype)

        shape = task.observation_shape if task.pixels else input_shape(spec, task)
        observations = like(jnp.uint8 if task.pixels else jnp.float32, *shape)
        discrete = isinstance(task.actions, DiscreteActions)
        actions = like(jnp.int32) if discrete else like(jnp.float32, len(task.actions.low))
        # (agent, observations, next observations, actions, noise, rewards, terminated, truncated, seeds, batch number)
        batch, _, _ = jax.eval_shape(
            programs.prepare,
            self.learner.agent,
            observations,
            observations,
            actions,
            noise,
            like(jnp.float32),
            like(bool),
            like(bool),
            seeds,
            batch_number,
        )
        progress, rate, active = jnp.float32(0), jnp.float32(0.1), jnp.ones(len(spec.seeds), bool)
        arguments = (self.learner, batch, seeds, batch_number, progress, rate, active)
        traced = programs.update.trace(*arguments)
        self.after, self.statistics = traced.out_info
        self._traced = traced

    def text(self):
        return self._traced.lower().as_text()


def assert_same_shapes(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for leaf, twin in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert (leaf.shape, leaf.dtype) == (twin.shape, twin.dtype)
