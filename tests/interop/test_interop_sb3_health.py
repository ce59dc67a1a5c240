"""The callback against numbers computed again from the trained policy and the rollout buffer."""

import csv
import itertools
import math

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import torch
from gymnasium import spaces
from gymnasium.wrappers import RecordEpisodeStatistics
from small_sb3 import IMAGE, VECTOR, Noise, parameters, small
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from escapevelocity import health
from escapevelocity.interop import EscortPolicy, HealthCallback

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three updates of two environments, with every log format: model, callback, folder."""
    folder = tmp_path_factory.mktemp("sb3")
    model = small(PPO, make_vec_env(Noise, 2, seed=3, env_kwargs={"actions": BOX}))
    model.set_logger(configure(str(folder), ["csv", "log", "json"]))
    watch = HealthCallback()
    model.learn(3 * 64, callback=watch)
    model.logger.close()
    return model, watch, folder


def logged_in(folder):
    with open(folder / "progress.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_update_has_a_row_of_known_columns_and_says_where_it_is(run):
    _, watch, _ = run
    assert [row["batch"] for row in watch.rows] == [0, 1, 2]
    assert [row["env_steps"] for row in watch.rows] == [64, 128, 192]
    assert {row["seed"] for row in watch.rows} == {3}
    assert all(health.metric(name) for row in watch.rows for name in row)
    assert {"health/actor/srank_after", "change/critic/features_cosine", "trust/kl"} <= set(watch.rows[0])
    assert all(row["fault"] == "" for row in watch.rows)


def test_the_last_row_is_that_of_the_trained_policy_on_the_last_rollout(run):
    model, watch, _ = run
    row, buffer, policy = watch.rows[-1], model.rollout_buffer, model.policy
    # `train` has flattened the buffer's arrays, all in the same order.
    x = torch.as_tensor(buffer.observations)
    with torch.no_grad():
        latent, latent_value = policy.mlp_extractor(x)
        distribution = policy.get_distribution(x)
        log_prob = distribution.log_prob(torch.as_tensor(buffer.actions)).double().numpy()
        inside = policy.mlp_extractor.policy_net[:3](x).double().numpy()
        first = policy.mlp_extractor.policy_net[0](x).double().numpy()
        values = policy.predict_values(x).numpy()
    for name, features in (("actor", latent), ("critic", latent_value)):
        sigma = np.linalg.svd(features.double().numpy(), compute_uv=False)
        energy = np.cumsum(sigma**2) / np.sum(sigma**2)
        share = sigma / sigma.sum()
        assert row[f"health/{name}/feature_rank_pca_after"] == 1 + np.sum(energy < 0.99)
        assert row[f"health/{name}/effective_rank_after"] == pytest.approx(
            np.exp(-np.sum(share * np.log(share))), rel=1e-5
        )
    assert row["health/actor/preactivation_norm_after"] == pytest.approx(
        np.linalg.norm(inside, axis=1).mean(), rel=1e-5
    )
    assert row["health/actor/preactivation_norm_all_after"] == pytest.approx(
        np.sqrt(np.sum(inside**2, axis=1) + np.sum(first**2, axis=1)).mean(), rel=1e-5
    )
    ratio = np.exp(log_prob - buffer.log_probs.flatten())
    advantages = buffer.advantages.flatten() - buffer.advantages.mean()
    clipped = ((ratio > 1.2) & (advantages > 0)) | ((ratio < 0.8) & (advantages < 0))
    assert 0 < clipped.mean() < 1
    assert row["trust/clip_fraction"] == clipped.mean()
    assert row["trust/ratio_mean"] == pytest.approx(ratio.mean(), rel=1e-5)
    assert row["trust/ratio_below_mean"] == pytest.approx(ratio[ratio < 0.8].mean(), rel=1e-5)
    assert row["value/std_after"] == pytest.approx(values.std(ddof=1), rel=1e-4)
    mean, std = (
        distribution.distribution.mean.detach().numpy(),
        distribution.distribution.stddev.detach().numpy(),
    )
    shown = np.concatenate([mean, std], axis=1)
    assert row["policy/variance_after"] == pytest.approx(shown.var(axis=0, ddof=1).mean(), rel=1e-4)


def test_before_is_the_policy_of_the_rollout_and_kl_is_exact():
    keep, watch = Keep(), HealthCallback()
    model = small(PPO, Noise(actions=BOX))
    model.learn(32, callback=[keep, watch])
    (row,) = watch.rows
    policy, seen = model.policy, []
    for state in (policy.state_dict(), keep.old):
        policy.load_state_dict(state)
        with torch.no_grad():
            normal = policy.get_distribution(keep.x).distribution
            features = policy.mlp_extractor.forward_actor(keep.x).numpy()
        seen.append((normal.mean.double(), normal.stddev.double(), features))
    (new_mean, new_std, new_features), (mean, std, features) = seen
    # KL(old‖new) = log σ₂/σ₁ + (σ₁² + (μ₁ − μ₂)²)/(2σ₂²) − ½, summed over dimensions.
    squares = std**2 + (mean - new_mean) ** 2
    kl = (torch.log(new_std / std) + squares / (2 * new_std**2) - 0.5).sum(-1).mean().item()
    assert kl > 1e-4
    assert row["trust/kl"] == pytest.approx(kl, rel=1e-3)
    entropy = (0.5 * torch.log(2 * torch.pi * torch.e * std**2)).sum(-1).mean().item()
    assert row["policy/entropy"] == pytest.approx(entropy, rel=1e-5)
    assert row["policy/entropy_base"] == pytest.approx(entropy, rel=1e-5)
    assert row["change/actor/features_l2"] == pytest.approx(np.mean((new_features - features) ** 2), rel=1e-4)
    shares = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    shares /= shares.sum()
    assert row["health/actor/effective_rank"] == pytest.approx(
        np.exp(-np.sum(shares * np.log(shares))), rel=1e-5
    )


def test_the_log_shows_an_update_beside_its_own_train_values_and_the_last_one_too(run):
    _, watch, folder = run
    logged = logged_in(folder)
    assert len(logged) == 4  # three rollouts, and the end
    assert logged[0]["health/actor/srank_after"] == ""
    for line, row in zip(logged[1:], watch.rows, strict=True):
        # Two epochs an update: what the third rollout shows is the second update.
        assert float(line["train/n_updates"]) == 2 * (row["batch"] + 1)
        # Returns of the batch too: Stable-Baselines3 logs a mean over the last hundred episodes.
        own = ("perf/return_mean", "perf/return_max")
        for name in ("health/actor/srank_after", "trust/kl", "policy/entropy", "time/health", *own):
            assert float(line[name]) == pytest.approx(row[name])
        assert line["health/undefined"] == row["health/undefined"]
        assert float(line["health/actor/units"]) == 64  # What dead units and ranks are counted out of.
        assert float(line["health/env_steps"]) == row["env_steps"]
    table = (folder / "log.txt").read_text()
    assert "actor/feature_rank_pca_after" in table
    assert "stable_rank" not in table  # The table stays short.


def test_returns_are_those_of_the_episodes_that_ended_in_the_rollout(run):
    model, watch, _ = run
    # Two environments, 32 steps each, episodes of 7: 4 in a rollout, then 5, then 4 (28, 63, 91 steps).
    assert [row["perf/episodes"] for row in watch.rows] == [8, 10, 8]
    episodes = list(model.ep_info_buffer)
    for row, part in zip(watch.rows, (episodes[:8], episodes[8:18], episodes[18:]), strict=True):
        assert row["perf/return_mean"] == pytest.approx(np.mean([e["r"] for e in part]))
        assert row["perf/return_max"] == max(e["r"] for e in part)
        assert row["perf/length_mean"] == 7


@pytest.mark.parametrize("settings", [{}, {"use_sde": True, "sde_sample_freq": 4}])
@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_training_with_the_callback_is_training_without_it_to_the_bit(algorithm, settings):
    runs = []
    for callback in (None, HealthCallback(every=1)):
        model = small(algorithm, Noise(actions=BOX), **settings)
        runs.append(parameters(model.learn(96, callback=callback)))
        assert model.policy.training  # as `train` left it
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


class Regularised(BaseFeaturesExtractor):
    """Has running statistics, and draws random numbers, in training mode."""

    def __init__(self, space):
        super().__init__(space, 8)
        size = int(np.prod(space.shape))
        self.layers = nn.Sequential(nn.Linear(size, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, observations):
        return self.layers(observations)


def test_a_batch_norm_and_a_dropout_train_as_without_the_callback():
    runs = []
    for callback in (None, HealthCallback(every=1)):
        model = small(PPO, Noise(actions=BOX), policy_kwargs={"features_extractor_class": Regularised})
        runs.append(parameters(model.learn(96, callback=callback)))
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


SPACES = [
    ("MlpPolicy", VECTOR, spaces.Discrete(3), {}),
    ("MlpPolicy", VECTOR, spaces.MultiDiscrete([2, 3]), {}),
    ("MlpPolicy", VECTOR, spaces.MultiBinary(2), {}),
    ("MlpPolicy", spaces.Discrete(6), spaces.Discrete(2), {}),
    ("MlpPolicy", VECTOR, BOX, {"use_sde": True, "policy_kwargs": {"squash_output": True}}),
    ("MultiInputPolicy", spaces.Dict({"a": VECTOR, "b": IMAGE}), spaces.Discrete(3), {}),
    (EscortPolicy, VECTOR, spaces.Discrete(3), {}),
]


def every_action(space):
    if isinstance(space, spaces.Discrete):
        return torch.arange(space.n)[:, None]
    ranges = [
        range(int(n)) for n in (space.nvec if isinstance(space, spaces.MultiDiscrete) else [2] * space.n)
    ]
    return torch.tensor(list(itertools.product(*ranges)), dtype=torch.float32)


class Keep(BaseCallback):
    """The policy and the observations of the last rollout, before the update."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        policy, stored = self.model.policy, self.model.rollout_buffer.observations
        self.old = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
        self.entropy = policy.evaluate_actions(*self.one_action_each(stored))[2]

    def one_action_each(self, stored):
        actions = torch.as_tensor(self.model.rollout_buffer.actions[:, 0])
        if isinstance(stored, dict):
            self.x = {key: torch.as_tensor(x[:, 0]) for key, x in stored.items()}
        else:
            self.x = torch.as_tensor(stored[:, 0])
        is_discrete = isinstance(self.model.action_space, spaces.Discrete)
        return self.x, actions.flatten() if is_discrete else actions.float()


