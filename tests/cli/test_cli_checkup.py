"""`ev checkup`: what it reports against NumPy on states collected by Stable-Baselines3 itself."""

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import gymnasium
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from escapevelocity.health.signs import Sign
from escapevelocity.interop._checkup_rollout import environment
from escapevelocity.interop._checkup_signs import static_signs
from escapevelocity.interop.checkup import checkup

STEPS = 200
RELU = {"activation_fn": nn.ReLU, "net_arch": {"pi": [32, 24], "vf": [16]}}


def made(path, env="CartPole-v1", change=None, **settings):
    """A saved A2C, after `change` has had its way with the policy."""
    model = A2C("MlpPolicy", env, seed=1, device="cpu", policy_kwargs=RELU, **settings)
    if change is not None:
        with torch.no_grad():
            change(model.policy)
    model.save(path)
    return model


def spread(policy):
    for parameter in policy.parameters():
        parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))


def kill(policy):
    """The last hidden layer of the actor is never active, and the actions are equally likely."""
    policy.mlp_extractor.policy_net[2].weight[:] = 0
    policy.mlp_extractor.policy_net[2].bias[:] = -1
    policy.action_net.bias[:] = 0


def decide(policy):
    """The same action in every state, almost surely."""
    policy.action_net.weight[:] = 0
    policy.action_net.bias[:] = torch.tensor([30.0, -30.0])


def grow(policy):
    policy.mlp_extractor.policy_net[2].weight *= 10_000


def narrow(policy):
    policy.log_std[:] = -5.0


def rank(features):
    """Smallest k whose largest squared singular values hold 99 % of their sum (ppo_collapse.md, Measures)."""
    squares = np.linalg.svd(features.astype(np.float64), compute_uv=False) ** 2
    return 1 + np.argmax(np.cumsum(squares) >= 0.99 * squares.sum())


