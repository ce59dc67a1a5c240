"""Adaptive sampling as a job: what a run records, that it repeats itself, resumes, branches and freezes."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from escapevelocity.errors import UserError
from escapevelocity.health import METRICS
from escapevelocity.metric_learning import job as job_module
from escapevelocity.metric_learning.branching import branch_spec
from escapevelocity.metric_learning.config import ControllerConfig, LearnerConfig, SamplerConfig
from escapevelocity.metric_learning.job import ASRJob, split_of
from escapevelocity.metric_learning.presets import preset_spec
from escapevelocity.metric_learning.starts import start_masses
from escapevelocity.metric_learning.training import load_network, resume_training, run_path, saved_spec, train
from escapevelocity.runs import Observer, open_run

PERIODS, EVERY = 4, 3
CLOCK = ("wall_time", "time/")


def spec_of(seeds=(1, 2), **changes):
    """Digits, five classes of eight images, four periods of three steps in two segments."""
    spec = preset_spec("digits", seeds)
    return dataclasses.replace(
        spec,
        **{
            "steps": PERIODS * EVERY,
            "learner": LearnerConfig(batch_size=40, per_class=8, embedding_dim=16),
            "controller": ControllerConfig(every=EVERY, hidden=(8,)),
            "test_every": 2,
            **changes,
        },
    )


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    """Two periods in a segment; ten would make these runs long."""
    from escapevelocity.metric_learning import config

    monkeypatch.setattr(config, "PERIODS_PER_SEGMENT", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        from escapevelocity.metric_learning import config

        patch.setattr(config, "PERIODS_PER_SEGMENT", 2)
        return train(spec_of(), tmp_path_factory.mktemp("asr"), "whole")


def rows(run, seed=None):
    """A run's records without the clock, as text, so that NaN equals itself; the order of columns does not count."""
    found = [row for row in open_run(run.path).records().to_pylist() if seed in (None, row["seed"])]
    return [repr(sorted((k, v) for k, v in row.items() if not k.startswith(CLOCK))) for row in found]