def log_prob_of_every_action(model, x, actions):
    states = len(next(iter(x.values())) if isinstance(x, dict) else x)
    with torch.no_grad():
        each = [
            model.policy.evaluate_actions(x, action.flatten().expand(states, -1).squeeze(-1))[1]
            for action in actions
        ]
    return torch.stack(each).double()


@pytest.mark.parametrize(("policy", "observations", "actions", "settings"), SPACES)
def test_any_spaces_and_policies_are_measured(policy, observations, actions, settings):
    keep, watch = Keep(), HealthCallback()
    model = small(PPO, Noise(observations, actions), policy, **settings)
    model.learn(32, callback=[keep, watch])
    (row,) = watch.rows
    allowed = {"trust/ratio_above_mean", "trust/ratio_below_mean", "trust/excess_ratio"}
    undefined = {name for name, value in row.items() if isinstance(value, float) and math.isnan(value)}
    assert undefined <= allowed
    assert row["health/actor/preactivation_norm"] > 0
    if isinstance(actions, spaces.Box):
        assert keep.entropy is None  # Squashed: there is no closed form, −log π(a|s) stands in.
        assert row["policy/entropy"] == pytest.approx(-model.rollout_buffer.log_probs.mean(), rel=1e-4)
        return
    every = every_action(actions)
    new = log_prob_of_every_action(model, keep.x, every)
    model.policy.load_state_dict(keep.old)
    old = log_prob_of_every_action(model, keep.x, every)
    assert old.exp().sum(0).numpy() == pytest.approx(np.ones(32), rel=1e-5)
    kl = (old.exp() * (old - new)).sum(0).mean().item()
    assert kl > 1e-5
    assert row["trust/kl"] == pytest.approx(kl, rel=1e-2)
    assert row["policy/entropy"] == pytest.approx(-(old.exp() * old).sum(0).mean().item(), rel=1e-4)
    assert row["policy/entropy_base"] == pytest.approx(row["policy/entropy"], rel=1e-5)


