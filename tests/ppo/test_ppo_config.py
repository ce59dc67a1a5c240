import dataclasses
import math
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_ppo import small_spec

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import (
    EnvironmentConfig,
    MonitoringConfig,
    NetworkConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PPOSpec,
)

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("config", "field", "values", "accepted"),
    [
        (EnvironmentConfig, "num_envs", (0, -1), "at least 1"),
        (EnvironmentConfig, "rollout_length", (1, 0), "at least 2"),
        (EnvironmentConfig, "episode_limit", (0, -5), "at least 1"),
        (EnvironmentConfig, "normalization_steps", (1, 0), "at least 2"),
        (NetworkConfig, "hidden", ((), (8, 0), (-1,)), "one or more layers of at least 1 unit"),
        (ObjectiveConfig, "gamma", (-0.1, 1.1, NAN), "between 0 and 1"),
        (ObjectiveConfig, "gae_lambda", (-0.1, 1.1, NAN), "between 0 and 1"),
        (ObjectiveConfig, "clip_epsilon", (0.0, 1.0, -0.2, NAN), "above 0 and below 1"),
        (ObjectiveConfig, "entropy_coef", (-0.1, INF, NAN), "a finite number of at least 0"),
        (ObjectiveConfig, "value_coef", (-0.1, INF, NAN), "a finite number of at least 0"),
        (OptimizerConfig, "learning_rate", (0.0, -1e-3, INF, NAN), "a finite number above 0"),
        (OptimizerConfig, "adam_beta1", (-0.1, 1.0, NAN), "at least 0 and below 1"),
        (OptimizerConfig, "adam_beta2", (-0.1, 1.0, NAN), "at least 0 and below 1"),
        (OptimizerConfig, "adam_eps", (0.0, -1e-8, INF, NAN), "a finite number above 0"),
        (OptimizerConfig, "max_grad_norm", (0.0, -1.0, NAN), r"above 0 \(inf: no clipping\)"),
        (OptimizerConfig, "epochs", (0, -1), "at least 1"),
        (OptimizerConfig, "minibatch_size", (0, -1), "at least 1"),
        (MonitoringConfig, "health_every", (-1,), r"0 \(never\) or a number of batches"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_field_out_of_range_is_refused_in_one_line_with_its_option_value_and_range(
    config, field, values, accepted
):
    for value in values:
        with pytest.raises(UserError, match=f"^{field.replace('_', '-')} = .*: must be {accepted}$") as error:
            config(**{field: value})
        assert repr(value) in str(error.value)
        assert "\n" not in str(error.value)


def test_the_ends_of_the_ranges_are_accepted():
    EnvironmentConfig(num_envs=1, rollout_length=2, episode_limit=1, normalization_steps=2)
    NetworkConfig(hidden=(1,))
    ObjectiveConfig(gamma=0.0, gae_lambda=0.0, entropy_coef=0.0, value_coef=0.0)
    ObjectiveConfig(gamma=1.0, gae_lambda=1.0)
    OptimizerConfig(adam_beta1=0.0, adam_beta2=0.0, max_grad_norm=INF, epochs=1, minibatch_size=1)
    MonitoringConfig(health_every=0)
    PPOSpec(seeds=(0, 2**31 - 1), steps=2048)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": ""}, r"^task = '': must be an environment id such as Hopper-v4$"),
        ({"seeds": ()}, r"^seeds = \(\): must be one or more integers$"),
        ({"seeds": (1, -1)}, r"^seeds = -1: must be integers between 0 and 2147483647$"),
        ({"seeds": (2**31,)}, r"^seeds = 2147483648: must be integers between 0 and 2147483647$"),
        ({"seeds": (1, 1)}, r"^seeds = 1 1: 1 stands there more than once; each must be different$"),
        ({"seeds": (3, 1, 2, 3)}, r"^seeds = 3 1 2 3: 3 stands there more than once"),
        (
            {"optimizer": {"minibatch_size": 48}},
            r"^minibatch-size = 48: must divide the batch of 64 = num-envs × rollout-length; 32 does$",
        ),
        (
            {"optimizer": {"minibatch_size": 1}},
            r"^minibatch-size = 1: must be at least 2, or --no-normalize-ad",
        ),
        ({"optimizer": {"minibatch_size": 128}}, r"^minibatch-size = 128: must divide .* 64 does$"),
        ({"steps": 63}, r"^steps = 63: must be at least one batch of 64 = num-envs × rollout-length$"),
        ({"steps": 0}, r"^steps = 0: must be at least one batch of 64"),
        ({"steps": -100}, r"^steps = -100: must be at least one batch of 64"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        small_spec(**changes)
    assert "\n" not in str(error.value)


def test_steps_round_down_to_whole_batches():
    assert small_spec(steps=64).num_batches == 1
    assert small_spec(steps=64 * 3 - 1).num_batches == 2
    assert PPOSpec().num_batches == 2441  # 5,000,000 / 2,048 = 2441.4


@pytest.mark.parametrize(
    ("steps", "limit", "segments"),
    [
        (5_000_000, 1000, 40),  # architecture.md, idea 1: 5M Hopper steps
        (200_000, 1000, 10),  # 200,000 / (2 environments × 10 × 1,000 steps)
        (61_440, 1000, 3),
        (10_000, 1000, 1),  # a short run
        (2048, 1, 1),  # never more than batches
        (200_000, None, 10),  # a task without a limit is planned as if it were 1,000
    ],
)
def test_hopper_runs_have_the_number_of_segments_that_the_architecture_names(steps, limit, segments):
    assert PPOSpec(steps=steps).num_segments(limit) == segments


# batches, environments, rollout length, steps left over. Specs are built inside the tests: jaxtyping's checks draw from
# `random`, which Hypothesis forbids in strategies.
sizes = st.tuples(st.integers(1, 400), st.integers(1, 4), st.integers(2, 64), st.integers(0, 10_000))


def spec_of(batches, envs, length, left_over):
    return small_spec(
        steps=batches * envs * length + left_over % (envs * length),
        environment={"num_envs": envs, "rollout_length": length},
        optimizer={"minibatch_size": 1},
        objective={"normalize_advantages": False},
    )


def test_lists_are_taken_as_the_tuples_that_they_stand_for():
    # In a process of its own: here jaxtyping's hook would refuse a list before our code sees it.
    code = """
from escapevelocity.ppo.config import NetworkConfig, PPOSpec
listed = PPOSpec(seeds=[1, 2], network=NetworkConfig(hidden=[8, 8]))
plain = PPOSpec(seeds=(1, 2), network=NetworkConfig(hidden=(8, 8)))
assert listed == plain and hash(listed) == hash(plain)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@settings(deadline=None)
@given(sizes, st.integers(1, 50))
def test_segments_cover_every_batch_once_and_none_is_empty(size, limit):
    spec = spec_of(*size)
    count = spec.num_segments(limit)
    assert 1 <= count <= 40
    edges = [spec.boundary(k, count) for k in range(count + 1)]
    assert edges[0] == 0
    assert edges[-1] == spec.num_batches == size[0]
    lengths = [stop - start for start, stop in pairwise(edges)]
    assert min(lengths) >= 1
    # None is shorter than ten episodes by more than the rounding to whole batches, unless it is the only one.
    assert count == 1 or (min(lengths) + 2) * spec.batch_size > 10 * limit * spec.environment.num_envs


@settings(deadline=None)
@given(sizes)
def test_a_run_has_41_snapshots_or_one_per_batch_with_its_start_and_its_end_among_them(size):
    spec = spec_of(*size)
    indices = [spec.snapshot_index(done) for done in range(spec.num_batches + 1)]
    taken = [index for index in indices if index is not None]
    assert len(taken) == min(41, spec.num_batches + 1)
    assert taken == sorted(set(taken))
    assert indices[0] == 0
    assert indices[-1] == 40


def test_equal_specs_are_equal_and_hashable_and_fields_cannot_be_set():
    assert hash(small_spec()) == hash(small_spec())
    assert small_spec() == small_spec()
    with pytest.raises(dataclasses.FrozenInstanceError):
        small_spec().steps = 1
