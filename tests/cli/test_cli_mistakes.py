"""Every mistake in the input of `ev train`: one line with field, value and what is accepted; exit code 2; no trace."""

import json
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

TASK = "CartPole-v1"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["trian"], "command = 'trian': not a command of ev; did you mean train?"),
        (
            ["xyzzy"],
            "command = 'xyzzy': not a command of ev; known: train, branch, resume, list, show, plot",
        ),
        (["--verbose"], "command = '--verbose': not a command of ev; known: train"),
        (["train"], "task: missing; name an environment before the options, such as ev train Hopper-v4"),
        (["train", "--seeds", "1", "2", TASK], "task: missing; name an environment before the options"),
        (["train", TASK, "Hopper-v4"], "unexpected argument 'Hopper-v4'; options start with --"),
        (["train", "Hoper-v4"], "task = 'Hoper-v4': not a known environment id; did you mean Hopper-v4"),
        (
            ["train", "--steps", "512", "cartpole-v1"],
            "task = 'cartpole-v1': not a known environment id; did you mean CartPole",
        ),
        (["train", TASK, "--epoch", "3"], "unknown option --epoch; did you mean --epochs?"),
        (["train", TASK, "--epoch=3"], "unknown option --epoch; did you mean --epochs?"),
        (["train", TASK, "--gama", "0.9"], "unknown option --gama; did you mean --gamma?"),
        (["train", TASK, "--xyzzy", "3"], "unknown option --xyzzy"),
        (["train", TASK, "-e", "3"], "unknown option -e"),
        (["train", TASK, "--epochs"], "--epochs: its value is missing; it must be an integer"),
        (
            ["train", TASK, "--epochs", "--gamma", "1"],
            "--epochs: its value is missing; it must be an integer",
        ),
        (["train", TASK, "--dry-run=yes"], "--dry-run=yes: --dry-run takes no value; use --dry-run"),
        (["train", TASK, "--no-dry-run"], "unknown option --no-dry-run; did you mean --dry-run"),
        (
            ["train", TASK, "--layer-norm=1"],
            "--layer-norm=1: --layer-norm takes no value; use --layer-norm or --no-layer-norm",
        ),
        (["study", "watch"], "FILE|STORE: missing; it is the study: a TOML file"),
        (["checkup"], "MODEL.zip: missing; it is the file that"),
        (
            ["train", TASK, "--config", "x", "--preset", "mujoco"],
            "preset = 'mujoco': --config x already says every setting",
        ),
        (
            ["train", TASK, "--preset", "paper"],
            "preset = 'paper': must be one of mujoco, atari, classic, minatar",
        ),
        (
            ["train", TASK, "--import", "no_such_module"],
            "import = 'no_such_module': not found in the current folder",
        ),
        (
            ["train", TASK, "--import", "my.py"],
            "import = 'my.py': must be a module's name, such as my_module",
        ),
        (["train", TASK, "--name", "a/b"], "name = 'a/b': must be the name of one folder, without slashes"),
        (["train", TASK, "--name", ".."], "name = '..': must be the name of one folder, without slashes"),
        (["train", TASK, "--track", "tensorbord"], "track = 'tensorbord': must be one of tensorboard, wandb"),
        (["resume"], "RUN: missing; it is the run's folder; see ev resume --help"),
        (["resume", "nowhere"], "nowhere is not a folder; give a run's folder, such as runs/NAME"),
        (["show", "nowhere"], "nowhere is not a folder; give a run's folder"),
        (["list", "nowhere"], "nowhere is not a folder; OUT is the folder that holds runs"),
        (["plot"], "run = (): must be one or more runs' folders"),
        (["plot", "nowhere"], "nowhere is not a folder; give a run's folder"),
        (["evaluate", "nowhere"], "nowhere is not a folder; give a run's folder"),
        (["evaluate", "x", "--episodes", "0"], "episodes = 0: must be at least 1"),
        (["evaluate", "x", "--evaluation-seed", "-1"], "evaluation-seed = -1: must be from 0 to 2147483647"),
        (["evaluate", "x", "--checkpoint", "last"], "checkpoint = 'last': must be an integer or None"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(refused, arguments, line):
    assert refused(*arguments).startswith(f"ev: {line}")


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("--epochs", "x", "epochs = 'x': must be an integer"),
        ("--epochs", "2.5", "epochs = '2.5': must be an integer"),
        ("--epochs", "0", "epochs = 0: must be at least 1"),
        ("--steps", "1e6", "steps = '1e6': must be an integer"),
        ("--steps", "511", "steps = 511: must be at least one batch of 512 = num-envs × rollout-length"),
        ("--steps", "-512", "steps = -512: must be at least one batch of 512"),
        ("--gamma", "1e", "gamma = '1e': must be a number"),
        ("--gamma", "1.01", "gamma = 1.01: must be between 0 and 1"),
        ("--gamma", "nan", "gamma = nan: must be between 0 and 1"),
        ("--gae-lambda", "-0.1", "gae-lambda = -0.1: must be between 0 and 1"),
        ("--clip-epsilon", "1", "clip-epsilon = 1.0: must be above 0 and below 1"),
        ("--entropy-coef", "inf", "entropy-coef = inf: must be a finite number of at least 0"),
        ("--value-coef", "-1", "value-coef = -1.0: must be a finite number of at least 0"),
        ("--learning-rate", "0", "learning-rate = 0.0: must be a finite number above 0"),
        ("--learning-rate", "nan", "learning-rate = nan: must be a finite number above 0"),
        ("--adam-beta1", "1", "adam-beta1 = 1.0: must be at least 0 and below 1"),
        ("--adam-beta2", "1.5", "adam-beta2 = 1.5: must be at least 0 and below 1"),
        ("--adam-eps", "0", "adam-eps = 0.0: must be a finite number above 0"),
        ("--max-grad-norm", "0", "max-grad-norm = 0.0: must be above 0"),
        ("--minibatch-size", "0", "minibatch-size = 0: must be at least 1"),
        (
            "--minibatch-size",
            "100",
            "minibatch-size = 100: must divide the batch of 512 = num-envs × rollout-length; 64 does",
        ),
        ("--num-envs", "0", "num-envs = 0: must be at least 1"),
        ("--rollout-length", "1", "rollout-length = 1: must be at least 2"),
        ("--episode-limit", "0", "episode-limit = 0: must be at least 1"),
        ("--episode-limit", "long", "episode-limit = 'long': must be an integer or None"),
        ("--normalization-steps", "1", "normalization-steps = 1: must be at least 2"),
        ("--health-every", "-1", "health-every = -1: must be 0 (never) or a number of batches"),
        ("--activation", "sigmoid", "activation = 'sigmoid': must be one of tanh, relu, gelu, leaky_relu"),
        ("--backend", "mujoco", "backend = 'mujoco': must be one of auto, envpool, gymnasium"),
        ("--on-nonfinite", "ignore", "on-nonfinite = 'ignore': must be one of stop, skip"),
        ("--hidden", "0", "hidden = (0,): must be one or more layers of at least 1 unit"),
        ("--hidden", "64x64", "hidden = '64x64': must be integers"),
        ("--head", "tanh_normal", "head = 'tanh_normal': CartPole-v1 has discrete actions; use softmax"),
        ("--seeds", "x", "seeds = 'x': must be integers"),
        ("--seeds", "-1", "seeds = -1: must be integers between 0 and 2147483647"),
        ("--seeds", "2147483648", "seeds = 2147483648: must be integers between 0 and 2147483647"),
        ("--seeds", "3:1", "seeds = '3:1': must be integers and ranges a:b with a ≤ b"),
        ("--seeds", "1:x", "seeds = '1:x': must be integers and ranges a:b with a ≤ b"),
        (
            "--seeds",
            "1:100001",
            "seeds = '1:100001': must be integers and ranges a:b with a ≤ b and at most 100000",
        ),
    ],
)
@pytest.mark.parametrize("joined", [False, True], ids=["apart", "joined"])
def test_a_wrong_value_is_told_with_its_field_and_what_is_accepted(refused, option, value, line, joined):
    given = [f"{option}={value}"] if joined else [option, value]
    assert refused("train", TASK, *given).startswith(f"ev: {line}")


