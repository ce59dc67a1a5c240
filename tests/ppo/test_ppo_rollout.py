"""A batch holds real transitions and nothing else: lanes against a corridor walked by hand (tests/envs/probes.py)."""

import numpy as np
import pytest

from envs.probes import BACKENDS, CORRIDOR_LIMIT, ECHO_HIGH, ECHO_LOW
from escapevelocity.envs import BoxActions, ObservationStatistics, Task, describe_task, environment_seeds
from escapevelocity.ppo.config import EnvironmentConfig
from escapevelocity.ppo.episodes import EpisodeTracker
from escapevelocity.ppo.rollout import Rollout, collect, make_lanes, simulator_threads

FIELDS = ("observations", "next_observations", "actions", "rewards", "terminated", "truncated")


def first_noise(parameters, observations, noise):
    """A policy that does what the noise says: jump where its first entry is 1 (Discrete tasks)."""
    return noise[..., 0].astype(np.int32)


def scaled_noise(parameters, observations, noise):
    """For Box tasks: draws 10 × noise; the environment gets it clipped to the echo's bounds."""
    drawn = 10 * noise
    return np.concatenate([drawn, np.clip(drawn, ECHO_LOW, ECHO_HIGH)], axis=-1)


def run(
    task: Task, noise: np.ndarray, policy, *, seeds, lanes=1, segment=0, statistics=None, append_time=True
):
    """Batches of the noise's shape (batches, time, members, environments, _), copied, as one Rollout per batch."""
    _, length, members, envs, _ = noise.shape
    config = EnvironmentConfig(num_envs=envs, rollout_length=length, append_time=append_time)
    rollout = Rollout.empty(length, members, envs, (task.observation_size + append_time,), task)
    if statistics is None:
        statistics = ObservationStatistics.identity(members, task.observation_size)
    made = make_lanes(task, config, rollout, seeds, statistics, segment, lanes, 1)
    batches = []
    for batch_noise in noise:
        rollout.noise[...] = batch_noise
        for lane in made:
            lane.begin(policy, ())
        collect(made, length)
        batches.append(Rollout(**{name: array.copy() for name, array in vars(rollout).items()}))
    for lane in made:
        lane.close()
    return batches


def jumps(batches=3, length=7, members=2, envs=3, probability=0.15):
    """Noise whose first entry says where to jump."""
    rng = np.random.default_rng(1)
    noise = np.zeros((batches, length, members, envs, 2), np.float32)
    noise[..., 0] = rng.random(noise.shape[:-1]) < probability
    return noise


def corridor_by_hand(seed: int, jump: np.ndarray) -> dict[str, np.ndarray]:
    """One environment's rows, in the words of the corridor's description."""
    rows = {name: [] for name in FIELDS}
    episode, t = 0, 0
    for jumped in jump:
        rows["observations"].append([seed, episode, t, 2 * t / CORRIDOR_LIMIT - 1])
        rows["next_observations"].append([seed, episode, t + 1, 2 * (t + 1) / CORRIDOR_LIMIT - 1])
        rows["actions"].append(jumped)
        rows["rewards"].append(100 * episode + 10 * t + jumped)
        rows["terminated"].append(bool(jumped))
        rows["truncated"].append(not jumped and t + 1 == CORRIDOR_LIMIT)
        if jumped or t + 1 == CORRIDOR_LIMIT:
            episode, t = episode + 1, 0
        else:
            t += 1
    return {name: np.array(values) for name, values in rows.items()}


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_every_row_is_the_corridors_own_transition_across_batches_and_resets(lanes):
    noise, seeds = jumps(), (25, 7)
    batches = run(describe_task("EvCorridor-v0"), noise, first_noise, seeds=seeds, lanes=lanes, segment=4)
    assert {"observations", "next_observations", "noise", *FIELDS} == set(vars(batches[0]))
    env_seeds = np.array(environment_seeds(seeds, 3, segment=4)).reshape(2, 3)
    kinds = np.zeros(2, int)
    for member, env in np.ndindex(2, 3):
        jump = noise[..., 0][:, :, member, env].ravel()
        expected = corridor_by_hand(env_seeds[member, env], jump)
        for name in FIELDS:
            found = np.concatenate([getattr(batch, name)[:, member, env] for batch in batches])
            # Network inputs and rewards are float32: one rounding.
            np.testing.assert_allclose(found, expected[name], rtol=2**-24, atol=1e-7, err_msg=name)
        kinds += expected["terminated"].sum(), expected["truncated"].sum()
    assert (kinds >= 5).all(), "both kinds of end occur"


