"""Stable-Baselines3 as a job of the engine, on Pendulum: its episodes of 200 steps need no simulator."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from studies.job_kind import JobKind
from studies.sb3_replication.environments import make_environments, measure_observations
from studies.sb3_replication.job import SB3Job, make_model, state_of
from studies.sb3_replication.plan import SB3, SHORT_OURS, SHORT_SB3
from studies.sb3_replication.settings import model_arguments, require_expressible

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import (
    EnvironmentConfig,
    NetworkConfig,
    OptimizerConfig,
    PPOSpec,
)
from escapevelocity.runs import Observer, checkpoint, open_run
from escapevelocity.study.grid import cells
from escapevelocity.study.kinds import kind

BATCH, BATCHES = 2 * 128, 3


@pytest.fixture
def spec():
    return PPOSpec(
        task="Pendulum-v1",
        seeds=(7,),
        steps=BATCHES * BATCH,
        environment=EnvironmentConfig(
            num_envs=2,
            rollout_length=128,
            time_limit="truncation",
            append_time=False,
            normalization_steps=300,
        ),
        network=NetworkConfig(hidden=(16, 16), activation="relu", head="normal_independent"),
        optimizer=OptimizerConfig(clip_gradients="jointly", epochs=2, learning_rate=1e-3),
    )


class Counted(Observer):
    def __init__(self):
        self.rows = []

    def on_row(self, row):
        self.rows.append(dict(row))


def test_a_unit_is_trained_once_with_a_row_for_each_update(spec, tmp_path):
    sb3 = kind(SB3)
    path, text = tmp_path / sb3.folder(spec), sb3.spec_text(spec)
    first, second = Counted(), Counted()
    assert sb3.run(text, path, [first]).state == "finished"
    assert sb3.run(text, path, [second]).state == "finished"
    assert [row["env_steps"] for row in first.rows] == [BATCH, 2 * BATCH, 3 * BATCH]
    assert second.rows == []
    run = open_run(path)
    assert set(run.records()["seed"].to_pylist()) == {7}
    ranks = run.records()["health/actor/feature_rank_pca_after"].to_pylist()
    assert all(1 <= rank <= 16 for rank in ranks)


def assert_same(first, second):
    """Two states, to the bit."""
    assert first.keys() == second.keys()
    for part, arrays in second.items():
        assert first[part].keys() == arrays.keys()
        for name, value in arrays.items():
            np.testing.assert_array_equal(first[part][name], value)


class InThree(SB3Job):
    """A segment for each batch, where the rule would give one; and the machine may go away in the second."""

    def __init__(self, goes_away=False):
        self.goes_away = goes_away

    def segments(self, spec):
        return 3

    def segment(self, spec, state, k, emit):
        def until_now(row):
            if row["batch"] == 1 and self.goes_away:
                raise OSError("the machine went away")
            return emit(row)

        return super().segment(spec, state, k, until_now)


def test_a_run_that_was_stopped_goes_on_from_its_last_boundary_to_the_bit(spec, tmp_path):
    kind_of = JobKind(InThree())
    text, whole, stopped = kind_of.spec_text(spec), tmp_path / "whole", tmp_path / "stopped"
    kind_of.run(text, whole, [])
    with pytest.raises(OSError, match="went away"):
        JobKind(InThree(goes_away=True)).run(text, stopped, [])
    later = Counted()
    assert kind_of.run(text, stopped, [later]).state == "finished"
    assert [row["batch"] for row in later.rows] == [1, 2]
    first, second = (open_run(path) for path in (whole, stopped))
    assert first.records()["env_steps"].to_pylist() == [BATCH, 2 * BATCH, 3 * BATCH]
    clocks = ("wall_time", "time/health")
    rows = [run.records().drop_columns(clocks).to_pylist() for run in (first, second)]
    assert repr(rows[0]) == repr(rows[1])  # To the bit; NaN is not equal to itself.
    like = SB3Job().initial_state(spec)
    ends = [checkpoint.load(path / checkpoint.CHECKPOINTS, 3, like=like) for path in (whole, stopped)]
    assert_same(*ends)
    # 2 epochs of the batch's minibatches, thrice: Adam's count went on, too.
    minibatches = BATCH // spec.optimizer.minibatch_size
    assert ends[0]["log_std"]["step"] == 3 * 2 * minibatches


def test_segments_are_those_of_our_trainer(spec):
    [cell, *_] = cells(SHORT_SB3)
    hopper = kind(SB3).spec(cell.settings, (1,))
    # At least ten episodes of 1,000 steps in each of 2 environments: 150,000 / 20,000 = 7.3 (73 whole batches).
    assert SB3Job().segments(hopper) == 7
    assert SB3Job().segments(spec) == 1


def test_training_is_stable_baselines3s_own(spec):
    emitted = []
    job = SB3Job()
    ours = job.segment(spec, job.initial_state(spec), 0, lambda row: emitted.append(row) or True)
    plain = make_model(spec)
    plain.learn(spec.steps)
    assert type(plain) is PPO
    assert_same(ours, state_of(plain))
    assert len(emitted) == BATCHES


def test_the_start_is_pytorchs(spec):
    state = SB3Job().initial_state(spec)["policy"]
    for name, fan_in in {
        "mlp_extractor.policy_net.0": 3,
        "mlp_extractor.policy_net.2": 16,
        "action_net": 16,
    }.items():
        bound = 1 / np.sqrt(fan_in)
        for kind_of in ("weight", "bias"):
            assert np.abs(state[f"{name}.{kind_of}"]).max() <= bound
        # Of 16 and more uniform draws the largest is below half the bound with probability 2⁻¹⁶.
        assert np.abs(state[f"{name}.weight"]).max() > bound / 2
    assert state["log_std"].tolist() == [0.0]


def test_numbers_that_stop_being_finite_end_the_unit_and_its_last_row_says_why(spec, tmp_path):
    wild = dataclasses.replace(spec, optimizer=dataclasses.replace(spec.optimizer, learning_rate=1e30))
    sb3 = kind(SB3)
    path = tmp_path / "wild"
    assert sb3.run(sb3.spec_text(wild), path, []).state == "failed"
    faults = open_run(path).records()["fault"].to_pylist()
    assert "not finite" in faults[-1]
    assert not any(faults[:-1])


def test_observations_are_normalised_by_a_uniform_policys_first_steps_and_then_no_more():
    environments = make_environments("Pendulum-v1", 2)
    environments.seed(3)
    measure_observations(environments, 100, seed=5)
    # The same steps again, by hand: two environments seeded 3 and 4, 50 uniform actions each.
    plain = [gym.make("Pendulum-v1") for _ in range(2)]
    seen = [env.reset(seed=3 + i)[0] for i, env in enumerate(plain)]
    generator = np.random.default_rng(5)
    for _ in range(50):
        actions = generator.uniform(-2.0, 2.0, (2, 1)).astype(np.float32)
        seen += [env.step(action)[0] for env, action in zip(plain, actions, strict=True)]
    # Stable-Baselines3 starts with mean 0 and variance 1 at a weight of 1e-4 in 102 observations, which adds
    # 1e-6 · (1 + mean²) to the variance, at most 2e-6 for the two of these that are cosine and sine.
    statistics = environments.obs_rms
    np.testing.assert_allclose(statistics.mean, np.mean(seen, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics.var, np.var(seen, axis=0), rtol=1e-4, atol=2e-6)
    before = statistics.mean.copy()
    environments.reset()
    shown = environments.step(np.ones((2, 1), np.float32))[0]
    assert statistics.mean.tolist() == before.tolist()
    raw = environments.get_original_obs()
    np.testing.assert_allclose(shown, (raw - statistics.mean) / np.sqrt(statistics.var), rtol=1e-4)


def test_every_setting_of_the_study_is_expressed_and_others_are_refused(spec):
    for own, theirs in zip(cells(SHORT_OURS), cells(SHORT_SB3), strict=True):
        assert own.settings == theirs.settings
        one = kind(SB3).spec(theirs.settings, (1,))
        require_expressible(one)
        arguments = model_arguments(one)
        assert (arguments["learning_rate"], arguments["n_epochs"], arguments["batch_size"]) == (
            own.settings["learning_rate"],
            own.settings["epochs"],
            64,
        )
        assert arguments["policy_kwargs"]["optimizer_kwargs"] == {"eps": 1e-8, "betas": (0.9, 0.999)}
        wanted = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[own.settings["activation"]]
        assert arguments["policy_kwargs"]["activation_fn"] is wanted
    with pytest.raises(UserError, match=r"seeds = \(1, 2\): must be a single seed"):
        require_expressible(dataclasses.replace(spec, seeds=(1, 2)))
    shared = dataclasses.replace(spec, network=dataclasses.replace(spec.network, trunk="shared"))
    with pytest.raises(UserError, match="trunk = 'shared': must be 'separate'"):
        require_expressible(shared)
    other = dataclasses.replace(spec, network=dataclasses.replace(spec.network, activation="gelu"))
    with pytest.raises(UserError, match="activation = 'gelu': must be one of tanh, relu"):
        require_expressible(other)