def test_seeds_that_repeat_are_named_whether_written_out_or_in_ranges(refused):
    assert refused("train", TASK, "--seeds", "1", "1").startswith(
        "ev: seeds = 1 1: 1 stands there more than once"
    )
    assert "2 stands there more than once" in refused("train", TASK, "--seeds", "2", "1:3")
    assert refused("train", TASK, "--seeds").startswith("ev: seeds = (): must be one or more integers")


def test_a_mistake_is_one_line_where_the_terminal_speaks_utf8_too(tmp_path):
    """tyro frames its complaints there, and repeats the help; in this process, without UTF-8, it does not."""
    for arguments, line in [
        (["--epochs", "0"], "ev: epochs = 0: must be at least 1; see ev train --help\n"),
        (["--epochs", "x"], "ev: epochs = 'x': must be an integer; see ev train --help\n"),
        (["--anneal", "x"], "ev: anneal = 'x': must be one of none, linear; see ev train --help\n"),
    ]:
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-m", "escapevelocity.cli", "train", TASK, *arguments],
            capture_output=True,
            encoding="utf-8",
            cwd=tmp_path,
        )
        assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_where_the_output_folder_should_be_is_refused(refused, tmp_path, out):
    (tmp_path / "file").write_text("mine")
    line = refused("train", TASK, "--steps", "600", "--out", out)
    assert line.startswith(f"ev: cannot make the folder {out}/{TASK}-")
    assert line.endswith("; choose another --out")


def test_a_folder_that_holds_something_else_is_refused(refused, tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "thesis.tex").write_text("…")
    line = refused("train", TASK, "--name", "mine")
    assert line == "ev: runs/mine is not empty and not a run; give another --name or --out"


class Odd(gymnasium.Env):
    """Spaces that cannot be trained on."""

    def __init__(self, observations, actions):
        self.observation_space, self.action_space = observations, actions