class Head(nn.Module):
    """An action head with a hidden layer of its own."""

    def __init__(self, inputs, actions):
        super().__init__()
        self.hidden, self.out = nn.Linear(inputs, 16), nn.Linear(16, actions)

    def forward(self, latent):
        return self.out(self.hidden(latent).relu())


class Bare(nn.Module):
    """An action head that is no nn.Linear."""

    def __init__(self, inputs, actions):
        super().__init__()
        self.weight = nn.Parameter(0.01 * torch.randn(actions, inputs))

    def forward(self, latent):
        return latent @ self.weight.T


@pytest.mark.parametrize(("head", "units"), [(Head, 16), (Bare, 64)])
def test_units_are_those_of_the_layer_that_is_measured_whatever_the_head_is(head, units, tmp_path):
    class Custom(ActorCriticPolicy):
        def _build(self, lr_schedule):
            super()._build(lr_schedule)
            self.action_net = head(self.mlp_extractor.latent_dim_pi, 3)

    model, watch = small(PPO, policy=Custom), HealthCallback()
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(32, callback=watch)
    model.logger.close()
    (line,) = logged_in(tmp_path)[1:]
    assert float(line["health/actor/units"]) == units
    latent = model.policy.mlp_extractor.forward_actor(torch.as_tensor(model.rollout_buffer.observations))
    features = model.policy.action_net.hidden(latent).relu() if head is Head else latent
    rank = np.linalg.matrix_rank(features.detach().numpy())
    assert watch.rows[0]["health/actor/numerical_rank_after"] == rank <= units


