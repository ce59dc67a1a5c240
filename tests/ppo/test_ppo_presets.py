import pytest

from escapevelocity.envs import describe_task, task_family
from escapevelocity.errors import UserError
from escapevelocity.ppo.initialization import hidden_layers
from escapevelocity.ppo.presets import PRESETS, preset_spec

# Moalla et al. 2024 (arXiv 2405.00662), Table 3, column MuJoCo, and the authors' code; ppo_collapse.md, "Settings".
MUJOCO = {
    "steps": 5_000_000,
    "environment.num_envs": 2,
    "environment.rollout_length": 1024,
    "environment.time_limit": "termination",
    "environment.episode_limit": None,  # the task's own: 1,000
    "environment.append_time": True,
    "environment.normalization": "fixed",
    "environment.normalization_steps": 4000,
    "network.hidden": (64, 64),
    "network.activation": "tanh",
    "network.initialization": "torch",
    "network.head": "tanh_normal",
    "objective.gamma": 0.99,
    "objective.gae_lambda": 0.95,
    "objective.clip_epsilon": 0.2,
    "objective.entropy_coef": 0.0,
    "objective.value_coef": 0.5,
    "objective.clip_value": False,
    "objective.normalize_advantages": True,
    "optimizer.learning_rate": 3e-4,
    "optimizer.anneal": "none",
    "optimizer.adam_beta1": 0.9,
    "optimizer.adam_beta2": 0.999,
    "optimizer.adam_eps": 1e-8,
    "optimizer.max_grad_norm": 0.5,
    "optimizer.clip_gradients": "apart",
    "optimizer.epochs": 10,
    "optimizer.minibatch_size": 64,
}

# Moalla et al. 2024, Table 2, column Atari, and the authors' code; ppo_collapse.md, "Settings". Written out, and not as
# what differs from MUJOCO: both have to hold the table's numbers.
ATARI = {
    "steps": 100_000_000,  # frames
    "environment.num_envs": 8,
    "environment.rollout_length": 128,
    "environment.frame_skip": 3,
    "environment.sticky_actions": 0.25,
    "environment.rewards": "sign",
    "environment.time_limit": "termination",
    "environment.episode_limit": None,  # the game's own: 108,000 frames
    "environment.append_time": False,
    "environment.normalization": "none",
    "network.convolutions": "nature",
    "network.hidden": (512,),
    "network.activation": "relu",
    "network.layer_norm": False,
    "network.trunk": "separate",
    "network.initialization": "torch",
    "network.head": "softmax",
    "objective.gamma": 0.99,
    "objective.gae_lambda": 0.95,
    "objective.clip_epsilon": 0.1,
    "objective.entropy_coef": 0.01,
    "objective.value_coef": 0.5,
    "objective.clip_value": False,
    "objective.normalize_advantages": True,
    "optimizer.learning_rate": 2.5e-4,
    "optimizer.anneal": "none",
    "optimizer.adam_beta1": 0.9,
    "optimizer.adam_beta2": 0.999,
    "optimizer.adam_eps": 1e-8,
    "optimizer.max_grad_norm": 0.5,
    "optimizer.clip_gradients": "apart",
    "optimizer.epochs": 4,
    "optimizer.minibatch_size": 256,
}

# Young and Tian 2019 (arXiv 1903.03176): one convolution of 16 channels of 3×3 and 128 units, both with ReLU. The paper
# trains no PPO, and the preset claims no source for what is below the network: this holds our own choice, which
# studies/escort_minatar rests on, against an unnoticed change.
MINATAR = {
    "network.convolutions": "minatar",
    "network.hidden": (128,),
    "network.activation": "relu",
    "network.trunk": "separate",
    "network.initialization": "torch",
    "network.head": "softmax",
    "steps": 10_000_000,
    "environment.num_envs": 16,
    "environment.rollout_length": 64,
    "environment.frame_skip": 1,
    "environment.sticky_actions": 0.0,
    "environment.rewards": "raw",
    "environment.time_limit": "truncation",
    "environment.append_time": False,
    "environment.normalization": "none",
    "objective.gamma": 0.99,
    "objective.gae_lambda": 0.95,
    "objective.clip_epsilon": 0.2,
    "objective.entropy_coef": 0.01,
    "objective.value_coef": 0.5,
    "objective.clip_value": False,
    "optimizer.learning_rate": 1e-3,
    "optimizer.anneal": "linear",
    "optimizer.adam_eps": 1e-5,
    "optimizer.epochs": 4,
    "optimizer.minibatch_size": 256,
}

# CleanRL, ppo.py: the defaults of its Args, Agent and loss. vf_coef 0.5 stands before a loss that has a ½ of its own.
CLASSIC_DISCRETE = {
    "steps": 500_000,
    "environment.num_envs": 4,
    "environment.rollout_length": 128,
    "environment.append_time": False,
    "environment.normalization": "none",
    "network.hidden": (64, 64),
    "network.activation": "tanh",
    "network.initialization": "orthogonal",
    "network.head": "softmax",
    "objective.gamma": 0.99,
    "objective.gae_lambda": 0.95,
    "objective.clip_epsilon": 0.2,
    "objective.entropy_coef": 0.01,
    "objective.value_coef": 0.5 * 0.5,
    "objective.clip_value": True,
    "objective.normalize_advantages": True,
    "optimizer.learning_rate": 2.5e-4,
    "optimizer.anneal": "linear",
    "optimizer.adam_beta1": 0.9,
    "optimizer.adam_beta2": 0.999,
    "optimizer.adam_eps": 1e-5,
    "optimizer.max_grad_norm": 0.5,
    "optimizer.clip_gradients": "jointly",
    "optimizer.epochs": 4,
    "optimizer.minibatch_size": 4 * 128 // 4,  # num_minibatches = 4
}