def test_there_is_a_row_for_every_seed_and_period(whole):
    table = whole.records()
    assert whole.status.state == "finished"
    assert table["batch"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["seed"].to_pylist() == [1, 2] * PERIODS
    assert table["env_steps"].to_pylist() == [3, 3, 6, 6, 9, 9, 12, 12]
    assert table["segment"].to_pylist() == [0] * 4 + [1] * 4


def test_every_column_is_defined_in_the_table_of_metrics(whole):
    known = {column for metric in METRICS for column in metric.columns()}
    assert set(whole.records().column_names) <= known


def test_the_controllers_numbers_are_finite(whole):
    assert set(whole.records()["asr/controller_finite"].to_pylist()) == {1.0}


def test_the_first_period_draws_by_the_start_and_later_ones_by_what_the_agent_made_of_it(whole):
    first, *later = (row["asr/distribution"] for row in whole.records().to_pylist() if row["seed"] == 1)
    start = start_masses("broad", SamplerConfig(), 16)
    np.testing.assert_allclose(first, start / start.sum(), rtol=1e-6)
    for before, after in zip([first, *later], later, strict=False):
        factors = np.array(after) / np.array(before)
        # Each mass was multiplied by 0.8, 1 or 1.25, and all then divided by one sum.
        ratios = factors[:, None] / factors[None, :]
        allowed = np.array([0.64, 0.8, 1.0, 1.25, 1.5625])
        assert np.abs(ratios[..., None] / allowed - 1).min(axis=-1).max() < 1e-4
        assert np.ptp(factors) > 0.1


def test_test_classes_are_measured_at_their_interval_after_the_first_period_and_at_the_end(whole):
    measured = [
        row["batch"]
        for row in whole.records().to_pylist()
        if row["seed"] == 1 and row["test/recall_at_1"] is not None
    ]
    assert measured == [0, 1, 3]
    assert all(0 <= row["validation/recall_at_1"] <= 1 for row in whole.records().to_pylist())


def test_a_step_draws_one_negative_for_every_anchor(whole):
    for row in whole.records().to_pylist():
        assert sum(row["asr/drawn"]) == 40 * EVERY


def test_a_member_of_a_population_is_the_run_of_its_seed_alone(whole, tmp_path):
    alone = train(spec_of(seeds=(2,)), tmp_path, "alone")
    assert rows(alone) == rows(whole, seed=2)
    assert rows(whole, seed=1) != [row.replace("('seed', 2)", "('seed', 1)") for row in rows(alone)]


class StopAt(Observer):
    """Stops a run at a row."""

    reason = "enough"

    def __init__(self, number):
        self.left = number

    def on_row(self, row):
        self.left -= 1
        return self.left > 0


def test_a_run_that_was_stopped_and_resumed_is_the_one_that_never_was(whole, tmp_path):
    stopped = train(spec_of(), tmp_path, "stopped", [StopAt(7)])
    assert (stopped.status.state, stopped.status.segments_done) == ("interrupted", 1)
    resumed = resume_training(stopped.path)
    assert resumed.status.state == "finished"
    assert rows(resumed) == rows(whole)
    for number in (1, 2):
        one, other = (open_run(run.path).arrays(number) for run in (whole, resumed))
        assert one.keys() == other.keys()
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_a_branch_without_a_change_is_its_parents_future_and_another_start_is_drawn_by_at_once(
    whole, tmp_path
):
    same = train(branch_spec(open_run(whole.path), 1, saved_spec(whole.path)), tmp_path, "same")
    assert rows(same) == rows(whole)[4:]
    changed = dataclasses.replace(
        saved_spec(whole.path), sampler=dataclasses.replace(SamplerConfig(), init="narrow")
    )
    other = train(branch_spec(open_run(whole.path), 1, changed), tmp_path, "other")
    start = start_masses("narrow", SamplerConfig(), 16)
    drawn_by = other.records().to_pylist()[0]["asr/distribution"]
    np.testing.assert_allclose(drawn_by, start / start.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": (3,)}, "seeds = .*the parent's"),
        ({"learner": LearnerConfig(embedding_dim=8, batch_size=40, per_class=8)}, "embedding-dim = 8"),
        ({"sampler": SamplerConfig(bins=10)}, "bins = 10"),
        ({"steps": 6}, "steps = 6: must be at least 9"),
        (
            {"learner": LearnerConfig(batch_size=40, per_class=8, embedding_dim=16, beta=0.6)},
            "beta = 0.6: must be the parent's, 1.2",
        ),
    ],
)
def test_what_the_shared_past_has_decided_cannot_be_changed(whole, change, said):
    with pytest.raises(UserError, match=said):
        branch_spec(open_run(whole.path), 1, dataclasses.replace(saved_spec(whole.path), **change))


def test_another_width_of_the_initial_weights_begins_with_a_new_policy(whole, tmp_path):
    old = saved_spec(whole.path)
    wide = dataclasses.replace(old, controller=dataclasses.replace(old.controller, weight_std=1.0))
    branch = train(branch_spec(open_run(whole.path), 1, wide), tmp_path, "wide")
    # Its first period draws by the parent's masses; its first decision is the new policy's.
    first, last = (branch.records().to_pylist()[index] for index in (0, -1))
    parents = whole.records().to_pylist()
    assert first["asr/distribution"] == parents[4]["asr/distribution"]
    assert first["asr/policy_entropy"] != parents[4]["asr/policy_entropy"]
    assert last["asr/policy_entropy"] != parents[-1]["asr/policy_entropy"]