def test_environments_without_a_monitor_are_warned_of_once_and_their_returns_say_why():
    model, watch = small(PPO, DummyVecEnv([Noise])), HealthCallback()
    with pytest.warns(UserWarning, match="no environment reports a return, .* wrap each") as warned:
        model.learn(64, callback=watch)
    assert len(warned) == 1
    for row in watch.rows:
        assert math.isnan(row["perf/return_mean"])
        assert "perf/episodes: no environment has a Monitor" in row["health/undefined"]


@pytest.mark.parametrize("wrap", [Monitor, RecordEpisodeStatistics])
def test_whoever_reports_returns_is_believed_and_a_rollout_without_an_end_says_so(wrap):
    model, watch = small(PPO, DummyVecEnv([lambda: wrap(Noise())]), steps=4, batch_size=4), HealthCallback()
    model.learn(8, callback=watch)  # Episodes last for seven steps.
    assert [row["perf/episodes"] for row in watch.rows] == [0, 1]
    assert "perf/length_mean: no episode ended in this rollout" in watch.rows[0]["health/undefined"]
    assert watch.rows[1]["perf/length_mean"] == 7


def test_a_batch_of_one_state_has_no_spread_and_says_so():
    watch = HealthCallback(every=1)
    small(A2C, steps=1).learn(2, callback=watch)
    told = watch.rows[0]["health/undefined"].split("; ")
    names = next(part for part in told if part.endswith(": one state has no spread"))
    assert "policy/variance, policy/variance_after, value/std, value/std_after" in names
    assert "NaN" not in watch.rows[0]["health/undefined"]
    assert watch.rows[0]["health/actor/feature_rank_pca"] == 1


@pytest.mark.parametrize("shared", [True, False])
def test_convolutional_policies_share_their_features_or_do_not(shared):
    watch = HealthCallback()
    model = small(
        PPO, Noise(IMAGE), "CnnPolicy", steps=8, batch_size=8, n_epochs=1,
        policy_kwargs={"share_features_extractor": shared, "features_extractor_kwargs": {"features_dim": 16}},
    )  # fmt: skip
    model.learn(8, callback=watch)
    (row,) = watch.rows
    for name in ("feature_rank_pca", "preactivation_norm", "preactivation_norm_all"):
        same = row[f"health/actor/{name}_after"] == row[f"health/critic/{name}_after"]
        assert same == shared or name == "feature_rank_pca"
    x = torch.as_tensor(model.rollout_buffer.observations).float() / 255
    extractor = model.policy.pi_features_extractor
    with torch.no_grad():
        hidden, maps = x, []
        for module in [*extractor.cnn, extractor.linear[0]]:
            hidden = module(hidden)
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                maps.append(hidden.flatten(1).clone())
    every = torch.cat(maps, dim=1).double().numpy()
    assert row["health/actor/preactivation_norm_all_after"] == pytest.approx(
        np.linalg.norm(every, axis=1).mean(), rel=1e-5
    )