def test_a_jump_exactly_at_the_limit_is_a_termination():
    noise = np.zeros((1, 6, 1, 1, 2), np.float32)
    noise[0, CORRIDOR_LIMIT - 1, 0, 0, 0] = 1
    (batch,) = run(describe_task("EvCorridor-v0"), noise, first_noise, seeds=(1,))
    np.testing.assert_array_equal(batch.terminated.ravel(), [0, 0, 0, 0, 1, 0])
    assert not batch.truncated.any()


def test_returns_and_lengths_are_the_known_ones_each_episode_once():
    """Nobody jumps: episodes k = 0, 1, … of 5 steps return 5 · 100k + 10 · (0 + 1 + 2 + 3 + 4)."""
    noise = np.zeros((3, 7, 1, 2, 2), np.float32)
    batches = run(describe_task("EvCorridor-v0"), noise, first_noise, seeds=(1,))
    tracker = EpisodeTracker(1, 2)
    found = [tracker.add(batch.rewards, batch.terminated | batch.truncated)[0] for batch in batches]
    # 7, 14 and 21 steps hold the ends of 1, 2 and 4 episodes, in both environments.
    assert found == [(100.0, 100.0, 5.0, 2), (600.0, 600.0, 5.0, 2), (1350.0, 1600.0, 5.0, 4)]
    np.testing.assert_array_equal(tracker.unfinished(), [2])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["CartPole-v1", "InvertedPendulum-v4"])
def test_with_a_reward_of_one_returns_are_lengths_and_no_step_is_lost(name, backend):
    task = describe_task(name, backend, episode_limit=10)
    rng = np.random.default_rng(5)
    if isinstance(task.actions, BoxActions):
        noise = rng.normal(size=(3, 50, 2, 2, 1)).astype(np.float32)
        batches = run(task, noise, lambda p, o, n: np.concatenate([n, n], -1), seeds=(3, 4), lanes=2)
    else:
        noise = (rng.random((3, 50, 2, 2, 2)) < 0.9).astype(np.float32)
        batches = run(task, noise, first_noise, seeds=(3, 4), lanes=2)
    tracker = EpisodeTracker(2, 2)
    steps = np.zeros(2)
    assert np.sum([batch.terminated for batch in batches]) > 10
    assert np.sum([batch.truncated for batch in batches]) > 10
    for batch in batches:
        for member, summary in enumerate(tracker.add(batch.rewards, batch.terminated | batch.truncated)):
            assert summary.return_mean == summary.length_mean
            assert summary.return_max <= 10
            steps[member] += summary.length_mean * summary.episodes
        check_chain(batch, 10)
    # Steps that are not in a finished episode are in a member's two that are under way, of at most 9 steps each.
    assert (300 - steps <= 18).all()
    assert (steps <= 300).all()