# CleanRL, ppo_continuous_action.py, where it differs from ppo.py.
CLASSIC_CONTINUOUS = CLASSIC_DISCRETE | {
    "steps": 1_000_000,
    "environment.num_envs": 1,
    "environment.rollout_length": 2048,
    "environment.normalization": "fixed",
    "network.head": "normal_independent",
    "objective.entropy_coef": 0.0,
    "optimizer.learning_rate": 3e-4,
    "optimizer.epochs": 10,
    "optimizer.minibatch_size": 2048 // 32,  # num_minibatches = 32
}


def settings_of(spec, names):
    found = {}
    for name in names:
        value = spec
        for part in name.split("."):
            value = getattr(value, part)
        found[name] = value
    return found


@pytest.mark.parametrize(
    ("preset", "task", "discrete", "table"),
    [
        ("mujoco", "Hopper-v4", False, MUJOCO),
        ("mujoco", "CartPole-v1", True, MUJOCO | {"network.head": "softmax"}),
        ("atari", "ALE/Phoenix-v5", True, ATARI),
        ("minatar", "gymnax:Breakout-MinAtar", True, MINATAR),
        ("classic", "CartPole-v1", True, CLASSIC_DISCRETE),
        ("classic", "Pendulum-v1", False, CLASSIC_CONTINUOUS),
    ],
)
def test_a_preset_holds_the_numbers_of_its_source(preset, task, discrete, table):
    spec = preset_spec(preset, task, discrete, seeds=[3, 1])
    assert settings_of(spec, table) == table
    assert (spec.task, spec.preset, spec.seeds) == (task, preset, (3, 1))


@pytest.mark.parametrize(
    ("preset", "shape", "layers"),
    [
        # Inputs and units of each layer, by hand. 84 → (84 − 8)/4 + 1 = 20 → (20 − 4)/2 + 1 = 9 → 9 − 3 + 1 = 7.
        ("atari", (84, 84, 4), [(8 * 8 * 4, 32), (4 * 4 * 32, 64), (3 * 3 * 64, 64), (7 * 7 * 64, 512)]),
        # 10 → 10 − 3 + 1 = 8; Breakout has 4 planes.
        ("minatar", (10, 10, 4), [(3 * 3 * 4, 16), (8 * 8 * 16, 128)]),
    ],
)
def test_the_networks_of_games_have_the_layers_of_their_source(preset, shape, layers):
    config = preset_spec(preset, "task", True).network
    assert [(layer.fan_in, layer.fan_out) for layer in hidden_layers(config, shape)] == layers


def test_runs_of_games_are_logged_and_saved_as_often_as_in_the_paper():
    spec = preset_spec("atari", "ALE/Phoenix-v5", True)
    assert spec.batch_size == 1024
    assert spec.num_batches == 100_000_000 // 3072
    assert spec.health_interval == spec.num_batches // 1000  # every 0.1 %
    taken = [spec.snapshot_index(done) for done in range(spec.num_batches + 1)]
    assert [index for index in taken if index is not None] == list(range(41))


def test_the_papers_games_have_the_papers_episode_limit():
    for game in ("Phoenix", "NameThisGame", "Gravitar", "Qbert", "BattleZone", "DoubleDunk"):
        env = preset_spec("atari", f"ALE/{game}-v5", True).environment
        task = describe_task(
            f"ALE/{game}-v5",
            env.backend,
            env.episode_limit,
            frame_skip=env.frame_skip,
            sticky_actions=env.sticky_actions,
        )
        assert task.episode_limit == 108_000 // 3  # Steps of the agent.


def test_the_papers_tasks_have_the_papers_episode_limit():
    limits = {
        task: describe_task(f"{task}-v4").episode_limit
        for task in ("Ant", "HalfCheetah", "Humanoid", "Hopper")
    }
    assert set(limits.values()) == {1000}


def test_truncation_is_bootstrapped_in_classic():
    assert preset_spec("classic", "CartPole-v1", True).environment.time_limit == "truncation"
    assert preset_spec("classic", "Pendulum-v1", False).environment.time_limit == "truncation"


def test_every_family_of_tasks_has_a_preset():
    tasks = "Hopper-v4", "CartPole-v1", "ALE/Phoenix-v5", "gymnax:Breakout-MinAtar"
    assert {task_family(task) for task in tasks} == set(PRESETS)


def test_an_unknown_preset_is_refused_in_one_line():
    with pytest.raises(
        UserError, match=r"^preset = 'atary': must be one of mujoco, atari, classic, minatar$"
    ):
        preset_spec("atary", "ALE/Phoenix-v5", True)