def test_a2c_is_measured_where_its_log_is_written_and_at_the_end():
    watch = HealthCallback()
    small(A2C, steps=5).learn(12 * 5, callback=watch, log_interval=5)
    # The log of the 5th and 10th rollout shows the 4th and 9th update.
    assert [row["batch"] + 1 for row in watch.rows] == [4, 9, 12]


def test_a_run_that_goes_on_keeps_its_rows():
    model, watch = small(PPO), HealthCallback()
    model.learn(64, callback=watch)
    model.learn(32, callback=watch, reset_num_timesteps=False)
    assert [(row["batch"], row["env_steps"]) for row in watch.rows] == [(0, 32), (1, 64), (2, 96)]
    model.learn(32, callback=watch)
    assert [(row["batch"], row["env_steps"]) for row in watch.rows] == [(0, 32)]


def test_the_clip_range_is_the_models_own_unless_another_is_asked_for():
    counts = []
    for settings, epsilon in (({"clip_range": 0.01}, None), ({"clip_range": 0.01}, 0.5)):
        watch = HealthCallback(clip_epsilon=epsilon)
        small(PPO, **settings).learn(32, callback=watch)
        counts.append(watch.rows[0]["trust/ratio_outside_fraction"])
    assert counts[0] > counts[1]


def test_stop_when_sees_every_row_and_ends_training_with_its_reason(tmp_path):
    seen = []

    def stop_when(row):
        seen.append(row["batch"])
        return "representation collapse" if row["batch"] == 1 else None

    model, watch = small(PPO), HealthCallback(stop_when)
    model.set_logger(configure(str(tmp_path), ["log", "csv"]))
    model.learn(1000, callback=watch)
    model.logger.close()
    assert watch.stopped_because == "representation collapse"
    assert seen == [0, 1]
    assert model.num_timesteps == 2 * 32 + 1
    # The row that stopped it is in the log, beside the numbers of its own update.
    last = logged_in(tmp_path)[-1]
    assert float(last["value/std_after"]) == pytest.approx(watch.rows[1]["value/std_after"])
    assert (float(last["health/env_steps"]), float(last["train/n_updates"])) == (64, 4)
    assert "HealthCallback stops at step 64: representation collapse" in (tmp_path / "log.txt").read_text()


def test_parameters_that_are_not_finite_are_named_and_logged_before_the_crash(tmp_path):
    class Breaking(PPO):
        def train(self):
            super().train()
            with torch.no_grad():
                self.policy.action_net.bias[0] = torch.nan

    model, watch = small(Breaking), HealthCallback()
    model.set_logger(configure(str(tmp_path), ["csv"]))
    with pytest.raises(ValueError, match="constraint"):  # Stable-Baselines3's own, at the next action
        model.learn(1000, callback=watch)
    model.logger.close()
    (row,) = watch.rows
    assert row["fault"] == "parameters are not finite after the update: action_net.bias"
    assert math.isnan(row["trust/kl"])
    assert "log-ratios contain NaN" in row["health/undefined"]
    assert row["health/actor/feature_rank_pca_after"] > 0  # The features are still what they were.
    assert float(logged_in(tmp_path)[-1]["health/actor/feature_rank_pca_after"]) > 0


def test_what_cannot_be_measured_is_refused_before_the_first_step():
    with pytest.raises(ValueError, match="model = 'DQN': must be a stable_baselines3 PPO or A2C"):
        DQN("MlpPolicy", Noise(), device="cpu").learn(1, callback=HealthCallback())
    linear = small(PPO, policy_kwargs={"net_arch": []})
    with pytest.raises(ValueError, match="actor: nothing to measure, it has no hidden layer"):
        linear.learn(32, callback=HealthCallback())
    assert linear.num_timesteps == 0


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"every": 0}, "every = 0: must"), ({"clip_epsilon": 0}, "clip_epsilon = 0: must")],
)
def test_numbers_out_of_range_are_named(settings, match):
    with pytest.raises(ValueError, match=match):
        HealthCallback(**settings)
