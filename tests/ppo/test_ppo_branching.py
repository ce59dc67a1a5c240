"""Branches: where their segments end, what they begin with, and what the shared past does not allow."""

import dataclasses
import json
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escapevelocity.branch_point import BranchPoint
from escapevelocity.errors import UserError
from escapevelocity.ppo.branching import (
    branch_spec,
    branch_state,
)
from escapevelocity.ppo.config import EnvironmentConfig, NetworkConfig, OptimizerConfig, PPOSpec
from escapevelocity.ppo.job import PPOJob, state_template
from escapevelocity.ppo.remedies import KLPenalty, L2Init
from escapevelocity.ppo.saved import saved_spec
from escapevelocity.ppo.training import run_path
from escapevelocity.runs import canonical_json, open_run, spec_hash, start
from escapevelocity.runs.branch_points import branch_points, last_point_before, nearest_point, placed

BATCH = 64
SPEC = PPOSpec(
    task="CartPole-v1",
    seeds=(1, 2),
    steps=BATCH * 12,
    # Segments of at least 10 × 8 steps per environment: 160 of 768 steps, so four segments of three batches.
    environment=EnvironmentConfig(
        backend="gymnasium", rollout_length=32, episode_limit=8, append_time=False, normalization="none"
    ),
    network=NetworkConfig(hidden=(4,), head="softmax"),
    optimizer=OptimizerConfig(minibatch_size=32),
    remedies=(KLPenalty(coef=3.0),),
)


class Moving(PPOJob):
    """Moves every number of the state, without training."""

    def segment(self, spec, state, k, emit):
        learner = jax.tree.map(lambda leaf: leaf + jnp.asarray(k + 1, leaf.dtype), state.learner)
        return state._replace(learner=learner, std=state.std * 2, active=jnp.asarray([True, False]))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "parent"
    start(Moving(), SPEC, path)
    return open_run(path)


def change(spec=SPEC, **changes):
    """Fields of the spec, or dicts of fields of its sections."""
    for name, value in changes.items():
        if isinstance(value, dict):
            changes[name] = dataclasses.replace(getattr(spec, name), **value)
    return dataclasses.replace(spec, **changes)


def begin(run, number, spec):
    """The state that a branch begins with."""
    branch = branch_spec(run, number, spec)
    assert branch.branch is not None
    return branch_state(branch, branch.branch, run)


def assert_equal(one, two):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for leaf, other in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(other))


