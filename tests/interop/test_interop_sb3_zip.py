"""Reading a saved model as data gives the network that Stable-Baselines3 saved, and runs nothing."""

import base64
import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import torch
from gymnasium import spaces
from small_sb3 import IMAGE, VECTOR, Noise, small
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from escapevelocity.errors import UserError
from escapevelocity.interop._sb3_zip import load_trusted, read_model, rebuild
from escapevelocity.interop.sb3 import EscortPolicy

BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
DICTIONARY = spaces.Dict({"vector": VECTOR, "image": IMAGE})
MODELS = {
    "defaults": (PPO, "MlpPolicy", VECTOR, spaces.Discrete(3), {}),
    "shapes": (
        A2C,
        "MlpPolicy",
        VECTOR,
        spaces.MultiDiscrete([2, 3]),
        {"net_arch": {"pi": [12, 7], "vf": [9]}, "activation_fn": nn.LeakyReLU},
    ),
    "no critic of its own": (PPO, "MlpPolicy", VECTOR, BOX, {"net_arch": {"pi": [8], "vf": []}}),
    "images": (
        PPO,
        "CnnPolicy",
        IMAGE,
        spaces.MultiBinary(2),
        {"features_extractor_kwargs": {"features_dim": 16}, "share_features_extractor": False},
    ),
    "dictionary": (PPO, "MultiInputPolicy", DICTIONARY, spaces.Discrete(3), {"normalize_images": True}),
    "sde": (PPO, "MlpPolicy", VECTOR, BOX, {"squash_output": True, "net_arch": [6]}),
    "escort": (PPO, EscortPolicy, VECTOR, spaces.Discrete(3), {"p": 3.0, "net_arch": [6]}),
}


def saved(path, kind, **settings):
    algorithm, policy, observations, actions, keywords = MODELS[kind]
    settings |= {"use_sde": True} if kind == "sde" else {}
    model = small(algorithm, Noise(observations, actions), policy, 16, policy_kwargs=keywords, **settings)
    with torch.no_grad():
        for parameter in model.policy.parameters():  # Far from any initialisation.
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    model.save(path)
    return model


def outputs(policy, observations):
    policy.set_training_mode(False)
    with torch.no_grad():
        distribution = policy.get_distribution(observations)
        return (
            distribution.mode(),
            distribution.log_prob(distribution.mode()),
            policy.predict_values(observations),
        )


