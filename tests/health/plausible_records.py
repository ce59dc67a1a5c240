"""Records as a trainer would write them: a healthy run that learns, and ways to make it ill from some batch on."""

import csv
from pathlib import Path

import numpy as np

from escapevelocity.health.context import Context
from escapevelocity.health.watch import Watch

GOLDEN = Path(__file__).parents[1] / "golden"
BATCH = 1000
WIDTH = 64
DISCRETE = Context(width=WIDTH, continuous=False, action_size=4)


def healthy(rows=60, seed=1, noise_seed=0, learning=True):
    """A run of `rows` batches of a layer of 64 units and 4 discrete actions; it learns for half of its length."""
    rng = np.random.default_rng(noise_seed)

    def around(values, spread):
        return np.broadcast_to(values, (rows,)) * np.exp(rng.normal(0.0, spread, rows))

    progress = np.minimum(np.arange(rows) / (rows / 2), 1.0) if learning else np.zeros(rows)
    mean = 100.0 + 400.0 * progress + rng.normal(0.0, 10.0, rows)
    return {
        "seed": np.full(rows, seed),
        "env_steps": BATCH * np.arange(1, rows + 1),
        "fault": np.full(rows, "", dtype=object),
        "perf/return_mean": mean,
        "perf/return_max": mean + np.abs(rng.normal(60.0, 10.0, rows)),
        "health/actor/feature_rank_pca": np.round(around(30.0, 0.05)),
        "health/actor/dead_neurons": np.round(around(3.0, 0.2)),
        "health/actor/preactivation_norm": around(8.0, 0.05) * (1.0 + progress),
        "policy/entropy": around(1.3 - 0.5 * progress, 0.02),
        "policy/entropy_base": around(1.3 - 0.5 * progress, 0.02),
        "policy/variance": around(0.05, 0.1),
        "value/std": around(20.0, 0.05),
        "loss/value": around(100.0, 0.2),
        "loss/skipped_minibatches": np.zeros(rows),
        "norm/actor_gradient": around(1.0, 0.2),
        "norm/critic_gradient": around(10.0, 0.2),
        "trust/kl": around(0.02, 0.1),
        "trust/clip_fraction": around(0.15, 0.1),
        "trust/ratio_below_mean": around(0.7, 0.02),
        "trust/excess_ratio": around(1.9, 0.02),
        "capacity/actor": around(0.1, 0.05),
    }


def ill(changes, at=30, rows=60, **options):
    """A healthy run in which every column of `changes` has another value from batch `at` on."""
    records = healthy(rows, **options)
    for column, value in changes.items():
        changed = records[column].copy()
        changed[at:] = value
        records[column] = changed
    return records


def onset_step(at):
    """Environment steps of batch `at`."""
    return BATCH * (at + 1)


def column(values, name="health/actor/dead_neurons", context=DISCRETE, thresholds=None):
    """Feed one column, a value a batch; give the watch and the batch at which each onset was told."""
    watch, told = Watch(thresholds, context), {}
    for batch, value in enumerate(values):
        for onset in watch.update({"env_steps": BATCH * (batch + 1), name: value}):
            told[onset.sign] = batch
    return watch, told


def golden(name):
    """Columns of a run of ours that is kept in tests/golden."""
    with open(GOLDEN / f"{name}.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    return {name: np.array(values, dtype=float) for name, values in columns.items()}


HOPPER = Context(width=64, clip_epsilon=0.2, continuous=True, action_size=3, total_steps=98_304)
