import dataclasses
from pathlib import Path

import numpy as np
import pytest
import studies.sb3_replication
from studies.sb3_replication.figure import draw
from studies.sb3_replication.outcomes import DEAD, LOW_RATIO, NORM, RANK, RETURN, outcomes
from studies.sb3_replication.page import page
from studies.sb3_replication.plan import OURS, SB3

from escapevelocity.study.history import History, RunArrays, read_history

HERE = Path(studies.sb3_replication.__file__).parent
POINTS, SEEDS = 100, (1, 2, 3)
STEPS = 2048.0 * np.arange(1, POINTS + 1)


def run_of(job, rate, rank, dead, returns):
    settings = {
        "job": job,
        "task": "Hopper-v4",
        "steps": 204_800,
        "learning_rate": rate,
        "epochs": 20,
        "activation": "relu",
        "hidden": (64, 64),
        "num_envs": 2,
        "rollout_length": 1024,
    }
    flat = np.ones((len(SEEDS), POINTS))
    columns = {
        RETURN: np.tile(returns, (len(SEEDS), 1)),
        RANK: rank * flat,
        DEAD: dead * flat,
        NORM: np.tile(np.linspace(2, 20, POINTS), (len(SEEDS), 1)),
        LOW_RATIO: 0.5 * flat,
        "wall_time": 360 * flat,
    }
    return RunArrays(f"{job}-{rate:g}", settings, SEEDS, STEPS, columns)


@pytest.fixture
def history(kill):
    """At 0.01 theirs lose features and return halfway, and ours features; at 0.001 all are well, then ours die."""
    rising = np.linspace(0, 1000, POINTS)
    falling = np.where(np.arange(POINTS) < 50, rising, 50.0)
    grown = History.from_arrays(
        [
            run_of(SB3, 0.01, rank=4, dead=20, returns=falling),
            run_of(OURS, 0.01, rank=20, dead=40, returns=rising),
            run_of(SB3, 0.001, rank=30, dead=1, returns=rising),
            run_of(OURS, 0.001, rank=30, dead=1, returns=rising),
        ]
    )
    # All seeds of ours die at 0.001, so that this run has failed.
    return kill(grown, {f"{OURS}-0.001": dict.fromkeys(SEEDS, 60 * 2048)})


def test_illness_and_loss_are_read_off_the_curves(history):
    found = {(one.job, one.setting.learning_rate): one for one in outcomes(history)}
    theirs, ours = found[SB3, 0.01], found[OURS, 0.01]
    assert (theirs.ill, theirs.collapsed) == ([1, 2, 3], [1, 2, 3])  # A rank of 4.
    assert (ours.ill, ours.collapsed) == ([1, 2, 3], [])  # 40 of 64 units dead.
    well = found[SB3, 0.001]
    assert (well.ill, well.collapsed) == ([], [])
    # The last twentieth of 0 … 1,000 in 100 points: points 95 to 99, mean 97/99 of 1,000; the window at 0.95 of the
    # steps or later holds 94 too.
    assert well.final[1] == pytest.approx(1000 * 96.5 / 99)
    assert well.best[1] == pytest.approx(1000 * 97 / 99, rel=1e-2)
    # 2 to 20 in 100 points: the start is the mean of three.
    assert well.growth[1] == pytest.approx((2 + 18 * 96.5 / 99) / (2 + 18 * 1 / 99))
    # The return falls at point 50; the centred mean of ten batches smears it by up to five of them.
    assert theirs.lost[1] == pytest.approx(51 * 2048, abs=6 * 2048)


def test_a_run_whose_numbers_stopped_being_finite_is_ill(history):
    found = {(one.job, one.setting.learning_rate): one for one in outcomes(history)}
    stopped = found[OURS, 0.001]
    assert set(stopped.died.values()) == {60 * 2048.0}
    assert stopped.ill == stopped.broken == stopped.collapsed == [1, 2, 3]
    assert set(stopped.lost.values()) == {60 * 2048.0}
    # Nothing is returned any more; the representation is read over the last twentieth of 60 points.
    assert set(stopped.final.values()) == {0.0}
    assert set(stopped.rank.values()) == {30.0}
    # Norms of 2 to 20 in 100 points: the last are points 56 to 59.
    assert stopped.growth[1] == pytest.approx((2 + 18 * 57.5 / 99) / (2 + 18 * 1 / 99))
    assert found[SB3, 0.01].broken == []


def test_a_seed_that_died_counts_alike_for_both_trainers(kill):
    runs = [run_of(job, 0.01, rank=30, dead=1, returns=np.full(POINTS, 700.0)) for job in (SB3, OURS)]
    alone = [
        runs[0]._replace(
            name=f"{SB3}-seed-{seed}", seeds=(seed,), columns={k: v[:1] for k, v in runs[0].columns.items()}
        )
        for seed in SEEDS
    ]
    history = History.from_arrays([*alone, runs[1]])
    theirs, ours = outcomes(kill(history, {f"{SB3}-seed-2": {2: 30 * 2048}, runs[1].name: {2: 30 * 2048}}))
    assert repr(dataclasses.replace(ours, job=SB3)) == repr(
        theirs
    )  # Every number; NaN is not equal to itself.
    assert (ours.ill, ours.final) == ([2], pytest.approx({1: 700.0, 2: 0.0, 3: 700.0}))


def test_the_page_and_the_figure_hold_both_trainers(history, tmp_path):
    text = page(history, repetitions=200)
    assert "Stable-Baselines3: 6 runs of 2 settings, 0.2 core-hours; 3 end with an ill" in text
    assert (
        "relu, rate 0.01, 20 epochs, 205k steps: Stable-Baselines3 | 3 | 3 of 3 [44 %, 100 %] | 4.0" in text
    )
    # Rank 4 against 20, 20 dead against 40, and no spread between seeds.
    assert "-16.0 [-16.0, -16.0] | -20.0 [-20.0, -20.0] | 1.00 [1.00, 1.00]" in text
    # All six runs at 0.01 are ill. At 0.001 three of three against none: 2 · 3!·3!/6! = 0.1.
    assert "relu, rate 0.01, 20 epochs, 205k steps | replicated |" in text
    assert "relu, rate 0.001, 20 epochs, 205k steps | only escapevelocity (p = 0.1) |" in text
    assert (
        "escapevelocity: 6 runs of 2 settings, 0.2 core-hours; 6 end with an ill representation, 3 have lost"
        in text
    )
    assert "3 were ended by numbers that are not finite" in text
    draw(history, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["replication-relu.png"]


def test_before_any_run_the_page_says_so(history):
    assert page(history.where(epochs=7)) == "No run has come to its end yet."


def test_the_page_says_what_the_kept_history_says():
    text = (HERE / "README.md").read_text(encoding="utf-8")
    kept = text.split("<!-- numbers:start -->")[1].split("<!-- numbers:end -->")[0]
    assert kept.strip() == page(read_history(HERE / "history.parquet")).strip()