@pytest.mark.parametrize("kind", MODELS)
def test_the_rebuilt_policy_computes_what_the_saved_one_did(kind, tmp_path):
    model = saved(tmp_path / "model.zip", kind)
    rebuilt, fresh = rebuild(read_model(tmp_path / "model.zip"), model.observation_space, model.action_space)
    observations = model.policy.obs_to_tensor(model.observation_space.sample())[0]
    expected = outputs(model.policy, observations)
    for found, want in zip(outputs(rebuilt, observations), expected, strict=True):
        torch.testing.assert_close(found, want, rtol=0, atol=0)
    assert {name: x.shape for name, x in fresh.state_dict().items()} == {
        name: x.shape for name, x in rebuilt.state_dict().items()
    }
    assert not torch.equal(fresh.value_net.weight, rebuilt.value_net.weight)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def rewritten(path, **entries):
    """Replace entries of a zip; a callable changes what is there."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    for name, change in entries.items():
        content[name] = change(content[name])
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path


def changed_data(**changes):
    def change(stored):
        data = json.loads(stored)
        for name, value in changes.items():
            data[name] = {**data[name], **value} if isinstance(value, dict) and data[name] else value
        return json.dumps(data).encode()

    return change


def test_no_pickle_in_the_settings_is_opened(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "model.zip"
    saved(path, "defaults")
    trap = {":serialized:": base64.b64encode(pickle.dumps(Trap(canary))).decode()}
    names = ("policy_class", "clip_range", "lr_schedule", "observation_space", "ep_info_buffer")
    rewritten(path, data=changed_data(**dict.fromkeys(names, trap)))
    model = read_model(path)
    rebuild(model, VECTOR, spaces.Discrete(3))
    assert set(names) <= set(model.pickled)
    assert not canary.exists()
    # The trap works: loading as PPO.load does springs it, and is left without a policy.
    with pytest.raises((TypeError, ValueError, AttributeError, FileExistsError)):
        load_trusted(model)
    assert canary.exists()


def test_weights_that_hold_more_than_tensors_are_refused_unopened(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "model.zip"
    saved(path, "defaults")

    def with_trap(stored):
        weights = torch.load(io.BytesIO(stored), weights_only=True)
        changed = io.BytesIO()
        torch.save({**weights, "log_std": Trap(canary)}, changed)
        return changed.getvalue()

    rewritten(path, **{"policy.pth": with_trap})
    with pytest.raises(UserError, match=r"its weights are not plain tensors .*; they were not loaded"):
        read_model(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"policy_class": {"__module__": "my.policies"}},
            "custom code from my.policies, which is not loaded; if you",
        ),
        ({"policy_class": "MlpPolicy"}, "custom code, which is not loaded"),
        (
            {"policy_kwargs": {"features_extractor_class": "<class 'a.Mine'>"}},
            "features_extractor_class Mine",
        ),
        (
            {"policy_kwargs": {"dist_kwargs": 3}},
            "settings that are not plain data: dist_kwargs; if you trust",
        ),
        ({"policy_kwargs": {"activation_fn": "<class 'a.Tanh'>"}}, "--activation: Tanh, ReLU, LeakyReLU"),
        ({"use_sde": True}, "settings make no ActorCriticPolicy for this environment .TypeError: "),
    ],
)
def test_what_is_not_plain_is_refused_and_told(change, message, tmp_path):
    path = tmp_path / "model.zip"
    saved(path, "defaults")
    rewritten(path, data=changed_data(**change))
    with pytest.raises(UserError, match=message) as caught:
        rebuild(read_model(path), VECTOR, spaces.Discrete(3))
    assert "\n" not in str(caught.value)


def test_an_activation_that_is_named_stands_in_for_one_that_is_unknown(tmp_path):
    path = tmp_path / "model.zip"
    saved(path, "defaults")
    rewritten(path, data=changed_data(policy_kwargs={"activation_fn": "functools.partial(…)"}))
    policy, _ = rebuild(read_model(path), VECTOR, spaces.Discrete(3), activation="ReLU")
    assert isinstance(policy.mlp_extractor.policy_net[1], nn.ReLU)


def test_another_environment_does_not_fit(tmp_path):
    path = tmp_path / "model.zip"
    saved(path, "defaults")
    with pytest.raises(UserError, match=r"do not fit .* action_net.weight"):
        rebuild(read_model(path), VECTOR, spaces.Discrete(4))


def test_a_weight_too_many_is_no_fit(tmp_path):
    path = tmp_path / "model.zip"
    saved(path, "defaults")

    def with_another(stored):
        changed = io.BytesIO()
        torch.save({**torch.load(io.BytesIO(stored), weights_only=True), "gate": torch.ones(1)}, changed)
        return changed.getvalue()

    rewritten(path, **{"policy.pth": with_another})
    with pytest.raises(UserError, match=r"do not fit .*Unexpected key.* \"gate\""):
        rebuild(read_model(path), VECTOR, spaces.Discrete(3))


def test_files_that_are_no_saved_model_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_model(tmp_path / "nothing.zip")
    (tmp_path / "text.zip").write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("data", "{}")
    for name in ("text.zip", "other.zip"):
        with pytest.raises(UserError, match="no model that Stable-Baselines3 saved"):
            read_model(tmp_path / name)
    DQN("MlpPolicy", Noise(), buffer_size=10, device="cpu").save(tmp_path / "dqn.zip")
    with pytest.raises(UserError, match="holds no actor-critic policy: it must be a PPO or A2C"):
        read_model(tmp_path / "dqn.zip")


def test_a_torch_that_cannot_read_weights_safely_is_refused(tmp_path, monkeypatch):
    saved(tmp_path / "model.zip", "defaults")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    with pytest.raises(UserError, match=r"torch = '2.5.1\+cu121': must be at least 2.6"):
        read_model(tmp_path / "model.zip")


@pytest.mark.parametrize("inside", [False, True])
def test_a_vecnormalize_of_the_training_is_noticed(inside, tmp_path):
    env = DummyVecEnv([Noise])
    model = small(A2C, VecNormalize(env) if inside else env, steps=4)
    model.learn(4)
    model.save(tmp_path / "model.zip")
    assert read_model(tmp_path / "model.zip").saw_normalised is inside


class Custom(ActorCriticPolicy):
    """Code of the user's."""


def test_code_of_the_users_is_loaded_on_trust_only(tmp_path):
    path = tmp_path / "model.zip"
    model = small(A2C, policy=Custom, steps=4, policy_kwargs={"net_arch": [6]})
    model.save(path)
    with pytest.raises(UserError, match=r"its policy is custom code from .*test_interop_sb3_zip"):
        rebuild(read_model(path), VECTOR, spaces.Discrete(3))
    policy, fresh = load_trusted(read_model(path))
    assert type(policy) is type(fresh) is Custom
    torch.testing.assert_close(dict(policy.state_dict()), dict(model.policy.state_dict()))
