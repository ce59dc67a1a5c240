"""The returns benchmark: its arithmetic by hand, that both sides have the same terms, and a short run."""

import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import _returns_report as reporting
from benchmarks import _returns_runs as runs
from benchmarks import returns


def run(contender="ours", seed=1, means=(1.0, 2.0), task="T", episodes=1):
    """A finished run with one batch of 10 steps for each of `means`; None is a batch in which no episode ended."""
    batches = [
        {
            "env_steps": 10 * (i + 1),
            "return_sum": 0.0 if mean is None else mean * episodes,
            "episodes": 0 if mean is None else episodes,
        }
        for i, mean in enumerate(means)
    ]
    return {"contender": contender, "task": task, "seed": seed, "steps": 10 * len(means), "batches": batches}


def test_the_final_return_is_over_the_episodes_of_the_last_tenth():
    # 20 batches of 10 steps: the last tenth is the last two. Four episodes of 8 and one of 3, each counts once.
    finished = run(means=[100.0] * 18 + [8.0, 3.0], episodes=4)
    finished["batches"][-1] |= {"episodes": 1, "return_sum": 3.0}
    assert reporting.final_return(finished) == pytest.approx((4 * 8 + 3) / 5)


def test_a_last_tenth_without_episodes_has_no_return():
    assert math.isnan(reporting.final_return(run(means=[1.0] * 9 + [None])))


def test_a_curve_averages_episodes_within_equal_stretches():
    steps, values = reporting.curve(run(means=[1.0, 3.0, None, None, None, 7.0]), points=3)
    np.testing.assert_allclose(steps, [20, 40, 60])
    np.testing.assert_array_equal(values, [2.0, np.nan, 7.0])


def test_a_curve_has_no_more_points_than_batches():
    steps, values = reporting.curve(run(means=[4.0, 5.0]), points=50)
    np.testing.assert_allclose(steps, [10, 20])
    np.testing.assert_array_equal(values, [4.0, 5.0])


def test_two_seeds_have_the_interval_of_their_range():
    # Means of two draws from {2, 6}: 2, 4, 6 with probabilities ¼, ½, ¼, so the 2.5 % quantiles are 2 and 6.
    (outcome,) = reporting.outcomes([run(seed=1, means=[2.0]), run(seed=2, means=[6.0])])
    assert (outcome.mean, outcome.low, outcome.high) == (4.0, 2.0, 6.0)
    assert (outcome.seeds, outcome.returns) == ((1, 2), (2.0, 6.0))


@pytest.mark.parametrize(
    ("theirs", "verdict"), [(20.0, "**below**"), (1.0, "above"), (11.0, "no difference shown")]
)
def test_the_verdict_follows_the_interval_of_the_difference(theirs, verdict):
    ours = [run("ours", seed, [value]) for seed, value in ((1, 10.0), (2, 12.0))]
    sb3 = [run("sb3", seed, [theirs + seed]) for seed in (1, 2)]
    found = reporting.outcomes(ours + sb3)
    (comparison,) = reporting.comparisons(found)
    assert comparison.difference == pytest.approx(11 - (theirs + 1.5))
    assert comparison.verdict == verdict
    assert reporting.comparisons(found) == [comparison]  # The bootstrap is seeded.
    assert verdict in reporting.report(found, [comparison], 10)


def test_a_task_with_one_contender_has_an_outcome_but_no_comparison():
    found = reporting.outcomes([run("ours")])
    assert reporting.comparisons(found) == []
    assert "Stable-Baselines3" not in reporting.report(found, [], 20).split("![")[0]


