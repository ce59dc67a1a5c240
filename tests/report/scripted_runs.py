"""Runs made of given rows: real files from the real engine, without training anything."""

import dataclasses
from pathlib import Path

import numpy as np

from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import RunInfo

BATCH = 2048  # steps per batch and seed of the default spec: 2 environments × 1024


class RowsJob:
    """Emits given rows in one segment, and says it is PPO."""

    name = "ppo"

    def __init__(self, rows):
        self.rows = rows

    def segments(self, spec):
        return 1

    def step(self, spec, k):
        return k * spec.num_batches * spec.batch_size

    def initial_state(self, spec):
        return {"x": np.zeros(1)}

    def segment(self, spec, state, k, emit):
        for row in self.rows:
            if not emit(row):
                break
        return state


def make_row(seed=1, batch=0, **columns):
    """A healthy row of a layer of 64 units; a column is given as perf__return_mean=… for perf/return_mean."""
    row = {
        "seed": seed,
        "batch": batch,
        "env_steps": (batch + 1) * BATCH,
        "perf/return_mean": 100.0,
        "perf/length_mean": 50.0,
        "perf/episodes": 3,
        "policy/entropy": 1.5,
        "policy/variance": 0.25,
        "trust/kl": 0.01,
        "trust/clip_fraction": 0.125,
        "trust/ratio_min": 0.3,
        "trust/ratio_above_mean": 1.4,
        "trust/ratio_below_mean": 0.7,
        "health/actor/feature_rank_pca": 30.0,
        "health/critic/feature_rank_pca": 20.0,
        "health/actor/dead_neurons": 2.0,
        "health/actor/preactivation_norm": 8.0,
        "fault": "",
    }
    return row | {name.replace("__", "/"): value for name, value in columns.items()}


def make_spec(batches=1, seeds=(1,), **changes):
    return dataclasses.replace(PPOSpec(steps=batches * BATCH, seeds=tuple(seeds)), **changes)


def make_info(batches=100, seeds=(1,), path="runs/demo", **changes):
    spec = make_spec(batches, seeds)
    info = RunInfo(Path(path), "ppo", spec, 0, 4, 0, batches * BATCH, 0.0)
    return dataclasses.replace(info, **changes)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now
