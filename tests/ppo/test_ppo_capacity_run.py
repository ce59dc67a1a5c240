"""Capacity loss of a run: the same numbers during training and afterwards, nothing measured twice, and bad runs."""

import dataclasses
import json
import os
import shutil

import jax
import numpy as np
import pytest
from walk_runs import WALK as WHOLE_WALK
from walk_runs import use_programs, without_times

from escapevelocity.errors import UserError
from escapevelocity.ppo import capacity
from escapevelocity.ppo.capacity import COLUMNS, CapacityConfig
from escapevelocity.ppo.capacity_data import ProbeSize
from escapevelocity.ppo.capacity_run import CapacityJob, RunCapacity, has_capacity
from escapevelocity.ppo.job import PPOJob
from escapevelocity.ppo.training import resume_training, train
from escapevelocity.runs import checkpoint, open_run, start, whole_records
from escapevelocity.runs.measured import add_measured

WALK = dataclasses.replace(WHOLE_WALK, seeds=(1, 2))
# Six batches with snapshots at the start and after each.
NUMBERS, STEPS = [0, 6, 13, 20, 26, 33, 40], [0, 64, 128, 192, 256, 320, 384]


@pytest.fixture(autouse=True, scope="module")
def small_and_compiled_once():
    with pytest.MonkeyPatch.context() as patch:
        use_programs(patch)
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(capacity, "probe_size", lambda task: ProbeSize(200, 2, 2))
        yield


@pytest.fixture(scope="module")
def measured_in_training(tmp_path_factory, small_and_compiled_once):
    path = tmp_path_factory.mktemp("runs") / "run"
    assert start(CapacityJob(path), WALK, path).state == "finished"
    return path