def test_the_numbers_are_those_of_the_model_on_its_own_states(tmp_path):
    model = made(tmp_path / "model.zip", change=spread)
    env = gymnasium.make("CartPole-v1")
    states, returns, total = [], [], 0.0
    state, _ = env.reset(seed=5)
    for _ in range(STEPS):
        states.append(state)
        action, _ = model.predict(state, deterministic=True)
        state, reward, terminated, truncated, _ = env.step(int(action))
        total += float(reward)
        if terminated or truncated:
            returns, total = [*returns, total], 0.0
            state, _ = env.reset()
    found = checkup(tmp_path / "model.zip", "CartPole-v1", steps=STEPS, seed=5)
    weights = {name: x.numpy().astype(np.float64) for name, x in model.policy.state_dict().items()}

    def layer(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    hidden = np.maximum(layer(np.array(states), "mlp_extractor.policy_net.0"), 0)
    preactivations = layer(hidden, "mlp_extractor.policy_net.2")
    features = np.maximum(preactivations, 0)
    logits = layer(features, "action_net")
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    values = layer(np.maximum(layer(np.array(states), "mlp_extractor.value_net.0"), 0), "value_net")
    expected = {
        "health/actor/feature_rank_pca": rank(features),
        "health/actor/dead_neurons": (features == 0).all(axis=0).sum(),
        "health/actor/preactivation_norm": np.linalg.norm(preactivations, axis=1).mean(),
        "policy/entropy": -(probs * np.log(probs)).sum(axis=1).mean(),
        "policy/variance": probs.var(axis=0, ddof=1).mean(),
        "value/std": values.std(ddof=1),
    }
    for name, value in expected.items():
        assert found.row[name] == pytest.approx(value, rel=1e-4), name  # The networks compute in float32.
    assert (found.width, found.steps, found.returns) == (24, STEPS, tuple(returns))
    low, high = found.interval
    assert low <= np.mean(returns) <= high


CASES = {
    "dead": (kill, "CartPole-v1", {Sign.DEAD_NEURONS, Sign.RANK_DECLINE, Sign.DEGENERATE_POLICY}),
    "decided": (decide, "CartPole-v1", {Sign.ENTROPY_COLLAPSE}),
    "grown": (grow, "Pendulum-v1", {Sign.PREACTIVATION_GROWTH}),
    "narrow": (narrow, "Pendulum-v1", {Sign.ENTROPY_COLLAPSE}),
    "spread": (spread, "CartPole-v1", set()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_model_shows_the_signs_of_what_was_done_to_it_and_no_others(case, tmp_path):
    change, env, signs = CASES[case]
    made(tmp_path / "model.zip", env, change)
    found = checkup(tmp_path / "model.zip", env, steps=STEPS)
    assert {one.sign for one in found.findings} == signs
    assert all(one.text and one.meaning for one in found.findings)


UNTRAINED = [
    *(("CartPole-v1", seed, {}) for seed in range(6)),
    ("Acrobot-v1", 1, {}),
    (
        "MountainCar-v0",
        1,
        {"policy_kwargs": {"activation_fn": nn.ReLU}},
    ),  # Half of its units are dead from the start.
    ("MountainCarContinuous-v0", 1, {}),
]


@pytest.mark.parametrize(("env", "seed", "settings"), UNTRAINED)
def test_a_model_that_was_never_trained_shows_no_sign(env, seed, settings, tmp_path):
    PPO("MlpPolicy", env, seed=seed, device="cpu", **settings).save(tmp_path / "model.zip")
    found = checkup(tmp_path / "model.zip", env, steps=STEPS)
    assert [one.text for one in found.findings] == []
    # Nor is it called sound: what cannot be told apart is said.
    low = found.row["policy/variance"] < 1e-6
    assert any(text.startswith("high entropy, no variance: ") for text in found.not_measured) == low
    dead = found.row["health/actor/dead_neurons"] > found.width / 2
    assert any(text.startswith("dead neurons: ") for text in found.not_measured) == dead


def test_large_observations_make_a_large_norm_and_no_sign_before_anything_was_learned():
    calm = {
        "health/actor/feature_rank_pca": 20.0, "health/actor/dead_neurons": 0.0, "policy/variance": 0.1,
        "policy/entropy": 0.6, "health/actor/preactivation_norm": 1500.0,
    }  # fmt: skip
    assert static_signs(calm, {**calm, "health/actor/preactivation_norm": 1400.0}, 64, None) == []
    grown = {**calm, "health/actor/preactivation_norm": 15_001.0}
    assert [one.sign for one in static_signs(grown, calm, 64, None)] == [Sign.PREACTIVATION_GROWTH]
    # Where a fresh network's norm is small, the limit of docs/metrics.md stays what it is.
    usual = {**calm, "health/actor/preactivation_norm": 120.0}
    assert [one.sign for one in static_signs(calm, usual, 64, None)] == [Sign.PREACTIVATION_GROWTH]


@pytest.mark.parametrize(("norm", "ill"), [(22.6, False), (22.7, True)])
def test_a_norm_that_grew_from_next_to_nothing_is_no_sign_while_units_receive_less_than_1(norm, ill):
    # Sparse images give 512 fresh units a norm of 0.3; √512 = 22.63 is that of pre-activations of size 1.
    fresh = {
        "health/actor/feature_rank_pca": 200.0, "health/actor/dead_neurons": 0.0, "policy/variance": 0.1,
        "policy/entropy": 0.6, "health/actor/preactivation_norm": 0.3,
    }  # fmt: skip
    found = static_signs({**fresh, "health/actor/preactivation_norm": norm}, fresh, 512, None)
    assert [one.sign for one in found] == ([Sign.PREACTIVATION_GROWTH] if ill else [])


@pytest.mark.parametrize(
    ("dead", "fresh", "ill"), [(33, 0, True), (32, 0, False), (49, 32, True), (48, 32, False)]
)
def test_units_that_are_dead_in_a_fresh_network_too_do_not_count(dead, fresh, ill):
    calm = {
        "health/actor/feature_rank_pca": 20.0, "health/actor/preactivation_norm": 1.0, "policy/variance": 0.1,
        "policy/entropy": 0.6,
    }  # fmt: skip
    rows = ({**calm, "health/actor/dead_neurons": float(count)} for count in (dead, fresh))
    assert [one.sign for one in static_signs(*rows, 64, None)] == ([Sign.DEAD_NEURONS] if ill else [])


def test_parameters_that_are_not_finite_are_named_and_nothing_is_run(tmp_path):
    def spoil(policy):
        policy.action_net.bias[0] = torch.nan

    made(tmp_path / "model.zip", change=spoil)
    found = checkup(tmp_path / "model.zip", "CartPole-v1", steps=STEPS)
    assert [(one.sign, one.text) for one in found.findings] == [
        (Sign.NON_FINITE, "parameters that are not finite: action_net.bias")
    ]
    assert (found.row, found.steps, found.returns) == ({}, 0, ())


def test_states_that_are_too_alike_to_judge_a_rank_are_said_to_be(tmp_path):
    made(tmp_path / "model.zip", change=spread)
    told = checkup(tmp_path / "model.zip", "CartPole-v1", steps=STEPS).not_measured
    # CartPole's states have four numbers: no network of ReLUs without a bias to speak of reaches rank 10 on them.
    assert any(
        text.startswith("rank decline: the states are so alike that a fresh network has rank")
        for text in told
    )


@pytest.mark.parametrize("stochastic", [False, True])
def test_the_same_seed_gives_the_same_checkup_and_leaves_torchs_generator_alone(stochastic, tmp_path):
    made(tmp_path / "model.zip")
    before = torch.random.get_rng_state()
    runs = [
        checkup(tmp_path / "model.zip", "CartPole-v1", steps=60, seed=seed, stochastic=stochastic)
        for seed in (3, 3, 4)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert runs[0].to_json() == runs[1].to_json()
    assert runs[0].row["value/std"] != runs[2].row["value/std"]


def test_sampled_actions_are_those_of_the_policy(tmp_path):
    """With equal probabilities CartPole falls within 9 to 11 steps under one action, later under sampled ones."""
    made(tmp_path / "model.zip", change=kill)
    fixed = checkup(tmp_path / "model.zip", "CartPole-v1", steps=STEPS)
    sampled = checkup(tmp_path / "model.zip", "CartPole-v1", steps=STEPS, stochastic=True)
    assert max(fixed.returns) < 12 < np.mean(sampled.returns)


def test_trust_gives_the_same_numbers(tmp_path):
    made(tmp_path / "model.zip", change=spread)
    safe, trusting = (
        checkup(tmp_path / "model.zip", "CartPole-v1", steps=60, trust=trust) for trust in (False, True)
    )
    assert safe.row == trusting.row
    assert safe.returns == trusting.returns


def test_statistics_of_a_vecnormalize_are_used(tmp_path):
    env = VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]))
    model = PPO("MlpPolicy", env, n_steps=64, seed=1, device="cpu", policy_kwargs=RELU)
    model.learn(64)
    model.save(tmp_path / "model.zip")
    env.save(str(tmp_path / "statistics.pkl"))
    found = checkup(
        tmp_path / "model.zip",
        "Pendulum-v1",
        steps=200,
        trust=True,
        vec_normalize=tmp_path / "statistics.pkl",
    )
    task = gymnasium.make("Pendulum-v1")
    state, values, total = task.reset(seed=0)[0], [], 0.0
    for _ in range(200):
        seen = np.clip((state - env.obs_rms.mean) / np.sqrt(env.obs_rms.var + env.epsilon), -10, 10).astype(
            np.float32
        )
        values.append(model.policy.predict_values(torch.from_numpy(seen[None])).item())
        state, reward, *_ = task.step(model.predict(seen, deterministic=True)[0])
        total += float(reward)
    assert found.row["value/std"] == pytest.approx(np.std(values, ddof=1), rel=1e-4)
    assert found.returns == (pytest.approx(total, rel=1e-4),)  # Rewards are those of the task.


def test_the_papers_tasks_are_made_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with environment("Hopper-v4", 0, [11], None) as venv:
            assert venv.reset().shape == (1, 11)


def test_the_page_tells_signs_numbers_and_trust(ev, tmp_path):
    made(tmp_path / "model.zip", change=kill)
    answer = ev("checkup", "model.zip", "--env", "CartPole-v1", "--steps", "100")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith(
        "model.zip: 3 SIGNS OF ILLNESS\nCartPole-v1, trained for 0 steps by its own word\n"
    )
    assert "dead neurons: 24 of 24 neurons dead, " in answer.out
    assert "actor: dead neurons                       24 " in answer.out
    assert "not opened, since they are pickled: " in answer.out
    assert "since when: a model has no history" in answer.out


def test_a_page_without_signs_does_not_say_healthy(ev, tmp_path):
    made(tmp_path / "model.zip", change=spread)
    answer = ev("checkup", "model.zip", "--env", "CartPole-v1", "--steps", "100")
    assert answer.out.startswith("model.zip: NO SIGN OF ILLNESS AT REST\n")
    assert "healthy" not in answer.out.lower()


def test_json_holds_the_numbers_with_null_for_what_is_undefined(ev, tmp_path):
    made(tmp_path / "model.zip", "Pendulum-v1")
    answer = ev("checkup", "model.zip", "--env", "Pendulum-v1", "--steps", "60", "--json")
    entry = json.loads(answer.out)
    assert (entry["returns"], entry["return_mean"], entry["interval"]) == ([], None, [None, None])
    assert entry["row"]["health/actor/numerical_rank"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "env = None: must be the id of the environment that the model was trained on, as in --env Hopper-v4",
        ),
        (["--env", "Acrobot-v1"], "env = 'Acrobot-v1': its observations have shape [6], must have [4]"),
        (
            ["--env", "CartPohl-v1"],
            "task = 'CartPohl-v1': not a known environment id; did you mean CartPole-v1",
        ),
        (["--env", "CartPole-v1", "--steps", "1"], "steps = 1: must be at least 2"),
        (["--env", "CartPole-v1", "--seed", "-1"], "seed = -1: must be from 0 to 2147483647"),
        (
            ["--env", "CartPole-v1", "--activation", "Sinus"],
            "activation = 'Sinus': must be one of Tanh, ReLU",
        ),
        (
            ["--env", "CartPole-v1", "--vec-normalize", "a.pkl"],
            "given with --trust, since the file is a pickle",
        ),
    ],
)
def test_mistakes_of_a_checkup_end_in_one_line(refused, tmp_path, arguments, message):
    made(tmp_path / "model.zip")
    assert message in refused("checkup", "model.zip", *arguments)


def test_a_model_that_saw_normalised_observations_is_not_measured_on_raw_ones(refused, tmp_path):
    model = A2C("MlpPolicy", VecNormalize(DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])), device="cpu")
    model.learn(5)
    model.save(tmp_path / "model.zip")
    assert "was trained inside a VecNormalize" in refused("checkup", "model.zip", "--env", "CartPole-v1")


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from escapevelocity.cli import main
sys.exit(main(["checkup", "model.zip", "--env", "CartPole-v1"]))
"""


@pytest.mark.parametrize(
    ("blocked", "command"),
    [
        ("torch", "pip install 'escapevelocity[torch]'"),
        ("stable_baselines3", "pip install stable-baselines3"),
    ],
)
def test_a_missing_package_for_a_checkup_is_named(blocked, command):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(blocked=blocked)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    assert done.stderr == f"ev: ev checkup needs {blocked}, which is not installed: {command}\n"