def check_chain(batch: Rollout, limit: int) -> None:
    """Successors are the next row's observations within an episode; the time column is 2t/limit − 1 on both sides."""
    ended = batch.terminated | batch.truncated
    assert not (batch.terminated & batch.truncated).any()
    np.testing.assert_array_equal(
        batch.observations[1:][~ended[:-1]], batch.next_observations[:-1][~ended[:-1]]
    )
    assert (batch.observations[1:][ended[:-1]] != batch.next_observations[:-1][ended[:-1]]).any(axis=-1).all()
    np.testing.assert_array_equal(batch.observations[1:][ended[:-1]][:, -1], -1)
    step = batch.next_observations[..., -1] - batch.observations[..., -1]
    np.testing.assert_allclose(step, 2 / limit, rtol=0, atol=2e-7)
    np.testing.assert_allclose(batch.next_observations[..., -1][batch.truncated], 1, rtol=0, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_split_into_lanes_changes_no_bit(backend):
    one, *others = [hopper(backend, seeds=(3, 8), envs=3, lanes=lanes) for lanes in (1, 2, 3)]
    for other in others:
        assert_same(other, one)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_member_alone_sees_what_it_sees_in_a_population(backend):
    together = hopper(backend, seeds=(3, 8), envs=2)
    for member, seed in enumerate((3, 8)):
        alone = hopper(backend, seeds=(seed,), envs=2, member=member)
        for batch, whole in zip(alone, together, strict=True):
            for name in FIELDS:
                np.testing.assert_array_equal(getattr(batch, name)[:, 0], getattr(whole, name)[:, member])


@pytest.mark.parametrize("backend", BACKENDS)
def test_segments_repeat_themselves_and_differ_from_one_another(backend):
    again = [hopper(backend, seeds=(3,), envs=1, segment=segment) for segment in (1, 1, 2)]
    assert_same(again[0], again[1])
    assert (again[0][0].observations[..., :-1] != again[2][0].observations[..., :-1]).any(axis=-1).all()


def hopper(backend, *, seeds, envs, lanes=1, segment=0, member=None):
    """Two batches of 40 steps in episodes of 15, with noise and statistics that depend on the member alone."""
    task = describe_task("Hopper-v4", backend, episode_limit=15)
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(2, 40, 2, 3, 3)).astype(np.float32)[:, :, :, :envs]
    mean, std = rng.normal(size=(2, 11)), rng.uniform(0.5, 2, size=(2, 11))
    chosen = slice(0, len(seeds)) if member is None else slice(member, member + 1)

    def policy(parameters, observations, noise):
        drawn = np.tanh(noise + observations[..., :3])  # It reacts, so that a wrong observation would spread.
        return np.concatenate([drawn, drawn], axis=-1)

    statistics = ObservationStatistics(mean[chosen], std[chosen])
    return run(
        task, noise[:, :, chosen], policy, seeds=seeds, lanes=lanes, segment=segment, statistics=statistics
    )