def test_a_branch_that_is_paid_by_another_measure_is_paid_for_the_change_of_that_measure(whole, tmp_path):
    old = saved_spec(whole.path)
    paid = dataclasses.replace(old.controller, reward="change", reward_weights=(0.0, 0.0, 0.0, 0.0, 1.0))
    spec = dataclasses.replace(old, controller=paid)
    branch = train(branch_spec(open_run(whole.path), 1, spec), tmp_path, "paid")
    before = {row["seed"]: row for row in whole.records().to_pylist() if row["batch"] == 1}
    first = [row for row in branch.records().to_pylist() if row["batch"] == 2]
    assert len(first) == 2
    for row in first:
        change = row["validation/nmi"] - before[row["seed"]]["validation/nmi"]
        assert row["asr/reward"] == pytest.approx(change, abs=1e-6)


def test_members_side_by_side_have_a_thread_of_blas_each_and_leave_the_limit_as_it_was(tmp_path, monkeypatch):
    def blas():
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    seen, real = [], job_module.run_period

    def run_period(*arguments):
        done = real(*arguments)
        seen.append(blas())
        return done

    monkeypatch.setattr(job_module, "run_period", run_period)
    with threadpool_limits(2, user_api="blas"):
        before = blas()
        train(spec_of(), tmp_path, "run", [StopAt(3)])
        assert blas() == before == {2}
    assert seen
    assert all(limits == {1} for limits in seen)


def test_a_run_goes_on_from_another_folder_and_after_its_images_have_moved(tmp_path, monkeypatch):
    """The digits need no files, so any folder will do."""
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    run = train(spec_of(data_dir=Path("images")), tmp_path, "run", [StopAt(7)])
    assert saved_spec(run.path).data_dir == tmp_path / "images"
    (tmp_path / "images").rmdir()
    assert saved_spec(run.path).data_dir is None
    assert resume_training(run.path).status.state == "finished"


def test_the_file_of_weights_is_in_the_provenance_and_not_needed_to_load_what_was_trained(
    tmp_path, monkeypatch
):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights")
    spec = spec_of(learner=LearnerConfig(backbone="resnet50", weights=str(path), batch_size=40, per_class=8))
    inputs = ASRJob().inputs(spec)
    assert inputs["weights"] == f"sha256 {hashlib.sha256(b'weights').hexdigest()[:16]}"
    path.write_bytes(b"others")
    assert ASRJob().inputs(spec)["weights"] != inputs["weights"]
    path.unlink()
    with pytest.raises(UserError, match=r"weights = '.*weights\.safetensors': No such file"):
        ASRJob().inputs(spec)
    asked = []
    monkeypatch.setattr(job_module, "make_learner", lambda config, *given: asked.append(config.weights))
    ASRJob().template(spec)
    assert asked == [None, None]


def test_the_images_are_in_the_provenance_and_a_run_goes_on_with_no_others(whole, tmp_path, monkeypatch):
    (session,) = json.loads((whole.path / "provenance.json").read_text())["sessions"]
    # 901 digits below 5, of which two classes of five validate, and 896 from 5 on.
    counts = re.match(r"(\d+) \+ (\d+) \+ 896, sha256 [0-9a-f]{16}$", session["input/images"])
    assert counts is not None
    assert int(counts[1]) + int(counts[2]) == 901
    stopped = train(spec_of(), tmp_path, "stopped", [StopAt(7)])
    monkeypatch.setattr(job_module, "digest", lambda part: "other images")
    job_module._described.cache_clear()
    said = "images = .* must be those it has learned from, " + re.escape(session["input/images"])
    with pytest.raises(UserError, match=said):
        resume_training(stopped.path)
    with pytest.raises(UserError, match=said):
        train(branch_spec(open_run(whole.path), 1, saved_spec(whole.path)), tmp_path, "branch")
    monkeypatch.undo()
    job_module._described.cache_clear()


def test_a_controller_whose_outputs_overflow_is_told(tmp_path):
    broken = ControllerConfig(every=EVERY, hidden=(8,), weight_std=1e30)
    run = train(spec_of(seeds=(1,), controller=broken), tmp_path)
    assert run.records()["asr/controller_finite"].to_pylist() == [0.0] * PERIODS