BOX = gymnasium.spaces.Box(-1.0, 1.0, (2,))
ODD = {
    "OddDict-v0": (gymnasium.spaces.Dict(a=BOX), BOX, "Dict observations are not supported"),
    "OddTuple-v0": (gymnasium.spaces.Tuple((BOX, BOX)), BOX, "Tuple observations are not supported"),
    "OddImage-v0": (
        gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8),
        BOX,
        "image observations are not supported",
    ),
    "OddMulti-v0": (
        BOX,
        gymnasium.spaces.MultiDiscrete([2, 2]),
        "MultiDiscrete actions of shape (2,) and int64 are not supported",
    ),
}


@pytest.fixture
def odd_tasks():
    for name, (observations, actions, _) in ODD.items():
        gymnasium.register(name, Odd, kwargs={"observations": observations, "actions": actions})
    yield
    for name in ODD:
        del gymnasium.registry[name]


@pytest.mark.parametrize("name", ODD)
def test_unsupported_spaces_are_named_with_what_is_accepted(refused, odd_tasks, name):
    line = refused("train", name)
    assert line.startswith(f"ev: task = {name!r}: {ODD[name][2]}; accepted: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["Pendulum-v1", "--head", "softmax"],
            "head = 'softmax': Pendulum-v1 has Box actions; use tanh_normal, normal",
        ),
        (
            ["Blackjack-v1", "--preset", "mujoco"],
            "append-time = True: Blackjack-v1 has no time limit; give --episode-",
        ),
        (
            ["FrozenLake-v1", "--backend", "envpool", "--head", "normal"],
            "head = 'normal': FrozenLake-v1 has discrete",
        ),
        (
            ["Acrobot-v1", "--config", "saved.json"],
            "head = 'tanh_normal': Acrobot-v1 has discrete actions; use softmax",
        ),
    ],
)
def test_a_setting_that_does_not_fit_the_task_is_told(refused, tmp_path, arguments, line):
    (tmp_path / "saved.json").write_text(json.dumps(saved()))
    assert refused("train", *arguments).startswith(f"ev: {line}")


def saved(**changes):
    """The content of a spec.json: that of Hopper-v4 with changes."""
    return {"job": "ppo", "schema_version": 1, "spec": {"task": "Hopper-v4", **changes}}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "cannot read saved.json: No such file or directory; give a run's folder or its spec.json"),
        ("", "saved.json is not valid JSON"),
        (json.dumps(saved())[:-9], "saved.json is not valid JSON"),
        ("[]", "saved.json is not a spec: expected a JSON object with the keys job, schema_version, spec"),
        ('{"learning_rate": 1}', "saved.json is not a spec: expected a JSON object with the keys"),
        (
            json.dumps(saved() | {"job": "sgw"}),
            "saved.json: job = 'sgw': must be 'ppo'; it is the spec of another command",
        ),
        (json.dumps(saved() | {"schema_version": 99}), "saved.json: schema_version = 99: must be 1 to 1"),
        (json.dumps(saved(stepz=3)), "stepz = 3: unknown field; did you mean steps"),
        (json.dumps(saved(steps="3")), "steps = '3': must be an integer"),
        (json.dumps(saved(steps=100)), "steps = 100: must be at least one batch of 2048"),
        (json.dumps(saved(objective={"gamma": 2})), "gamma = 2.0: must be between 0 and 1"),
        (
            json.dumps(saved(network={"activation": "sin"})),
            "network.activation = 'sin': must be 'tanh' or 'relu'",
        ),
    ],
)
def test_a_damaged_or_foreign_config_names_the_file_and_what_is_wrong_in_it(refused, tmp_path, content, line):
    if content is not None:
        (tmp_path / "saved.json").write_text(content)
    assert refused("train", "--config", "saved.json").startswith(f"ev: config = 'saved.json': {line}")


@pytest.mark.parametrize("arguments", [["train", "--config"], ["resume"], ["evaluate"]])
def test_a_file_never_decides_which_module_is_imported(refused, tmp_path, monkeypatch, arguments):
    """Gymnasium imports `stranger` for the task `stranger:Task-v0`; a run of a stranger must not make it."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger.py").write_text("open('executed', 'w')")
    run = tmp_path / "run"
    run.mkdir()
    (run / "spec.json").write_text(json.dumps(saved(task="stranger:Task-v0")))
    (run / "status.json").write_text(json.dumps({"state": "interrupted"}))
    # A checkpoint that is whole, so that what is refused is the task.
    from escapevelocity.runs import checkpoint

    checkpoint.save(run / "checkpoints", 0, {"weights": np.zeros(2)}, step=0)
    assert (
        "names a module, and opening a run imports none; if you trust it, import stranger first"
        in refused(*arguments, "run")
    )
    assert "stranger" not in sys.modules


def test_an_error_that_quotes_a_strangers_run_does_not_steer_the_terminal(refused):
    told = refused("show", "runs/\x1b[2J\x1b]0;title\x07")
    assert "runs/�[2J�]0;title�" in told
    assert "\x1b" not in told
