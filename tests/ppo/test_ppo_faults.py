"""Faults in a run: who is frozen, what is kept, and how a run ends when no member is left."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import probe_environments
import pytest
from small_ppo import assert_same_bits, small_spec
from walk_runs import (
    WALK,
    Recorder,
    assert_same_rows,
    member,
    population,
    shared_programs,
    train,
    use_programs,
)

from escapevelocity.envs import environment_seeds
from escapevelocity.ppo import group as group_module
from escapevelocity.ppo.job import PPOJob, task_of
from escapevelocity.runs import RunFailed, read_records, start


@pytest.fixture(autouse=True)
def few_compilations(monkeypatch):
    use_programs(monkeypatch)


def fault_in(monkeypatch, **faults):
    """Make environments fail: seed_2=("reward", 40) spoils step 40 of the first environment of seed 2 in segment 0."""
    by_seed = {
        environment_seeds([int(name.removeprefix("seed_"))], 2)[0]: fault for name, fault in faults.items()
    }
    monkeypatch.setattr(probe_environments.Walk, "faults", by_seed)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("reward", "non-finite reward from the environment"),
        ("observation", "non-finite observation from the environment"),
        ("first observation", "non-finite observation from the environment"),
    ],
)
def test_a_member_that_fails_is_frozen_with_its_reason_and_the_others_do_not_notice(
    monkeypatch, kind, message
):
    # Step 40 is in batch 1, which has steps 33 to 64 of each environment.
    fault_in(monkeypatch, seed_2=(kind, 40))
    rows, states, _ = train(WALK)
    healthy_rows, healthy_states, _ = population()
    assert_same_rows([r for r in rows if r["seed"] != 2], [r for r in healthy_rows if r["seed"] != 2])
    own = [row for row in rows if row["seed"] == 2]
    assert [row["batch"] for row in own] == [0, 1]
    assert [row["fault"] for row in own] == ["", f"seed 2, batch 1: {message}"]
    np.testing.assert_array_equal(states[0].active, [True, False, True])
    np.testing.assert_array_equal(states[-1].active, [True, False, True])
    for index in (0, 2):
        assert_same_bits(member(states[-1], index), member(healthy_states[-1], index))
    # Its last good state is the one after batch 0, and stays.
    one_batch, _, snapshots = train(dataclasses.replace(WALK, steps=64), 0, 1)
    assert len(one_batch) == 3
    assert_same_bits(member(states[-1].learner.agent, 1), member(snapshots[-1][2], 1))
    assert_same_bits(member(states[-1].learner, 1), member(states[0].learner, 1))


def test_a_run_with_no_member_left_fails_with_the_last_good_states_and_the_offending_batches(monkeypatch):
    fault_in(monkeypatch, seed_1=("reward", 3), seed_2=("observation", 40), seed_3=("reward", 50))
    job, emit = PPOJob(), Recorder()
    before = job.initial_state(WALK)
    with pytest.raises(RunFailed) as failure:
        job.segment(WALK, before, 0, emit)
    assert failure.value.reason == (
        "seed 2, batch 1: non-finite observation from the environment; "
        "seed 3, batch 1: non-finite reward from the environment"
    )
    arrays = failure.value.arrays
    assert {"state-seed-2", "batch-seed-2", "state-seed-3", "batch-seed-3"} <= set(arrays)
    assert [(row["batch"], row["seed"]) for row in emit.rows] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)]
    assert np.isnan(arrays["batch-seed-3"]["rewards"][50 - 1 - 32, 0])
    assert np.isfinite(arrays["batch-seed-2"]["rewards"]).all()
    assert np.isnan(arrays["batch-seed-2"]["next_observations"][40 - 1 - 32, 0]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(arrays["state-seed-3"]))
    assert jax.tree.structure(arrays["state-seed-3"]) == jax.tree.structure(before.learner)


def test_members_that_fail_together_are_kept_and_the_others_go_on(monkeypatch):
    fault_in(monkeypatch, seed_2=("reward", 40), seed_3=("reward", 50))
    emit = Recorder()
    state = PPOJob().segment(WALK, PPOJob().initial_state(WALK), 0, emit)
    np.testing.assert_array_equal(state.active, [True, False, False])
    ((name, _, arrays),) = emit.faults
    # Not all their seeds: of a large population they have no room in a file's name.
    assert name == "seed-2-and-1-more"
    assert set(arrays) == {"state-seed-2", "batch-seed-2", "state-seed-3", "batch-seed-3"}


def test_a_failed_run_keeps_its_records_and_says_why(monkeypatch, tmp_path):
    fault_in(monkeypatch, seed_2=("reward", 40))
    spec = dataclasses.replace(WALK, seeds=(2,))
    status = start(PPOJob(), spec, tmp_path / "run")
    assert (status.state, status.exit_code) == ("failed", 1)
    assert status.why == "seed 2, batch 1: non-finite reward from the environment"
    assert [row["batch"] for row in read_records(tmp_path / "run").to_pylist()] == [0, 1]
    saved = {path.name for path in (tmp_path / "run" / "fault").iterdir()}
    assert {"state-seed-2.safetensors", "batch-seed-2.safetensors"} <= saved


def test_a_fault_inside_the_update_names_quantity_batch_and_minibatch(monkeypatch):
    spec = dataclasses.replace(WALK, seeds=(2,))
    programs = shared_programs(spec, task_of(spec))

    def prepare(*arguments):
        batch, *rest = programs.prepare(*arguments)
        return batch._replace(advantages=batch.advantages.at[:, 17].set(jnp.inf)), *rest

    monkeypatch.setattr(group_module, "build_programs", lambda spec, task: programs._replace(prepare=prepare))
    emit = Recorder()
    with pytest.raises(RunFailed, match=r"^seed 2, batch 0: non-finite loss in minibatch [0-3]$"):
        PPOJob().segment(spec, PPOJob().initial_state(spec), 0, emit)
    minibatch = int(emit.rows[0]["fault"][-1])
    assert emit.rows[0]["loss/skipped_minibatches"] == 12 - minibatch
    assert math.isnan(emit.rows[0]["trust/clip_fraction"])
    assert "trust/clip_fraction" in emit.rows[0]["health/undefined"]


def test_with_skip_a_run_goes_on_and_counts_what_it_left_out(monkeypatch):
    fault_in(monkeypatch, seed_2=("reward", 40))
    spec = small_spec(
        "softmax",
        task="EvWalk-v0",
        seeds=(2,),
        steps=64 * 6,
        monitoring={"on_nonfinite": "skip", "health_every": 0},
    )
    rows, states, _ = train(spec)
    assert [row["batch"] for row in rows] == list(range(6))
    assert [bool(row["fault"]) for row in rows] == [False, True, False, False, False, False]
    skipped = [row["loss/skipped_minibatches"] for row in rows]
    assert (
        3 <= skipped[1] <= 12
    )  # the sample comes once in each of 3 epochs, and taints others through the advantages
    assert skipped[:1] + skipped[2:] == [0] * 5
    assert states[-1].active.all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states[-1].learner))