@pytest.mark.parametrize("name", ["random", "semihard", "hard", "distance"])
def test_a_fixed_sampler_has_neither_distribution_nor_controller(name, tmp_path):
    # A start that nothing reads is no mistake: the default, 0.75, lies below this support.
    spec = spec_of(seeds=(1,), steps=EVERY, sampler=SamplerConfig(sampler=name, low=0.8))
    run = train(spec, tmp_path)
    (row,) = run.records().to_pylist()
    assert "asr/distribution" not in row
    assert "asr/reward" not in row
    assert np.isfinite(row["loss/embedding"])
    assert run.path.name.startswith("asr-digits-")


def test_a_curriculum_changes_its_distribution_at_its_share_of_the_periods(tmp_path):
    sampler = SamplerConfig(sampler="curriculum", init="narrow", then="broad", switch_at=0.5)
    run = train(spec_of(seeds=(1,), sampler=sampler), tmp_path)
    means = [row["asr/distance_mean"] for row in run.records().to_pylist()]
    assert means == pytest.approx([means[0]] * 2 + [means[-1]] * 2)
    assert means[-1] > means[0] + 0.1


def test_the_member_whose_numbers_are_not_finite_is_frozen_and_the_other_goes_on(tmp_path, monkeypatch):
    begin = job_module._initial_member

    def sick(spec, split, seed):
        member = begin(spec, split, seed)
        if seed != 1:
            return member
        broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), member.learner.network)
        return member._replace(learner=member.learner._replace(network=broken))

    monkeypatch.setattr(job_module, "_initial_member", sick)
    run = train(spec_of(), tmp_path, "sick")
    assert run.status.state == "finished"
    table = run.records().to_pylist()
    assert [row["seed"] for row in table] == [1, 2, 2, 2, 2]
    assert table[0]["fault"].startswith("seed 1, period 0: training step 0: loss nan")
    assert json.loads(next((run.path / "fault").glob("*.json")).read_text())
    alone = train(spec_of(seeds=(1,)), tmp_path, "alone")
    assert alone.status.state == "failed"
    assert "seed 1, period 0" in alone.status.why


def test_steps_that_are_not_finite_are_skipped_and_counted_where_that_is_asked_for(tmp_path):
    learner = LearnerConfig(batch_size=40, per_class=8, embedding_dim=16, learning_rate=1e30)
    run = train(spec_of(seeds=(1,), steps=EVERY, learner=learner, on_nonfinite="skip"), tmp_path)
    (row,) = run.records().to_pylist()
    assert row["asr/skipped_steps"] > 0


def test_a_network_is_loaded_as_it_was_at_the_end(whole):
    spec, network, steps = load_network(whole.path, 2)
    assert (spec.seeds, steps) == ((1, 2), PERIODS * EVERY)
    arrays = open_run(whole.path).arrays(2)
    leaves = jax.tree.leaves(network)
    kept = [value for name, value in arrays.items() if name.startswith(".members[1].learner.network")]
    assert len(leaves) == len(kept)
    assert {np.asarray(leaf).tobytes() for leaf in leaves} == {value.tobytes() for value in kept}
    with pytest.raises(UserError, match="seed = 9: must be one of 1 2"):
        load_network(whole.path, 9)


def test_a_batch_that_wants_more_classes_than_there_are_is_told_before_anything_is_written(tmp_path):
    learner = LearnerConfig(batch_size=112, per_class=4)
    with pytest.raises(UserError, match="28"):
        train(spec_of(learner=learner), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_cannot_be_read_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"init = 'braod'.*broad"):
        train(spec_of(sampler=SamplerConfig(init="braod")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_train_and_test_classes_have_nothing_in_common():
    split = split_of(spec_of())
    assert set(split.train.classes) & set(split.test.classes) == set()
    assert run_path(spec_of(), "runs").parent.name == "runs"
    assert ASRJob().segments(spec_of()) == 2
