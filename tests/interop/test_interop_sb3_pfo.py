"""PFO inside Stable-Baselines3: nothing at coefficient 0, and else the gradient of the whole loss, written out."""

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import torch
from gymnasium import spaces
from small_sb3 import IMAGE, Noise, parameters, small
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from escapevelocity.interop import PFOPPO, HealthCallback

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize("settings", [{}, {"ent_coef": 0.01, "target_kl": 0.01, "clip_range_vf": 0.2}])
def test_coefficient_0_is_ppo_to_the_bit(settings):
    plain = parameters(small(PPO, Noise(actions=BOX), **settings).learn(96))
    zero = parameters(small(PFOPPO, Noise(actions=BOX), pfo_coef=0, **settings).learn(96))
    for one, other in zip(plain, zero, strict=True):
        np.testing.assert_array_equal(one, other)


def preactivations(policy, x):
    net = policy.mlp_extractor.policy_net
    first = net[0](x)
    return [first, net[2](torch.tanh(first))]


@pytest.mark.parametrize("layers", ["last", "all"])
def test_an_update_is_that_of_the_loss_written_out(layers):
    # Plain gradient steps, one epoch of two minibatches: in the first one nothing has moved yet.
    settings = {
        "n_epochs": 1,
        "learning_rate": 0.5,
        "max_grad_norm": 1e9,
        "policy_kwargs": {"optimizer_class": torch.optim.SGD},
    }
    model = small(PFOPPO, Noise(actions=BOX), pfo_coef=3.0, pfo_layers=layers, **settings)
    twin = small(PPO, Noise(actions=BOX), **settings)
    minibatches = []

    def get(batch_size):
        for minibatch in type(model.rollout_buffer).get(model.rollout_buffer, batch_size):
            minibatches.append(minibatch)
            yield minibatch

    model.rollout_buffer.get = get
    model.learn(32)
    policy = twin.policy
    old = [[x.detach() for x in preactivations(policy, m.observations)] for m in minibatches]
    penalties = []
    for m, before in zip(minibatches, old, strict=True):
        values, log_prob, _ = policy.evaluate_actions(m.observations, m.actions)
        advantages = (m.advantages - m.advantages.mean()) / (m.advantages.std() + 1e-8)
        ratio = torch.exp(log_prob - m.old_log_prob)
        objective = torch.min(advantages * ratio, advantages * torch.clamp(ratio, 0.8, 1.2)).mean()
        value = torch.nn.functional.mse_loss(m.returns, values.flatten())
        moved = [a - b for a, b in zip(preactivations(policy, m.observations), before, strict=True)]
        penalty = (moved[-1] if layers == "last" else torch.cat(moved, dim=1)).square().mean()
        penalties.append(penalty.item())
        policy.optimizer.zero_grad()
        (-objective + 0.5 * value + 3.0 * penalty).backward()
        policy.optimizer.step()
    assert penalties[0] == 0 < penalties[1]
    for one, other in zip(parameters(model), parameters(twin), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert model.logger.name_to_value["train/pfo_loss"] == pytest.approx(np.mean(penalties), rel=1e-4)


def test_a_large_coefficient_holds_the_actors_preactivations_and_leaves_the_critic_free():
    rows = []
    for coefficient in (0.0, 100.0):
        watch = HealthCallback()
        small(PFOPPO, Noise(actions=BOX), pfo_coef=coefficient, n_epochs=8).learn(32, callback=watch)
        rows.append(watch.rows[0])
    assert rows[1]["change/actor/preactivations_l2"] < 0.1 * rows[0]["change/actor/preactivations_l2"]
    assert rows[1]["change/critic/preactivations_l2"] > 0.5 * rows[0]["change/critic/preactivations_l2"]


def test_convolutional_layers_are_held_too():
    kwargs = {"features_extractor_kwargs": {"features_dim": 16}}
    model = small(
        PFOPPO, Noise(IMAGE), "CnnPolicy", steps=8, batch_size=8, pfo_layers="all", policy_kwargs=kwargs
    )
    model.learn(8)
    assert model.logger.name_to_value["train/pfo_loss"] > 0


class Dropped(BaseFeaturesExtractor):
    """A batch norm and a dropout, which draws."""

    def __init__(self, space):
        super().__init__(space, 8)
        self.layers = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5))

    def forward(self, observations):
        return self.layers(observations)


class DroppedMlp(ActorCriticPolicy):
    """A dropout between the hidden layers too."""

    def _build_mlp_extractor(self):
        super()._build_mlp_extractor()
        self.mlp_extractor.policy_net.insert(2, nn.Dropout(0.5))


@pytest.mark.parametrize("shared", [True, False])
def test_a_dropout_draws_the_same_for_both_sides_and_draws_no_more_than_without_the_penalty(shared):
    # No step is taken: nothing has moved, and the penalty must be 0.
    kwargs = {"features_extractor_class": Dropped, "share_features_extractor": shared}
    drawn = []
    for algorithm in (PPO, PFOPPO):
        model = small(algorithm, policy=DroppedMlp, learning_rate=0.0, policy_kwargs=kwargs).learn(32)
        drawn.append(torch.get_rng_state())
    assert model.logger.name_to_value["train/pfo_loss"] == 0
    assert torch.equal(*drawn)


def test_training_leaves_the_policy_as_it_was_and_a_saved_model_keeps_its_settings(tmp_path):
    model = small(PFOPPO, pfo_coef=2.5, pfo_layers="all").learn(32)
    assert "evaluate_actions" not in model.policy.__dict__
    assert not model.policy.action_net._forward_pre_hooks
    model.save(tmp_path / "model.zip")
    loaded = PFOPPO.load(tmp_path / "model.zip", env=Noise(), device="cpu")
    assert (loaded.pfo_coef, loaded.pfo_layers) == (2.5, "all")
    assert loaded.learn(32).num_timesteps == 32


def test_an_actor_without_a_known_activation_is_refused_and_left_as_it_was():
    model = small(PFOPPO, policy_kwargs={"activation_fn": torch.nn.Identity})
    with pytest.raises(
        ValueError, match="pfo_coef: there is nothing to hold, the actor has no known activation"
    ):
        model.learn(32)
    assert "evaluate_actions" not in model.policy.__dict__


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"pfo_coef": -1.0}, "pfo_coef = -1.0: must be a finite number ≥ 0"),
        ({"pfo_layers": "first"}, "pfo_layers"),
    ],
)
def test_mistakes_are_named(settings, match):
    with pytest.raises(ValueError, match=match):
        small(PFOPPO, **settings)
