from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from studies.early_warning.cases import cases_of
from studies.early_warning.grid import LEVELS, NUM_LEVELS, PACES
from studies.early_warning.plan import PLAN, spec_of
from studies.early_warning.readout import NUM_STATES, readable_shares, task_states

from escapevelocity.envs import describe_task
from escapevelocity.ppo.training import train

SETTING = next(setting for setting in PLAN if setting.task == "CartPole-v1" and setting.activation == "relu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    spec = spec_of(replace(SETTING, steps=1024))
    spec = replace(
        spec,
        seeds=(1, 2),
        network=replace(spec.network, hidden=(8,)),
        optimizer=replace(spec.optimizer, epochs=1),
        monitoring=replace(spec.monitoring, health_every=0),  # Half of the compile time.
    )
    return train(spec, tmp_path_factory.mktemp("runs"), "tiny")


def test_the_readout_is_that_of_the_saved_networks_on_states_of_a_uniform_policy(run):
    steps, shares = readable_shares(run)
    assert steps.tolist() == [0, 512, 1024]
    states, _ = task_states(describe_task("CartPole-v1"))  # Neither normalised nor with the time appended.
    half = NUM_STATES // 2
    for member in range(2):
        arrays = run.arrays(run.latest_checkpoint()[0])
        weight, bias = (
            arrays[f".learner.agent.actor.network.{name}[0]"][member] for name in ("weights", "biases")
        )
        features = np.maximum(states @ weight.T + bias, 0)
        fitted = LinearRegression().fit(features[:half], states[:half])
        errors = ((states[half:] - fitted.predict(features[half:])) ** 2).sum(axis=0)
        total = ((states[half:] - states[:half].mean(axis=0)) ** 2).sum(axis=0)
        # The states are float32, and the ridge is 1e-6.
        assert shares[member, -1] == pytest.approx(np.clip(1 - errors / total, 0, 1).mean(), abs=1e-3)


def test_the_readout_is_measured_once_and_kept_beside_the_run(run):
    first = readable_shares(run)
    path = run.path.with_name("tiny.readable.json")
    written = path.stat().st_mtime_ns
    second = readable_shares(run)
    np.testing.assert_array_equal(first[1], second[1])
    assert path.stat().st_mtime_ns == written


def test_states_repeat_themselves_and_are_those_of_short_uniform_episodes():
    task = describe_task("CartPole-v1")
    (states, elapsed), (again, _) = task_states(task), task_states(task)
    np.testing.assert_array_equal(states, again)
    assert states.shape == (NUM_STATES, 4)
    # A random policy falls after 22 steps on average (Gymnasium's start states), and every episode begins at 0.
    assert elapsed.min() == 0
    assert 5 < elapsed.mean() < 20


def test_a_run_becomes_one_case_per_seed(run):
    cases = cases_of(SETTING, run)
    assert [case.seed for case in cases] == [1, 2]
    for case in cases:
        assert case.steps == 1024
        assert case.firsts.shape == (len(PACES), len(LEVELS), NUM_LEVELS)
        # Two batches: too few for a return to be lost, and for a sign that must hold.
        assert case.truth.return_onset is None
        assert np.isinf(case.firsts[1:]).all()
        assert 0 < case.return_last < 500
