"""The job as the engine runs it: populations, repetition, resuming, faults."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import probe_environments
import pytest
from small_ppo import assert_same_bits, small_spec
from walk_runs import (
    WALK,
    Calls,
    Recorder,
    assert_same_rows,
    member,
    population,
    shared_programs,
    train,
    use_programs,
    without_times,
)

from escapevelocity import envs
from escapevelocity.envs import ObservationStatistics, describe_task, make_environments
from escapevelocity.errors import UserError
from escapevelocity.health import METRICS
from escapevelocity.health._metrics_asr import ASR_METRICS
from escapevelocity.health._metrics_embedding import EMBEDDING_METRICS
from escapevelocity.ppo import group as group_module
from escapevelocity.ppo import job as job_module
from escapevelocity.ppo.experience import make_experience
from escapevelocity.ppo.group import Group
from escapevelocity.ppo.job import PPOJob, task_of
from escapevelocity.ppo.update import learning_rate
from escapevelocity.runs import Observer, open_run, read_records, resume, start


@pytest.fixture(autouse=True)
def few_compilations(monkeypatch):
    use_programs(monkeypatch)


def test_a_population_records_every_member_in_every_batch():
    rows, _, snapshots = population()
    assert [(row["batch"], row["seed"]) for row in rows] == [(b, s) for b in range(6) for s in (1, 2, 3)]
    assert [row["env_steps"] for row in rows[::3]] == [64 * (b + 1) for b in range(6)]
    assert all(row["fault"] == "" and row["loss/skipped_minibatches"] == 0 for row in rows)
    # 2 environments are under way at a boundary, unless an episode ended in the very last step; never elsewhere.
    cut = np.array([row["perf/episodes_cut"] for row in rows]).reshape(6, 3)
    assert not cut[::2].any()
    assert cut[1::2].max() == 2
    # Six batches: a snapshot at the start and after each, with parameters of all members.
    assert [(index, step) for index, step, _ in snapshots] == [(40 * b // 6, 64 * b) for b in range(7)]
    assert all(leaf.shape[0] == 3 for leaf in jax.tree.leaves(snapshots[0][2]))


def test_snapshots_hold_the_parameters_of_their_moment():
    _, states, snapshots = population()
    initial = PPOJob().initial_state(WALK)
    assert_same_bits(snapshots[0][2], initial.learner.agent)
    for k in range(3):
        assert_same_bits(snapshots[2 * k + 2][2], states[k].learner.agent)


def test_a_large_entry_that_never_varies_is_no_deviation(monkeypatch):
    """Its mean as float32 is off by up to half a unit in the last place, which a floor of 1e-6 made thousands."""
    exact = np.array([1234.5678, 100_000.1, 0.1, -3.0])
    measured = ObservationStatistics(np.tile(exact, (3, 1)), np.tile([0.0, 0.0, 0.0, 0.7], (3, 1)))
    monkeypatch.setattr(job_module, "measure_observations", lambda *arguments: measured)
    spec = dataclasses.replace(WALK, environment=dataclasses.replace(WALK.environment, normalization="fixed"))
    state = PPOJob().initial_state(spec)
    kept = ObservationStatistics(*(np.asarray(x, np.float64) for x in (state.mean, state.std)))
    inputs = np.empty((3, 4), np.float32)
    envs.Observer(kept, None).write(np.tile(exact, (3, 1)), np.zeros(3, int), inputs)
    assert np.abs(inputs).max() <= 0.5
    np.testing.assert_array_equal(kept.std[:, 3], np.float32(0.7))


def test_seeds_learn_different_things():
    _, states, _ = population()
    weights = np.asarray(states[-1].learner.agent.actor.network.weights[0])
    assert not np.allclose(weights[0], weights[1])
    assert not np.allclose(weights[1], weights[2])


def test_a_segment_repeats_itself_bit_for_bit():
    rows, states, _ = population()
    again, state, _ = train(WALK, 1, 2, state=states[0])
    assert_same_rows(again, rows[6:12])
    assert_same_bits(state[0], states[1])


def test_a_member_is_what_it_would_be_alone():
    """architecture.md, idea 2: records of the first batch to 1e-4; parameters after one update from it to 1e-5."""
    rows, _, _ = population()
    for index, seed in enumerate(WALK.seeds):
        alone, _, _ = train(dataclasses.replace(WALK, seeds=(seed,)), 0, 1)
        ours, theirs = without_times([rows[index], alone[0]])
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if isinstance(value, str):
                assert value == theirs[name]
            else:
                assert value == pytest.approx(theirs[name], rel=1e-4, abs=1e-4, nan_ok=True), name


def test_one_update_of_a_member_from_the_same_batch_is_what_it_would_be_alone(monkeypatch):
    programs = shared_programs(WALK, task_of(WALK))
    calls = Calls(programs)
    monkeypatch.setattr(group_module, "build_programs", lambda spec, task: calls.wrapped())
    train(WALK, 0, 1)
    seen = [
        call for call in calls.seen if int(call[0][3]) == 0 and len(call[0][2]) == 2
    ]  # batch 0, seeds 1 and 2
    (learner, batch, seeds, number, progress, rate, active), (together, _) = seen[0]
    assert list(seeds) == [1, 2]
    for index in range(2):
        one = slice(index, index + 1)
        arguments = (
            member(learner, one),
            member(batch, one),
            seeds[one],
            number,
            progress,
            rate,
            active[one],
        )
        alone, _ = programs.update(*arguments)
        for mine, theirs in zip(jax.tree.leaves(member(together, one)), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seeds", [(7,), (1, 2, 3, 4, 5)])
def test_any_number_of_members_trains(seeds):
    spec = dataclasses.replace(
        WALK, seeds=seeds, monitoring=dataclasses.replace(WALK.monitoring, health_every=0)
    )
    rows, states, _ = train(spec, 0, 1)
    assert [row["seed"] for row in rows] == [*seeds, *seeds]
    assert all(leaf.shape[0] == len(seeds) for leaf in jax.tree.leaves(states[0]))
    for row in rows[:3] if len(seeds) > 1 else []:
        twin = population()[0][row["seed"] - 1]
        assert row["loss/value"] == pytest.approx(twin["loss/value"], rel=1e-4)


class Stop(Observer):
    reason = "enough"

    def __init__(self, rows):
        self.left = rows

    def on_row(self, row):
        self.left -= 1
        return self.left > 0


def test_a_run_resumed_from_any_boundary_ends_with_the_same_bits(tmp_path):
    spec = dataclasses.replace(WALK, seeds=(2,))
    job = PPOJob()
    assert start(job, spec, tmp_path / "whole").state == "finished"
    whole = read_records(tmp_path / "whole").to_pylist()
    for stopped_in in range(3):
        path = tmp_path / f"stopped-in-{stopped_in}"
        status = start(job, spec, path, [Stop(2 * stopped_in + 1)])
        assert (status.state, status.segments_done) == ("interrupted", stopped_in)
        assert resume(job, spec, path).state == "finished"
        records = read_records(path).to_pylist()
        for rows in (records, whole):
            for row in rows:
                row.pop("wall_time", None)
        assert_same_rows(records, whole)
        like = job.initial_state(spec)
        assert_same_bits(
            *(open_run(folder).load_checkpoint(3, like) for folder in (path, tmp_path / "whole"))
        )


def test_two_configurations_with_one_seed_share_their_start():
    changed = small_spec(
        "softmax",
        task="EvWalk-v0",
        seeds=(2,),
        objective={"entropy_coef": 0.1, "clip_epsilon": 0.1, "gamma": 0.5},
        optimizer={"learning_rate": 3e-3, "epochs": 1, "minibatch_size": 32},
    )
    plain = dataclasses.replace(WALK, seeds=(2,))
    job = PPOJob()
    one, other = job.initial_state(plain), job.initial_state(changed)
    assert_same_bits(one, other)
    rollouts = []
    for spec in (plain, changed):
        group = Group(spec, task_of(spec), slice(0, 1), one)
        experience = make_experience(spec, task_of(spec), one, 0, [group])
        experience.collect(0)
        rollouts.append(group.rollout)
        experience.close()
    # The same policy in the same environments with the same noise: the whole first batch is the same.
    for name, array in vars(rollouts[0]).items():
        np.testing.assert_array_equal(array, getattr(rollouts[1], name))


def test_an_observer_that_asks_to_stop_ends_the_segment_after_that_batch():
    spec = dataclasses.replace(WALK, seeds=(2,))
    job, emit = PPOJob(), Recorder(stop_at=1)
    job.segment(spec, job.initial_state(spec), 0, emit)
    assert [row["batch"] for row in emit.rows] == [0]


def test_the_learning_rate_falls_linearly_over_the_run_as_in_cleanrl():
    constant = small_spec(steps=64 * 4)
    linear = small_spec(steps=64 * 4, optimizer={"anneal": "linear"})
    assert [learning_rate(constant, batch) for batch in range(4)] == [1e-2] * 4
    # CleanRL: frac = 1 − (iteration − 1) / num_iterations, iterations counted from 1.
    expected = [1e-2 * (1 - (iteration - 1) / 4) for iteration in (1, 2, 3, 4)]
    assert [learning_rate(linear, batch) for batch in range(4)] == pytest.approx(expected, rel=1e-12)


def test_every_batch_has_its_own_learning_rate_order_and_noise(monkeypatch):
    spec = small_spec("softmax", task="EvWalk-v0", seeds=(2,), steps=64 * 6, optimizer={"anneal": "linear"})
    calls = Calls(shared_programs(WALK, task_of(WALK)))
    monkeypatch.setattr(group_module, "build_programs", lambda spec, task: calls.wrapped())
    train(spec)
    rates = [float(arguments[5]) for arguments, _ in calls.seen]
    progress = [float(arguments[4]) for arguments, _ in calls.seen]
    assert progress == pytest.approx([k / 6 for k in range(6)], rel=1e-6)
    assert rates == pytest.approx([1e-2 * k / 6 for k in (6, 5, 4, 3, 2, 1)], rel=1e-6)
    assert [int(arguments[3]) for arguments, _ in calls.seen] == list(
        range(6)
    )  # the number that the order derives from
    assert len({arguments[1].noise.tobytes() for arguments, _ in calls.seen}) == 6


HEALTH_GROUPS = (
    "health/",
    "change/",
    "policy/",
    "value/",
    "trust/",
    "norm/actor_weights",
    "norm/critic_weights",
)


def test_every_column_is_in_the_table_of_metrics_and_every_metric_in_a_row():
    engine = {"segment", "wall_time"}  # added by the engine
    # measured apart from training
    on_snapshots = {f"capacity/{network}{x}" for network in ("actor", "critic") for x in ("", "_data")}
    known = {column for metric in METRICS for column in metric.columns()}
    # Another job's.
    of_embeddings = {column for metric in EMBEDDING_METRICS + ASR_METRICS for column in metric.columns()}
    for row in population()[0]:
        assert set(row) == known - engine - on_snapshots - of_embeddings


@pytest.mark.parametrize(("every", "measured"), [(0, []), (3, [0, 3])])
def test_health_is_measured_as_often_as_asked(every, measured):
    monitoring = dataclasses.replace(WALK.monitoring, health_every=every)
    rows, states, _ = train(dataclasses.replace(WALK, monitoring=monitoring))
    assert_same_bits(states[-1], population()[1][-1])  # measuring changes nothing
    for row, full in zip(rows, population()[0], strict=True):
        columns = {name for name in full if not name.startswith(HEALTH_GROUPS)}
        assert set(row) == (set(full) if row["batch"] in measured else columns)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "EvWalk-v0", "network": {"head": "tanh_normal"}},
            "^head = 'tanh_normal': EvWalk-v0 has discrete actions; use softmax or escort$",
        ),
        (
            {"task": "EvDelay-v0", "network": {"head": "softmax"}},
            "^head = 'softmax': EvDelay-v0 has Box actions; use tanh_normal, normal or normal_independent$",
        ),
        (
            {"task": "EvSign-v0", "environment": {"append_time": True}},
            "^append-time = True: EvSign-v0 has no time limit; give --episode-limit or --no-append-time$",
        ),
        ({"task": "EvWlak-v0"}, r"^task = 'EvWlak-v0': not a known environment id; did you mean EvWalk-v0"),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        task_of(small_spec("softmax", **changes))
    assert "\n" not in str(error.value)


def test_tanh_cannot_squash_into_an_unbounded_box(monkeypatch):
    from gymnasium.spaces import Box

    monkeypatch.setattr(probe_environments.Delay, "action_space", Box(-np.inf, np.inf, (1,), np.float32))
    spec = small_spec(
        "tanh_normal", task="EvDelay-v0", steps=64 * 99
    )  # tasks are cached: no other test has this spec
    with pytest.raises(
        UserError, match=r"^head = 'tanh_normal': EvDelay-v0 has unbounded actions; use normal or"
    ):
        task_of(spec)


def test_the_job_knows_its_steps_and_segments():
    assert PPOJob().segments(WALK) == 3
    assert [PPOJob().step(WALK, k) for k in range(4)] == [0, 128, 256, 384]


def test_envpool_takes_the_policys_discrete_actions_which_numpy_cannot_write_to():
    pytest.importorskip("envpool")
    environments = make_environments(describe_task("CartPole-v1", "envpool"), [0, 1])
    environments.reset()
    actions = np.asarray(jnp.asarray([0, 1], jnp.int32))
    assert not actions.flags.writeable
    environments.send(actions)
    step = environments.receive()
    environments.close()
    assert step.next_observations[0, 1] < step.next_observations[1, 1]  # pushed to the left, and to the right
