"""What a history keeps of a run: which rows, in which precision, and what its settings are called."""

import dataclasses
import json
import math

import numpy as np
import pyarrow as pa

from escapevelocity.ppo.config import OptimizerConfig, PPOSpec
from escapevelocity.ppo.remedies import PFO, AdamBeta2
from escapevelocity.runs import canonical_json
from escapevelocity.study._flat import flat_settings
from escapevelocity.study._thin import thin


def toy_records(points, seeds=(1,), **columns):
    steps = np.tile(np.arange(1, points + 1) * 10, len(seeds))
    keys = {"seed": np.repeat(seeds, points), "env_steps": steps, "batch": steps // 10 - 1}
    return pa.table({**keys, **columns})


def test_every_seed_keeps_the_last_row_of_each_thousandth_of_the_run(rng):
    # 1,600 batches of 10 steps: the bins of 16 steps end at 16, 32, … and hold one batch or two.
    values = rng.normal(size=3200)
    found = thin(toy_records(1600, (7, 2), x=values), "run", "{}", 16_000).to_pylist()
    last = {}
    for seed, offset in ((2, 1600), (7, 0)):
        for index in range(1600):
            last[seed, -(-10 * (index + 1) // 16)] = (
                seed,
                10 * (index + 1),
                np.float32(values[offset + index]),
            )
    expected = [last[key] for key in sorted(last)]
    assert len(expected) == 2000
    assert [(row["seed"], row["env_steps"], np.float32(row["x"])) for row in found] == expected


def test_a_column_that_is_recorded_rarely_keeps_its_last_value_of_each_thousandth():
    # Bins of 40 steps, four batches each; capacity on batches 0 and 1 of the first, and on none of the second.
    capacity = [0.5, 0.25, None, None] + [None] * 4 + [math.nan, None, None, None]
    records = toy_records(12, capacity=pa.array(capacity, pa.float64(), from_pandas=False))
    found = thin(records, "run", "{}", 40_000)
    assert found["env_steps"].to_pylist() == [40, 80, 120]
    assert found["capacity"].to_pylist()[:2] == [0.25, None]
    assert math.isnan(found["capacity"][2].as_py())  # Undefined is not the same as not recorded.


def test_the_step_at_which_a_member_is_frozen_is_kept_for_all():
    faults = ["", "", "loss is nan", "", "", "", "", ""]
    records = toy_records(4, (1, 2), fault=pa.array(faults)).filter(
        pa.array([True] * 3 + [False] + [True] * 4)
    )
    found = thin(records, "run", "{}", 40_000).to_pylist()
    assert [(row["seed"], row["env_steps"], row["fault"]) for row in found] == [
        (1, 30, "loss is nan"),
        (2, 30, ""),
        (2, 40, ""),
    ]


def test_numbers_become_single_precision_and_finite_ones_stay_finite():
    columns = {"ratio": [1e300, -1e300, math.inf, 0.1], "count": [1, 2, 3, 2**24], "time/update": [0.0] * 4}
    records = toy_records(4, **columns, shape=pa.array([[1]] * 4), wall_time=[0.5, 1.0, 1.5, 2.0])
    found = thin(records, "run", "{}", 40)
    largest = float(np.finfo(np.float32).max)
    assert found["ratio"].to_pylist() == [largest, -largest, math.inf, float(np.float32(0.1))]
    assert found["count"].to_pylist() == [1.0, 2.0, 3.0, 2.0**24]
    names = ["run", "spec", "seed", "env_steps", "batch", "count", "ratio", "wall_time"]
    assert found.column_names == names
    assert found.schema.field("count").type == found.schema.field("ratio").type == pa.float32()


def test_large_integers_are_rounded_and_a_run_without_a_step_keeps_its_row():
    large = pa.array([2**60 + 1, None], pa.int64()), pa.array([2**64 - 1, 1], pa.uint64())
    found = thin(toy_records(2, signed=large[0], unsigned=large[1]), "run", "{}", 20)
    assert found["signed"].to_pylist() == [2.0**60, None]
    assert found["unsigned"].to_pylist() == [2.0**64, 1.0]
    still = pa.table({"env_steps": [0], "x": [1.0]})
    assert thin(still, "run", "{}", 0)["x"].to_pylist() == [1.0]


def test_settings_of_ppo_have_plain_names_and_those_of_remedies_the_remedys():
    optimizer = OptimizerConfig(epochs=20, learning_rate=1e-3)
    spec = PPOSpec(optimizer=optimizer, remedies=(PFO(coef=10.0), AdamBeta2(value=0.95)))
    found = flat_settings(json.loads(canonical_json(spec, "ppo")))
    told = {
        **{"job": "ppo", "branch": "none", "task": "Hopper-v4", "epochs": 20, "learning_rate": 1e-3},
        **{"hidden": (64, 64), "activation": "tanh", "num_envs": 2, "gamma": 0.99, "health_every": None},
        **{"remedy": "adam-beta2+pfo", "pfo.coef": 10.0, "pfo.layers": "last", "adam-beta2.value": 0.95},
    }
    assert {name: found[name] for name in told} == told
    assert "seeds" not in found
    plain = flat_settings(json.loads(canonical_json(dataclasses.replace(spec, remedies=()), "ppo")))
    assert plain["remedy"] == "none"
    assert "pfo.coef" not in plain


def test_settings_that_an_older_version_did_not_write_have_their_defaults():
    document = json.loads(canonical_json(PPOSpec(), "ppo"))
    whole = flat_settings(document)
    del document["spec"]["network"]["convolutions"]
    assert flat_settings(document) == whole
    document["spec"]["network"]["unknown"] = 1  # Of a version to come: what there is, is taken.
    assert flat_settings(document)["unknown"] == 1
