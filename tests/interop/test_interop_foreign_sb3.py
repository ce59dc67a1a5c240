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
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import KVWriter, configure
from stable_baselines3.common.monitor import Monitor

from escapevelocity.health import Verdict, diagnose
from escapevelocity.interop._foreign_dates import dated
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
    # The callback logs the last update at the step of the one before, without a rollout of its own.
    assert [row["step"] for row in kept.rows] == [*range(256, 2049, 256), 2048]
    by_step = {}
    for row in kept.rows:
        by_step.setdefault(row["step"], {}).update(row)
    # Two epochs an update: n_updates says which one the train/ of an entry tell of.
    made = {row["train/n_updates"] // 2 - 1: row for row in kept.rows if "train/n_updates" in row}
    updates = [{**row, "train/value_loss": made[row["batch"]]["train/value_loss"]} for row in watch.rows]
    return folder, list(by_step.values()), updates


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
def test_every_format_gives_every_update_at_its_own_step(run, kind, tmp_path):
    folder, _, rows = run
    name, tolerance = FORMATS[kind]
    (file,) = [path for path in (folder / "all").iterdir() if path.name.startswith(name)]
    found = read_foreign(file)
    assert found is not None
    np.testing.assert_array_equal(found.records["env_steps"], [row["env_steps"] for row in rows])
    for column, (tag, factor) in THEIRS.items():
        given = [factor * float(row.get(tag, np.nan)) for row in rows]
        np.testing.assert_allclose(found.records[column], given, rtol=tolerance, err_msg=column)


@pytest.mark.parametrize("settings", [{"every": 2}, {"every": 3}, {"log_interval": 4}])
def test_updates_that_are_measured_or_logged_now_and_then_keep_their_own_steps(settings, tmp_path):
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=1, seed=1, device="cpu")
    model.set_logger(configure(str(tmp_path), ["csv"]))
    watch = HealthCallback(every=settings.get("every"))
    model.learn(11 * 64, callback=watch, log_interval=settings.get("log_interval", 1))
    model.logger.close()
    found = read_foreign(tmp_path)
    assert found is not None
    held = ~np.isnan(found.records["value/std"])
    np.testing.assert_array_equal(found.records["env_steps"][held], [row["env_steps"] for row in watch.rows])
    np.testing.assert_allclose(found.records["value/std"][held], [row["value/std"] for row in watch.rows])
    with (tmp_path / "progress.csv").open(newline="") as file:
        logged = [row for row in csv.DictReader(file) if row["train/n_updates"]]
    losses = {64.0 * float(row["train/n_updates"]): float(row["train/value_loss"]) for row in logged}
    known = ~np.isnan(found.records["loss/value"])
    np.testing.assert_array_equal(found.records["env_steps"][known], sorted(losses))
    np.testing.assert_allclose(found.records["loss/value"][known], [losses[step] for step in sorted(losses)])


def test_an_evaluation_in_the_middle_of_a_rollout_leaves_updates_at_their_own_steps(tmp_path):
    """`EvalCallback` writes what is there when it evaluates: the last update, and no rollout."""
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=1, seed=1, device="cpu")
    model.set_logger(configure(str(tmp_path), ["csv"]))
    watch = HealthCallback()
    evaluation = EvalCallback(
        Monitor(gymnasium.make("CartPole-v1")), n_eval_episodes=1, eval_freq=100, verbose=0
    )
    model.learn(11 * 64, callback=[watch, evaluation])
    model.logger.close()
    found = read_foreign(tmp_path)
    assert found is not None
    held = ~np.isnan(found.records["value/std"])
    np.testing.assert_array_equal(found.records["env_steps"][held], [row["env_steps"] for row in watch.rows])
    np.testing.assert_array_equal(~np.isnan(found.records["loss/value"]), held)


def test_an_update_that_broke_the_network_at_its_last_step_is_a_fault_in_the_log(tmp_path):
    class Broken(PPO):
        def train(self):
            super().train()
            if self.num_timesteps >= 64 * 8:
                with torch.no_grad():
                    self.policy.mlp_extractor.policy_net[0].weight[0, 0] = torch.nan

    model = Broken("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=1, seed=1, device="cpu")
    model.set_logger(configure(str(tmp_path), ["csv"]))
    with pytest.raises(ValueError, match="invalid values"):
        model.learn(64 * 20, callback=HealthCallback())
    model.logger.close()
    found = read_foreign(tmp_path)
    assert found is not None
    assert found.records["fault"][-1].startswith("health/parameters is nan")
    assert diagnose(found.records, found.context).verdict is Verdict.NON_FINITE


def test_the_steps_of_a_long_run_survive_tensorboards_single_precision():
    step = 2.0**24 + np.array([8193.0, 16385.0, 24577.0])
    series = {
        "time/fps": (step, np.ones(3)),
        "health/env_steps": (np.array([step[1], step[2], step[2]]), step.astype(np.float32).astype(float)),
        "train/value_loss": (np.array([step[1], step[2], step[2]]), np.arange(3.0)),
        "value/std": (np.array([step[1], step[2], step[2]]), np.arange(3.0)),
    }
    assert (series["health/env_steps"][1] != step).any()
    found = dated(series)
    for tag in ("train/value_loss", "value/std"):
        np.testing.assert_array_equal(found[tag][0], step)


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