def assert_same(found, expected):
    for batch, other in zip(found, expected, strict=True):
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(batch, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("lanes", [1, 2])
def test_every_row_is_normalised_by_its_members_statistics_also_after_resets(lanes):
    noise, seeds = jumps(), (25, 7)
    task = describe_task("EvCorridor-v0")
    raw = run(task, noise, first_noise, seeds=seeds, lanes=lanes)
    mean, std = np.array([[0.0, 1.0, 2.0], [5.0, -1.0, 0.5]]), np.array([[1.0, 2.0, 4.0], [8.0, 0.25, 0.0]])
    statistics = ObservationStatistics(mean, std)
    scaled = run(task, noise, first_noise, seeds=seeds, lanes=lanes, statistics=statistics)
    divisor = np.array([[1.0, 2.0, 4.0], [8.0, 0.25, 1e-6]])
    for before, after in zip(raw, scaled, strict=True):
        for name in ("observations", "next_observations"):
            x, z = getattr(before, name), getattr(after, name)
            expected = (x[..., :3].astype(np.float64) - mean[:, None]) / divisor[:, None]
            # Rounded twice to float32: in the raw inputs compared with here, and in the result.
            np.testing.assert_allclose(z[..., :3], expected, rtol=2**-22)
            np.testing.assert_array_equal(z[..., 3], x[..., 3])


def test_without_time_appended_observations_end_with_the_tasks_own():
    noise = jumps(batches=1)
    with_time = run(describe_task("EvCorridor-v0"), noise, first_noise, seeds=(1, 2))
    without = run(describe_task("EvCorridor-v0"), noise, first_noise, seeds=(1, 2), append_time=False)
    for name in ("observations", "next_observations"):
        np.testing.assert_array_equal(getattr(without[0], name), getattr(with_time[0], name)[..., :3])


def test_box_actions_are_kept_as_drawn_and_sent_as_the_environment_wants_them():
    noise = np.random.default_rng(0).normal(size=(2, 9, 2, 2, 2)).astype(np.float32)
    for number, batch in enumerate(
        run(describe_task("EvEcho-v0"), noise, scaled_noise, seeds=(1, 2), lanes=2)
    ):
        drawn = 10 * noise[number]
        received = batch.next_observations[..., 1:3]
        np.testing.assert_array_equal(batch.actions, drawn)
        np.testing.assert_array_equal(received, np.clip(drawn, ECHO_LOW, ECHO_HIGH).astype(np.float32))
        np.testing.assert_allclose(
            batch.rewards, received[..., 0] + 10 * received[..., 1], rtol=1e-6, atol=1e-6
        )
        assert not batch.terminated.any()
        at_limit = batch.next_observations[..., 0] == 4  # Nothing but the limit ends an echo.
        np.testing.assert_array_equal(batch.truncated, at_limit)


def test_each_batch_acts_with_the_parameters_it_was_given():
    task = describe_task("EvEcho-v0")
    rollout = Rollout.empty(3, 1, 2, (3,), task)
    config = EnvironmentConfig(num_envs=2, rollout_length=3, append_time=False)
    lanes = make_lanes(task, config, rollout, (1,), ObservationStatistics.identity(1, 3), 0, 2, 1)
    for value in (0.25, -0.5):
        for lane in lanes:
            lane.begin(lambda parameters, o, n: np.full((1, 1, 4), parameters[0], np.float32), (value,))
        collect(lanes, 3)
        np.testing.assert_array_equal(rollout.actions, value)
        np.testing.assert_array_equal(rollout.next_observations[..., 1:], value)
    for lane in lanes:
        lane.close()


def test_members_with_one_environment_each_are_split_between_lanes_with_their_parameters():
    task = describe_task("EvEcho-v0")
    rollout = Rollout.empty(3, 3, 1, (3,), task)
    config = EnvironmentConfig(num_envs=1, rollout_length=3, append_time=False)
    lanes = make_lanes(task, config, rollout, (1, 2, 3), ObservationStatistics.identity(3, 3), 0, 2, 1)
    assert [len(lane.elapsed) for lane in lanes] == [1, 2]
    values = np.array([0.25, -0.5, 0.75], np.float32)

    def own_value(parameters, observations, noise):
        return np.tile(parameters[0][:, None, None], (1, 1, 4))

    for lane in lanes:
        lane.begin(own_value, (values,))
    collect(lanes, 3)
    for member, value in enumerate(values):
        np.testing.assert_array_equal(rollout.actions[:, member], value)
        np.testing.assert_array_equal(rollout.of_members(slice(member, member + 1)).actions, value)
    for lane in lanes:
        lane.close()


@pytest.mark.parametrize(("count", "expected"), [(1, [3]), (2, [1, 2]), (3, [1, 1, 1]), (5, [1, 1, 1])])
def test_no_lane_is_without_an_environment(count, expected):
    task = describe_task("EvCorridor-v0")
    rollout = Rollout.empty(2, 2, 3, (4,), task)
    config = EnvironmentConfig(num_envs=3, rollout_length=2)
    lanes = make_lanes(task, config, rollout, (1, 2), ObservationStatistics.identity(2, 3), 0, count, 1)
    assert [len(lane.elapsed) for lane in lanes] == [2 * envs for envs in expected]
    for lane in lanes:
        lane.close()


def test_lanes_share_the_cores_and_none_goes_without(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [simulator_threads(lanes) for lanes in (1, 2, 3, 8, 100)] == [8, 4, 2, 1, 1]
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert simulator_threads(4) == 1