@settings(deadline=None)
@given(st.data())
def test_segments_of_a_branch_end_where_the_parents_do_and_the_last_is_neither_short_nor_long(data):
    batches = data.draw(st.integers(1, 500))
    segments = data.draw(st.integers(1, min(batches, 40)))
    checkpoint = data.draw(st.integers(1, segments))
    past = batches * checkpoint // segments
    length = data.draw(st.integers(past + 1, 3 * batches))
    point = BranchPoint("", checkpoint, past, "", batches, segments)
    count = point.num_segments(length)
    edges = [point.boundary(k, length) for k in range(checkpoint, count + 1)]
    assert (edges[0], edges[-1]) == (past, length)
    assert all(a < b for a, b in pairwise(edges))
    assert edges[:-1] == [batches * k // segments for k in range(checkpoint, count)]
    # Half to one and a half times as long as the others, but for the rounding to whole batches at both ends.
    pace = batches / segments
    if count > checkpoint + 1:
        assert pace / 2 - 1 < edges[-1] - edges[-2] < 1.5 * pace + 1


def test_a_branch_as_long_as_its_parent_has_its_segments(made):
    for number in (1, 2, 3):
        branch = branch_spec(made, number, SPEC)
        assert PPOJob().segments(branch) == PPOJob().segments(SPEC) == 4
        steps = [PPOJob().step(branch, k) for k in range(number, 5)]
        assert steps == [3 * BATCH * k for k in range(number, 5)]


def test_it_begins_with_its_parents_parameters_moments_statistics_and_frozen_members(made):
    saved = made.load_checkpoint(2, state_template(SPEC))
    state = begin(made, 2, change(optimizer={"learning_rate": 1e-5}))
    assert_equal(state, saved)
    assert state.active.tolist() == [True, False]


def test_a_remedy_that_stays_as_it_is_keeps_its_state_and_any_other_is_made_as_at_the_start(made):
    start_of_both = made.load_checkpoint(0, state_template(SPEC)).learner.agent
    state = begin(made, 2, change(remedies=(L2Init(), KLPenalty(coef=3.0))))
    # β was 3 and has been moved by 1 + 2.
    np.testing.assert_array_equal(state.learner.remedies[1], [6.0, 6.0])
    assert_equal(state.learner.remedies[0], start_of_both)
    changed = begin(made, 2, change(remedies=(KLPenalty(coef=5.0),)))
    np.testing.assert_array_equal(changed.learner.remedies[0], [5.0, 5.0])
    assert begin(made, 2, change(remedies=())).learner.remedies == ()
    assert (
        begin(made, 2, change(remedies=(KLPenalty(coef=3.0), L2Init(coef=0.0)))).learner.remedies[0][0] == 6.0
    )


def test_another_activation_is_the_branchs_on_its_parents_weights(made):
    saved = made.load_checkpoint(2, state_template(SPEC))
    state = begin(made, 2, change(network={"activation": "leaky_relu"}))
    assert state.learner.agent.actor.network.activation == "leaky_relu"
    for mine, parents in zip(
        jax.tree.leaves(state.learner.agent), jax.tree.leaves(saved.learner.agent), strict=True
    ):
        np.testing.assert_array_equal(mine, parents)


def test_networks_in_a_remedys_state_take_the_branchs_activation_too(tmp_path):
    spec = change(remedies=(L2Init(),))
    start(Moving(), spec, tmp_path / "parent")
    run = open_run(tmp_path / "parent")
    other = change(spec, network={"activation": "leaky_relu"})
    state = begin(run, 2, other)
    assert jax.tree.structure(state.learner) == jax.tree.structure(state_template(other).learner)
    assert_equal(
        jax.tree.leaves(state.learner.remedies), jax.tree.leaves(begin(run, 2, spec).learner.remedies)
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"network": {"head": "escort"}}, "head = 'escort': must be the parent's, 'softmax': under another head"),
        ({"task": "Acrobot-v1"}, "task = 'Acrobot-v1': must be the parent's, 'CartPole-v1': the past is shared"),
        ({"seeds": (1, 3)}, r"seeds = \(1, 3\): must be the parent's, \(1, 2\)"),
        ({"network": {"hidden": (4, 4)}}, r"hidden = \(4, 4\): must be the parent's, \(4,\): its parameters have"),
        ({"network": {"layer_norm": True}}, "layer-norm = True: must be the parent's, False: its parameters"),
        ({"network": {"trunk": "shared"}}, "trunk = 'shared': must be the parent's, 'separate': its parameters"),
        ({"environment": {"append_time": True}}, "append-time = True: must be the parent's, False: its parameters"),
        ({"environment": {"normalization": "fixed"}}, "normalization = 'fixed': must be the parent's, 'none'"),
        (
            {"environment": {"rollout_length": 64}},
            "num-envs × rollout-length = 128: must be the parent's, 64: a branch counts its batches on",
        ),
        ({"steps": BATCH * 6}, r"steps = 384: must be at least 448, one batch more than the past .* checkpoint 2"),
    ],
)  # fmt: skip
def test_what_the_shared_past_has_decided_is_refused_by_its_name(made, changes, line):
    with pytest.raises(UserError, match=f"^{line}"):
        branch_spec(made, 2, change(**changes))


def test_another_power_of_the_escort_head_is_another_policy(tmp_path):
    escort = change(network={"head": "escort"})
    start(Moving(), escort, tmp_path / "parent")
    other = change(escort, network={"escort_p": 4.0})
    with pytest.raises(UserError, match=r"^escort-p = 4.0: must be the parent's, 2: under another power"):
        branch_spec(open_run(tmp_path / "parent"), 2, other)


def test_no_such_checkpoint_is_refused(made):
    for number in (0, 9):
        with pytest.raises(UserError, match=rf"checkpoint = {number}: must be one of 1 2 3 4, those of"):
            branch_spec(made, number, SPEC)


def test_batches_of_the_same_size_may_be_collected_otherwise(made):
    branch = branch_spec(made, 2, change(environment={"num_envs": 4, "rollout_length": 16}))
    assert branch.batch_steps == BATCH


