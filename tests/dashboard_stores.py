"""Runs written straight to disk for the tests of the dashboard, without an engine and without training."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import Status, canonical_json
from escapevelocity.runs.checkpoint import save_arrays
from escapevelocity.runs.records import write_shard
from escapevelocity.runs.status import write_status
from escapevelocity.study.settings import with_settings

BATCH = 2048
HOSTILE = "<script>alert(1)</script>"
IMAGE = '<img src=x onerror="window.hacked=1">'


def rows(batches, seeds=(1, 2), dead=2.0, first=0):
    """Rows of a run whose return rises; `dead` of 64 neurons are dead."""
    return [
        {
            "seed": seed,
            "batch": batch,
            "env_steps": (batch + 1) * BATCH,
            "perf/return_mean": 100.0 + 10 * batch + seed,
            "policy/entropy": 1.5 - 0.01 * batch,
            "policy/entropy_base": 1.5 - 0.01 * batch,
            "policy/variance": 0.25,
            "loss/value": 1.0,
            "value/std": 1.0,
            "norm/actor_gradient": 0.5,
            "trust/kl": 0.01,
            "trust/clip_fraction": 0.125,
            "trust/ratio_above_mean": 1.4,
            "trust/ratio_below_mean": 0.7,
            "health/actor/feature_rank_pca": 30.0,
            "health/critic/feature_rank_pca": 20.0,
            "health/actor/dead_neurons": dead,
            "health/actor/preactivation_norm": 8.0,
            "fault": "",
        }
        for batch in range(first, first + batches)
        for seed in seeds
    ]


def write_run(
    folder, batches=30, seeds=(1, 2), dead=2.0, state="finished", why="", segments=1, total=None, **settings
):
    """Write a run of `batches` batches, in `segments` shards of equal length."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    total = total or batches
    spec = PPOSpec(seeds=tuple(seeds), steps=total * BATCH)
    spec = with_settings(spec, settings, ("seeds",)) if settings else spec
    (folder / "spec.json").write_text(canonical_json(spec, "ppo"))
    each = batches // segments
    for segment in range(segments):
        own = rows(each, seeds, dead, segment * each)
        write_shard(folder, segment, [{**row, "segment": segment, "wall_time": 1.0} for row in own])
    commit(folder, segments)
    set_status(folder, state, why, batches, total)
    return folder


def commit(folder, segments=1):
    """Let a checkpoint vouch for the first shards, as training does; `read_records` asks for it."""
    shards = [folder / "records" / f"{segment:05d}.parquet" for segment in range(segments)]
    sums = {str(k): hashlib.sha256(shard.read_bytes()).hexdigest() for k, shard in enumerate(shards)}
    lineage = {"spec_hash": "x", "parent": None}
    arrays = {
        ".agent.actor.network.biases[2]": np.zeros(6)
    }  # Three actions, each with a mean and a deviation.
    save_arrays(folder / "checkpoints", segments, arrays, 0, {"records": sums, "lineage": lineage})


def set_status(folder, state="running", why="", batches=30, total=30):
    done = batches * BATCH
    write_status(folder, Status(state, why, 1, 1, done, total * BATCH, 60.0, host="here", pid=1))


def add_shard(folder, segment, batches=10, seeds=(1, 2), dead=2.0):
    """Let a run go on by a segment of `batches` batches, as training does: a shard, then the status."""
    own = rows(batches, seeds, dead, segment * batches)
    write_shard(folder, segment, [{**row, "segment": segment, "wall_time": 1.0} for row in own])


def compact(folder):
    """Put a finished run's shards into one file, as its end does."""
    from escapevelocity.runs import _shards
    from escapevelocity.runs.records import _concat, _read

    paths = sorted((folder / "records").glob("[0-9]*.parquet"))
    _shards.write_compact(folder / "records", _concat([_read(path) for path in paths]), len(paths))
    for path in paths:
        path.unlink()


def hostile_store(root):
    """A store whose names, reasons and settings are HTML, and whose folders are damaged in several ways."""
    root = Path(root)
    good = write_run(root / HOSTILE.replace("/", "\u2215"), state="failed", why=IMAGE)
    text = (good / "spec.json").read_text()
    (good / "spec.json").write_text(
        text.replace('"Hopper-v4"', '"<b>task</b>"').replace('"tanh"', '"<i>act"')
    )
    for name, spec, status in (
        ("no-json", "{", "{}"),
        ("deep", "[" * 100_000, "{}"),
        ("list", "[]", "[]"),
        ("binary", "\udcff", "x"),
    ):
        (root / name).mkdir()
        (root / name / "spec.json").write_bytes(spec.encode("utf-8", "surrogateescape"))
        (root / name / "status.json").write_text(status)
    odd = write_run(root / "odd-seeds")
    (odd / "spec.json").write_text((odd / "spec.json").read_text().replace('"seeds": [', '"seeds": ["<u>", '))
    torn = write_run(root / "torn-records")
    (torn / "records" / "00000.parquet").write_bytes(b"PAR1" + b"\0" * 50 + b"PAR1")
    shutil.copytree(good, root / "outside" / "x", dirs_exist_ok=True)
    return good


@dataclasses.dataclass
class Clock:
    """A clock that goes when it is told to."""

    now: float = 0.0

    def __call__(self):
        return self.now