def test_the_report_writes_table_numbers_curves_and_figure(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("<!-- returns:start --><!-- returns:end -->")
    everything = [run(one, seed, [1.0, None, 2.0 + seed]) for one in ("ours", "sb3") for seed in (1, 2)]
    text = returns.write_report(everything, 30, tmp_path / "out", readme)
    assert text in readme.read_text()
    assert "| T | escapevelocity | 4 | 3 – 4 | 3, 4 |" in text  # means 3 and 4, printed without digits
    numbers = json.loads((tmp_path / "out" / "returns.json").read_text())
    assert [one["returns"] for one in numbers["outcomes"]] == [[3.0, 4.0], [3.0, 4.0]]
    assert numbers["comparisons"][0]["verdict"] == "no difference shown"
    curves = pq.read_table(tmp_path / "out" / "returns.parquet").to_pylist()
    assert len(curves) == 4 * 3
    assert curves[2] == {"task": "T", "contender": "ours", "seed": 1, "env_steps": 30.0, "return_mean": 3.0}
    assert (tmp_path / "out" / "returns.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_finished_is_not_trained_again_and_only_the_rest_is(monkeypatch, tmp_path, capsys):
    trained = []

    def run_child(module, job, variables):
        trained.append((job["task"], job["contender"], job["seed"]))
        return {"job": job}

    monkeypatch.setattr(returns.common, "run_child", run_child)
    argv = ["--tasks", "A", "B", "--steps", "2048", "--work", str(tmp_path), "--only", "sb3"]
    returns.main([*argv, "--seeds", "1"])
    returns.main([*argv, "--seeds", "1", "2"])
    assert trained == [("A", "sb3", 1), ("B", "sb3", 1), ("A", "sb3", 2), ("B", "sb3", 2)]
    assert "[1/4] A sb3 seed 1: done before" in capsys.readouterr().out
    returns.main([*argv, "--seeds", "1", "--steps", "4096"])  # Another length is another run.
    assert trained[4:] == [("A", "sb3", 1), ("B", "sb3", 1)]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--steps", "2047"], "--steps 2047: must be at least one batch of 2048"),
        (["--core", "4096"], "--core 4096: must be one of"),
        (["--report"], "no finished run of 1000000 steps in .*; run without --report first"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(argv, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        returns.main([*argv, "--work", str(tmp_path)])


@pytest.fixture
def shared():
    """Makes environments as Stable-Baselines3 sees them."""
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("envpool")
    from benchmarks._sb3_environments import SharedEnvironments

    made = []

    def make(*arguments):
        made.append(SharedEnvironments(*arguments))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


def test_both_trainers_have_the_same_settings(shared):
    spec = runs.our_spec({"task": "Hopper-v4", "seed": 3, "steps": 1_000_000})
    model = runs.sb3_model(shared("Hopper-v4", 3, 2), seed=3)
    env, objective, optimizer = spec.environment, spec.objective, spec.optimizer
    adam = model.policy.optimizer.param_groups[0]
    ours_and_theirs = [
        (env.num_envs, model.n_envs),
        (env.rollout_length, model.n_steps),
        (objective.gamma, model.gamma),
        (objective.gae_lambda, model.gae_lambda),
        (objective.clip_epsilon, model.clip_range(1.0)),
        (objective.clip_value, model.clip_range_vf is not None),
        (objective.entropy_coef, model.ent_coef),
        (objective.value_coef, model.vf_coef),
        (objective.normalize_advantages, model.normalize_advantage),
        (optimizer.epochs, model.n_epochs),
        (optimizer.minibatch_size, model.batch_size),
        (optimizer.learning_rate, adam["lr"]),
        ((optimizer.adam_beta1, optimizer.adam_beta2), adam["betas"]),
        (optimizer.adam_eps, adam["eps"]),
        (optimizer.max_grad_norm, model.max_grad_norm),
    ]
    for ours, theirs in ours_and_theirs:
        assert ours == theirs
    assert (optimizer.clip_gradients, optimizer.anneal) == ("jointly", "none")
    assert (env.time_limit, env.append_time, env.normalization) == ("truncation", False, "fixed")
    assert not model.use_sde
    assert model.target_kl is None


def test_both_trainers_start_from_the_same_kind_of_network(shared):
    import jax

    from escapevelocity.ppo.initialization import initial_agent

    spec = runs.our_spec({"task": "Hopper-v4", "seed": 3, "steps": 1_000_000})
    policy = runs.sb3_model(shared("Hopper-v4", 3, 2), seed=3).policy
    agent = initial_agent(jax.random.key(0), spec.network, 11, 6)
    extractor = policy.mlp_extractor
    pairs = [
        (agent.actor.network, [*extractor.policy_net, policy.action_net]),
        (agent.critic, [*extractor.value_net, policy.value_net]),
    ]
    for mlp, modules in pairs:
        layers = [module for module in modules if hasattr(module, "weight")]
        assert [type(m).__name__ for m in modules if not hasattr(m, "weight")] == ["Tanh"] * 2
        for weight, bias, layer in zip(mlp.weights, mlp.biases, layers, strict=True):
            theirs = layer.weight.detach().numpy()
            assert weight.shape == theirs.shape
            # Orthogonal matrices of one gain have the same singular values; float32 QR holds them to 1e-5.
            ours_values = np.linalg.svd(weight, compute_uv=False)
            np.testing.assert_allclose(ours_values, np.linalg.svd(theirs, compute_uv=False), rtol=1e-5)
            np.testing.assert_array_equal(bias, layer.bias.detach().numpy())
    np.testing.assert_array_equal(agent.actor.log_std, policy.log_std.detach().numpy())
    assert spec.network.activation == "tanh"


def test_a_time_limit_is_a_truncation_with_its_final_observation(shared):
    # Pendulum-v1 never terminates and is cut after 200 steps.
    envs = shared("Pendulum-v1", 1, 2)
    observations = envs.reset()
    total = np.zeros(2)
    for t in range(200):
        envs.step_async(np.zeros((2, 1), np.float32))
        before = observations
        observations, rewards, ended, infos = envs.step_wait()
        total += rewards
        assert ended.tolist() == [t == 199] * 2
    for row, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is True
        moved = np.abs(info["terminal_observation"] - before[row]).max()
        restarted = np.abs(observations[row] - before[row]).max()
        assert 0 < moved < restarted  # One step of the same episode, against a jump to a new one.
    # float32 rewards of up to 16.3, summed over 200 steps, against the sum in float64
    np.testing.assert_allclose(envs.finished_returns(), total, rtol=1e-5)
    assert envs.finished_returns() == []


def test_a_fall_is_a_termination_and_not_bootstrapped(shared):
    envs = shared("Hopper-v4", 1, 2)
    envs.reset()
    for _ in range(200):
        envs.step_async(np.ones((2, 3), np.float32))
        _, _, ended, infos = envs.step_wait()
        if ended.any():
            break
    (row,) = np.flatnonzero(ended)[:1]
    assert infos[row]["TimeLimit.truncated"] is False


def test_observations_of_a_uniform_policy_are_normalised(shared):
    envs = shared("HalfCheetah-v4", 5, 2)
    generator, seen = np.random.default_rng(0), [envs.reset()]
    for _ in range(1500):
        envs.step_async(generator.uniform(-1, 1, (2, 6)).astype(np.float32))
        seen.append(envs.step_wait()[0])
    # Measured: normalised, the entries' stds lie between 0.97 and 1.03 and |means| below 0.06; raw, the stds lie
    # between 0.08 and 7.1. These are other episodes than those that the statistics are from.
    values = np.concatenate(seen)
    assert np.abs(values.mean(axis=0)).max() < 0.2
    assert 0.8 < values.std(axis=0).min() <= values.std(axis=0).max() < 1.25


@pytest.mark.slow
@pytest.mark.usefixtures("quickly_compiling_children")
def test_a_short_run_of_both_is_reported(tmp_path, capsys):
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("envpool")
    argv = ["--tasks", "Hopper-v4", "--seeds", "1", "--steps", "4100", "--work", str(tmp_path / "work")]
    returns.main([*argv, "--out", str(tmp_path / "out"), "--no-readme"])
    for contender in ("ours", "sb3"):
        path = returns.result_path(tmp_path / "work", "Hopper-v4", contender, 1, 4100)
        batches = json.loads(path.read_text())["batches"]
        assert [batch["env_steps"] for batch in batches] == [2048, 4096]
        # A random Hopper falls within about 20 to 30 steps with a return between 5 and 50.
        assert all(30 < batch["episodes"] < 200 for batch in batches)
        assert all(5 < batch["return_sum"] / batch["episodes"] < 50 for batch in batches)
    out = capsys.readouterr().out
    assert "escapevelocity − Stable-Baselines3" in out
    # Killed after training and before its result was written: nothing is trained again.
    returns.result_path(tmp_path / "work", "Hopper-v4", "ours", 1, 4100).unlink()
    job = {"task": "Hopper-v4", "contender": "ours", "seed": 1, "steps": 4100}
    folder = tmp_path / "work" / "Hopper-v4.ours.1.4100.run"
    again = runs.train_ours({**job, "folder": str(folder)})
    assert [batch["env_steps"] for batch in again] == [2048, 4096]
