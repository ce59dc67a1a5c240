"""Observation statistics and what the network sees, against NumPy on streams that were recorded apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.probes import BACKENDS, ECHO_HIGH, ECHO_LIMIT, ECHO_LOW, Echo
from escapevelocity.envs import (
    ObservationStatistics,
    Observer,
    _observation,
    describe_task,
    make_environments,
    measure_observations,
)


@pytest.fixture
def echoed():
    """What the echo environments saw: (steps, [step, a₀, a₁])."""
    Echo.seen.clear()
    yield Echo.seen
    Echo.seen.clear()


@pytest.mark.parametrize("num_envs", [1, 2, 8])
def test_statistics_are_those_of_the_4000_steps_that_the_environment_saw(echoed, num_envs):
    statistics = measure_observations(describe_task("EvEcho-v0"), [3], num_envs)
    stream = np.array(echoed)
    assert stream.shape == (4000, 3)
    np.testing.assert_allclose(statistics.mean, stream.mean(axis=0)[None], rtol=1e-12)
    np.testing.assert_allclose(statistics.std, stream.std(axis=0, ddof=1)[None], rtol=1e-12)
    # Steps 1, 2, 3, 4 in turn: mean 2.5 and variance 1.25·4000/3999 by hand, so no row stems from a reset.
    assert ECHO_LIMIT == 4
    assert statistics.mean[0, 0] == pytest.approx(2.5, rel=1e-12)
    assert statistics.std[0, 0] == pytest.approx(np.sqrt(1.25 * 4000 / 3999), rel=1e-12)


def test_steps_are_rounded_up_to_whole_vector_steps(echoed):
    measure_observations(describe_task("EvEcho-v0"), [3], num_envs=8, steps=41)
    assert len(echoed) == 48


def test_each_member_has_the_statistics_of_its_own_environments(echoed):
    statistics = measure_observations(describe_task("EvEcho-v0"), [3, 4], num_envs=2, steps=100)
    # One after another in each of 50 vector steps: member 0's two environments, then member 1's.
    stream = np.array(echoed).reshape(50, 2, 2, 3)
    for member in range(2):
        rows = stream[:, member].reshape(100, 3)
        np.testing.assert_allclose(statistics.mean[member], rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(statistics.std[member], rows.std(axis=0, ddof=1), rtol=1e-12)
    assert (statistics.mean[0, 1:] != statistics.mean[1, 1:]).all()


def test_the_policy_is_uniform_over_the_box(echoed):
    scipy_stats = pytest.importorskip("scipy.stats")
    measure_observations(describe_task("EvEcho-v0"), [3], num_envs=2)
    for dimension, (low, high) in enumerate(zip(ECHO_LOW, ECHO_HIGH, strict=True)):
        actions = np.array(echoed)[:, 1 + dimension]
        assert low <= actions.min()
        assert actions.max() <= high
        # Kolmogorov-Smirnov at a fixed seed; 1e-3 bounds the chance that an honest draw would have failed.
        assert scipy_stats.kstest(actions, "uniform", args=(low, high - low)).pvalue > 1e-3
    correlation = np.corrcoef(np.array(echoed)[:, 1:].T)[0, 1]
    assert abs(correlation) < 4 / np.sqrt(4000)  # Independent dimensions: four standard errors.


def test_the_policy_is_uniform_over_discrete_actions(monkeypatch):
    actions = record_actions(monkeypatch, "EvCorridor-v0")
    # Binomial(4000, ½) has standard deviation 31.6: five of them.
    assert set(np.unique(actions)) == {0, 1}
    assert abs(actions.sum() - 2000) < 158


def test_the_policy_stays_inside_a_box_without_bounds(monkeypatch):
    actions = record_actions(monkeypatch, "EvHalfBounded-v0")
    low, high = np.array([-1, 5, -5]), np.array([1, 7, -3])
    assert (actions >= low).all()
    assert (actions <= high).all()
    assert (np.ptp(actions, axis=0) > 1.99).all()


def record_actions(monkeypatch, name):
    """All actions that the measurement sends."""
    sent = []

    def recording(task, seeds, threads):
        envs = make_environments(task, seeds, threads)
        send = envs.send
        envs.send = lambda actions: (sent.append(actions), send(actions))
        return envs

    monkeypatch.setattr(_observation, "make_environments", recording)
    measure_observations(describe_task(name), [1], num_envs=2)
    return np.concatenate(sent)


@pytest.mark.parametrize("backend", BACKENDS)
def test_statistics_of_real_tasks_are_those_of_the_rows_received(monkeypatch, backend):
    received = []

    def recording(task, seeds, threads):
        envs = make_environments(task, seeds, threads)
        receive = envs.receive

        def keep():
            step = receive()
            received.append(np.array(step.next_observations))
            return step

        envs.receive = keep
        return envs

    monkeypatch.setattr(_observation, "make_environments", recording)
    statistics = measure_observations(describe_task("Hopper-v4", backend), [1, 2], num_envs=2, steps=600)
    stream = np.array(received, np.float64)
    assert stream.shape == (300, 4, 11)
    for member in range(2):
        rows = stream[:, 2 * member : 2 * member + 2].reshape(600, 11)
        np.testing.assert_allclose(statistics.mean[member], rows.mean(axis=0), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(statistics.std[member], rows.std(axis=0, ddof=1), rtol=1e-10)


def test_a_constant_entry_divides_by_the_floor_of_1e_6():
    observer = Observer(ObservationStatistics(np.array([[2.0, 0.0]]), np.array([[0.0, 1e-7]])), None)
    out = np.empty((1, 2), np.float32)
    observer.write(np.array([[2.0, 3e-6]]), np.zeros(1, int), out)
    np.testing.assert_allclose(out, [[0.0, 3.0]], rtol=1e-6)
    observer.write(np.array([[2.001, 0.0]]), np.zeros(1, int), out)
    np.testing.assert_allclose(out, [[1000.0, 0.0]], rtol=1e-6)  # Unclipped.


def test_time_goes_from_minus_one_to_one():
    observer = Observer(ObservationStatistics.identity(3, 1), 1000)
    assert observer.output_size == 2
    assert observer.output_shape == (2,)
    assert observer.dtype == np.float32
    out = np.empty((3, 2), np.float32)
    observer.write(np.array([[7.0], [8.0], [9.0]]), np.array([0, 250, 1000]), out)
    np.testing.assert_array_equal(out, np.array([[7, -1], [8, -0.5], [9, 1]], np.float32))


def test_without_a_limit_no_time_is_appended():
    observer = Observer(ObservationStatistics.identity(1, 2), None)
    assert observer.output_size == 2
    out = np.empty((1, 2), np.float32)
    observer.write(np.array([[1.0, 2.0]]), np.array([3]), out)
    np.testing.assert_array_equal(out, [[1, 2]])


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
    st.sampled_from([np.float32, np.float64, np.int64]),
)
def test_rows_are_normalised_each_by_its_own_statistics(rows, dtype):
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=(5, 3)), rng.uniform(0.5, 2, size=(5, 3))
    observations = (10 * rng.normal(size=(5, 3))).astype(dtype)
    elapsed = rng.integers(0, 50, size=5)
    observer = Observer(ObservationStatistics(mean, std), 50)
    out = np.full((len(rows), 4), np.nan, np.float32)
    observer.write(observations[rows], elapsed[rows], out, np.array(rows))
    for k, row in enumerate(rows):
        by_hand = [(float(x) - m) / s for x, m, s in zip(observations[row], mean[row], std[row], strict=True)]
        # One rounding to float32 of values below about 60.
        np.testing.assert_allclose(out[k], [*by_hand, 2 * elapsed[row] / 50 - 1], rtol=2e-7, atol=2e-7)


def test_writing_leaves_the_observations_alone():
    """They may be the environment's own buffer."""
    observations = np.ones((2, 1))
    Observer(ObservationStatistics(np.ones((2, 1)), np.full((2, 1), 2.0)), None).write(
        observations, np.zeros(2, int), np.empty((2, 1), np.float32)
    )
    np.testing.assert_array_equal(observations, 1)


def test_identity_statistics_change_nothing():
    observations = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    out = np.empty((4, 3), np.float32)
    Observer(ObservationStatistics.identity(4, 3), None).write(observations, np.zeros(4, int), out)
    np.testing.assert_array_equal(out, observations)
