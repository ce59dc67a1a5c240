"""What Stable-Baselines3 really writes while it trains, read back and held against what it was given."""

import csv

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import gymnasium
import stable_baselines3.common.logger as sb3_logger
import tensorboardX
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import KVWriter, configure
from stable_baselines3.common.monitor import Monitor

from escapevelocity.interop.foreign import read_foreign
from escapevelocity.interop.sb3 import HealthCallback


class Kept(KVWriter):
    """A writer of Stable-Baselines3's that keeps what it is given."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append({**key_values, "step": step})

    def close(self):
        pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """PPO on CartPole for 2,048 steps, logged in every format at once; torch's SummaryWriter has the same methods."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sb3_logger, "SummaryWriter", tensorboardX.SummaryWriter)
        env = Monitor(gymnasium.make("CartPole-v1"), str(folder / "monitors" / "0"))
        model = PPO("MlpPolicy", env, n_steps=256, n_epochs=2, seed=1, device="cpu")
        logger = configure(str(folder / "all"), ["csv", "json", "tensorboard"])
        kept, watch = Kept(), HealthCallback()
        logger.output_formats.append(kept)
        model.set_logger(logger)
        model.learn(2048, callback=watch)
        logger.close()
        env.close()
    # The callback logs the last update at the step of the one before: of a step's values the last count.
    by_step = {}
    for row in kept.rows:
        by_step.setdefault(row["step"], {}).update(row)
    assert (len(kept.rows), len(by_step)) == (9, 8)
    return folder, list(by_step.values()), watch.rows


FORMATS = {"csv": ("progress.csv", 1e-12), "json": ("progress.json", 1e-12), "tensorboard": ("events", 1e-6)}
THEIRS = {
    # HealthCallback's own, of the episodes of a batch, which beat rollout/ep_rew_mean and train/entropy_loss.
    "perf/return_mean": ("perf/return_mean", 1),
    "perf/return_max": ("perf/return_max", 1),
    "perf/length_mean": ("perf/length_mean", 1),
    "policy/entropy": ("policy/entropy", 1),
    "loss/value": ("train/value_loss", 1),
    "trust/kl": ("trust/kl", 1),
    "health/actor/feature_rank_pca": ("health/actor/feature_rank_pca", 1),
    "health/actor/dead_neurons": ("health/actor/dead_neurons", 1),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_what_the_logger_was_given(run, kind, tmp_path):
    folder, rows, _ = run
    name, tolerance = FORMATS[kind]
    (file,) = [path for path in (folder / "all").iterdir() if path.name.startswith(name)]
    found = read_foreign(file)
    assert found is not None
    np.testing.assert_array_equal(found.records["env_steps"], [row["step"] for row in rows])
    for column, (tag, factor) in THEIRS.items():
        given = [factor * float(row.get(tag, np.nan)) for row in rows]
        np.testing.assert_allclose(found.records[column], given, rtol=tolerance, err_msg=column)


def test_the_health_of_the_callback_comes_back_as_it_was_measured(run):
    folder, _, measured = run
    found = read_foreign(folder / "all")
    assert found is not None
    assert found.context.return_episodes is None
    kept = found.records["health/actor/feature_rank_pca"]
    expected = [row["health/actor/feature_rank_pca"] for row in (*measured[:6], measured[7])]
    np.testing.assert_allclose(kept[~np.isnan(kept)], expected)


def test_the_entropy_and_the_kl_of_sb3_alone_are_read_with_their_sign(run, tmp_path):
    folder, rows, _ = run
    with (folder / "all" / "progress.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    theirs = [name for name in table[0] if name.split("/")[0] in ("time", "train", "rollout")]
    with (tmp_path / "progress.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, theirs, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    found = read_foreign(tmp_path)
    assert found is not None
    assert found.context.continuous is False
    # Without the callback the return is a running mean, and the diagnosis has to know.
    assert found.context.return_episodes == 100
    np.testing.assert_allclose(
        found.records["perf/return_mean"], [row["rollout/ep_rew_mean"] for row in rows]
    )
    pairs = {"policy/entropy": ("train/entropy_loss", -1), "trust/kl_k3": ("train/approx_kl", 1)}
    pairs["trust/ratio_outside_fraction"] = ("train/clip_fraction", 1)
    for column, (tag, sign) in pairs.items():
        given = [sign * float(row.get(tag, np.nan)) for row in rows]
        np.testing.assert_allclose(found.records[column], given, rtol=1e-6)


def test_the_episodes_of_the_monitor_are_those_of_the_run(run):
    folder, rows, _ = run
    found = read_foreign(folder / "monitors")
    assert found is not None
    records = found.records
    assert found.context.action_size == 2
    # CartPole pays 1 a step: return and length are one, and the episodes fill the run up to the last, unfinished one.
    np.testing.assert_array_equal(records["perf/return_mean"], records["perf/length_mean"])
    assert np.isclose(
        (records["perf/length_mean"] * records["perf/episodes"]).sum(), records["env_steps"][-1]
    )
    assert 2048 - 500 < records["env_steps"][-1] <= 2048
    last_hundred = rows[-1]["rollout/ep_len_mean"]
    assert records["perf/episodes"].sum() > 20
    assert records["perf/length_mean"].min() < last_hundred < records["perf/length_mean"].max()