def test_points_are_found_by_step_and_the_start_is_none(made):
    assert [point.number for point in branch_points(made)] == [1, 2, 3, 4]
    assert [nearest_point(made, float(step), "").number for step in (192, 287, 288, 289, 700, 9999)] == [
        1,
        1,
        1,
        2,
        4,
        4,
    ]
    # A branch as long as its parent cannot begin at the end, unless that is what was asked for.
    assert [nearest_point(made, float(step), "", longer=False).number for step in (100, 700, 768)] == [
        1,
        3,
        4,
    ]
    assert [last_point_before(made, step, "").number for step in (193, 384, 385)] == [1, 1, 2]
    where = r"can be branched at 0\.25 0\.5 0\.75 and at 1, its end, with more --steps"
    with pytest.raises(UserError, match=rf"at = '0\.1': before the first checkpoint; .*{where}"):
        nearest_point(made, 77.0, "0.1")
    with pytest.raises(
        UserError, match=rf"at = 'onset': step 192 lies before the first .*{where}, or train anew"
    ):
        last_point_before(made, 192, "onset")


def test_the_identity_holds_parent_and_point_but_not_where_the_parent_lies(made, tmp_path):
    two, three = branch_spec(made, 2, SPEC), branch_spec(made, 3, SPEC)
    hashes = {spec_hash(spec, "ppo") for spec in (SPEC, two, three, change(spec=two, steps=BATCH * 20))}
    assert len(hashes) == 4
    there = placed(two, tmp_path / "branch")
    assert there.branch is not None
    assert not there.branch.path.startswith("/")
    assert (tmp_path / "branch" / there.branch.path).resolve() == made.path.resolve()
    assert run_path(there) == run_path(two)
    document = json.loads(canonical_json(there, "ppo"))
    (tmp_path / "spec.json").write_text(json.dumps(document))
    assert saved_spec(tmp_path / "spec.json") == there


def test_a_branch_of_a_branch_keeps_the_first_ones_pace(made, tmp_path):
    longer = branch_spec(made, 2, change(steps=BATCH * 24))
    start(Moving(), placed(longer, tmp_path / "child"), tmp_path / "child", origin=origin(made, longer))
    child = open_run(tmp_path / "child")
    grandchild = branch_spec(child, 6, change(steps=BATCH * 24))
    assert grandchild.branch is not None
    assert (grandchild.branch.batches, grandchild.branch.segments) == (12, 4)
    assert [PPOJob().step(grandchild, k) for k in (6, 7, 8)] == [18 * BATCH, 21 * BATCH, 24 * BATCH]


@pytest.mark.parametrize("batches", [13, 17, 24])
def test_a_branch_of_a_branch_at_its_end_begins_where_that_ended(made, tmp_path, batches):
    """The last boundary of a branch need not be one of its parent's pace, three batches a segment."""
    longer = branch_spec(made, 2, change(steps=BATCH * batches))
    start(Moving(), placed(longer, tmp_path / "child"), tmp_path / "child", origin=origin(made, longer))
    child = open_run(tmp_path / "child")
    last = child.checkpoints()[-1]
    grandchild = branch_spec(child, last.number, change(steps=BATCH * 40))
    assert grandchild.branch is not None
    assert last.step == grandchild.branch.step == batches * BATCH
    assert PPOJob().step(grandchild, last.number) == last.step
    steps = [PPOJob().step(grandchild, k) for k in range(last.number, PPOJob().segments(grandchild) + 1)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 40 * BATCH


def origin(run, spec):
    from escapevelocity.ppo.branching import origin_of

    return origin_of(spec, run.path)


def test_a_parent_that_was_made_anew_is_not_taken_for_the_old_one(made, tmp_path):
    branch = branch_spec(made, 2, SPEC)
    start(PPOJobThatStays(), SPEC, tmp_path / "parent")
    assert branch.branch is not None
    with pytest.raises(UserError, match="checkpoint 2 is no longer the one that was branched from"):
        branch_state(branch, branch.branch, open_run(tmp_path / "parent"))


class PPOJobThatStays(PPOJob):
    """Leaves the state as it is."""

    def segment(self, spec, state, k, emit):
        return state


def test_a_remedy_that_nobody_registered_is_named_with_what_to_do(made, tmp_path):
    document = json.loads((made.path / "spec.json").read_text())
    document["spec"]["remedies"][0]["_type"] = "Mine"
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"remedies = 'Mine': .*not registered here; .*--import MODULE"):
        saved_spec(path)