@pytest.fixture
def run(measured_in_training, tmp_path):
    """A copy of the run, measured in training."""
    shutil.copytree(measured_in_training, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def bare(run):
    """The same run without its measurements."""
    shutil.rmtree(run / "measured")
    return run


def measure(path, *arguments, **options):
    found = RunCapacity(path, *arguments, **options)
    for part in found.missing():
        found.measure(part)
    return found


def test_measuring_changes_nothing_that_is_computed(run, tmp_path):
    start(PPOJob(), WALK, tmp_path / "plain")
    plain, own = open_run(tmp_path / "plain"), open_run(run)
    assert (tmp_path / "plain" / "spec.json").read_bytes() == (run / "spec.json").read_bytes()
    for folder in ("checkpoints", "snapshots"):
        numbers = checkpoint.numbers(run / folder)
        assert numbers == checkpoint.numbers(tmp_path / "plain" / folder)
        for number in numbers:
            meta = [checkpoint.load_meta(path / folder, number) for path in (run, tmp_path / "plain")]
            assert meta[0]["sha256"] == meta[1]["sha256"]
    rows, others = (without_times(r.records().drop_columns(["wall_time"]).to_pylist()) for r in (own, plain))
    assert repr(rows) == repr(others)


def test_afterwards_gives_the_same_numbers_as_during_training(measured_in_training, bare):
    during, after = RunCapacity(measured_in_training).rows(), measure(bare).rows()
    assert during == after  # Bit for bit: dictionaries of floats.
    assert [(row["snapshot"], row["seed"]) for row in after] == [(n, s) for n in NUMBERS for s in WALK.seeds]
    assert sorted({row["env_steps"] for row in after}) == STEPS
    values = np.array([[row[name] for name in COLUMNS] for row in after])
    assert np.isfinite(values).all()
    assert (np.ptp(values, axis=0) > 0).all()


def test_what_was_measured_is_kept(bare):
    found = RunCapacity(bare)
    parts = found.missing()
    assert [part.snapshot.number for part in parts] == NUMBERS
    found.measure(parts[0])
    found.measure(parts[3])  # and then it was stopped
    before = found.rows()
    assert {row["snapshot"] for row in before} == {0, 20}
    again = RunCapacity(bare)
    assert [part.snapshot.number for part in again.missing()] == [6, 13, 26, 33, 40]
    few = RunCapacity(bare, snapshots=3)
    assert [saved.number for saved in few.chosen] == [0, 20, 40]
    assert [part.snapshot.number for part in few.missing()] == [40]
    assert measure(bare).missing() == []
    assert [row for row in again.rows() if row["snapshot"] in (0, 20)] == before


def test_another_probe_has_a_table_of_its_own_and_other_losses(run):
    before = RunCapacity(run).rows()
    other = measure(run, CapacityConfig("target", 5), snapshots=2)
    assert other.path == run / "measured" / "capacity-target-5.parquet"
    rows = {(row["snapshot"], row["seed"]): row for row in before}
    assert len(other.rows()) == 2 * 2
    for row in other.rows():
        assert row["capacity/actor"] != rows[row["snapshot"], row["seed"]]["capacity/actor"]
    assert RunCapacity(run).rows() == before


def test_readers_see_the_losses_on_the_rows_where_they_belong(run):
    records, _ = whole_records(run, None)
    rows = {(row["seed"], row["snapshot"]): row for row in RunCapacity(run).rows()}
    for row in records.to_pylist():
        # Before batch b: snapshot b. Behind the last batch there is none, and the last snapshot counts.
        snapshot = NUMBERS[-1] if row["batch"] == 5 else NUMBERS[row["batch"]]
        for name in COLUMNS:
            assert row[name] == rows[row["seed"], snapshot][name]
    assert not set(COLUMNS) & set(open_run(run).records().column_names)


def test_a_run_that_goes_on_is_measured_on_if_it_was_measured_before(run):
    before = RunCapacity(run).rows()
    os.remove(run / "checkpoints" / "00003.json")  # as if killed in the third segment
    damaged = [dict(row, **dict.fromkeys(COLUMNS, -1.0)) for row in before if row["snapshot"] > 26]
    add_measured(run, "capacity", damaged)
    assert resume_training(run).status.state == "finished"
    assert RunCapacity(run).rows() == before


def test_a_run_that_was_not_measured_is_not_when_it_goes_on(bare):
    os.remove(bare / "checkpoints" / "00003.json")
    assert resume_training(bare).status.state == "finished"
    assert not has_capacity(bare)


def test_training_measures_on_request(tmp_path):
    assert train(WALK, tmp_path, "measured", capacity=True).status.state == "finished"
    assert has_capacity(tmp_path / "measured")
    assert not has_capacity(tmp_path)


def test_a_damaged_snapshot_is_left_out_and_named(bare):
    path = bare / "snapshots" / "00013.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    found = measure(bare)
    assert len(found.damaged) == 1
    assert "00013.safetensors is damaged" in found.damaged[0]
    assert {row["snapshot"] for row in found.rows()} == set(NUMBERS) - {13}


def test_a_snapshot_of_another_network_shape_is_refused(bare):
    found = RunCapacity(bare)
    agents = open_run(bare).load_snapshot(13, found._like)
    wider = jax.tree.map(lambda x: np.concatenate([x, x], axis=-1), agents)
    checkpoint.save(bare / "snapshots", 13, wider, step=128)
    with pytest.raises(
        UserError, match=r"00013\.safetensors: array .* is float32\[.*\], the spec needs float32"
    ):
        measure(bare)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: shutil.rmtree(path / "snapshots"),
            "has no snapshots to measure: .* `ev resume .*` takes them$",
        ),
        (lambda path: shutil.rmtree(path / "checkpoints"), "has no whole checkpoint"),
        (lambda path: shutil.rmtree(path), "is not a folder; give a run's folder, such as runs/NAME$"),
        (lambda path: rename_job(path), "'count'"),
    ],
)
def test_what_is_no_run_with_snapshots_is_refused(bare, damage, message):
    damage(bare)
    with pytest.raises(UserError, match=message):
        RunCapacity(bare)


def rename_job(path):
    spec = json.loads((path / "spec.json").read_text())
    (path / "spec.json").write_text(json.dumps({**spec, "job": "count"}))


def test_a_single_snapshot_shows_no_change(bare):
    with pytest.raises(UserError, match=r"^snapshots = 1: must be at least 2, the first and the last$"):
        RunCapacity(bare, snapshots=1)
