"""Other trainers' logs become our columns: every conversion against hand arithmetic."""

import doctest
import importlib
import json
import math

import numpy as np
import pytest
from foreign_logs import (
    CLEANRL_ARGUMENTS,
    rllib_new_result,
    rllib_result,
    sb3_rows,
    write_csv,
    write_events,
    write_json_lines,
)

from escapevelocity.errors import UserError
from escapevelocity.health.context import Context
from escapevelocity.health.diagnosis import diagnose
from escapevelocity.health.signs import Sign
from escapevelocity.health.verdict import Verdict
from escapevelocity.health.watch import COLUMNS
from escapevelocity.interop.foreign import read_foreign

NAN = math.nan


def read(path, env=None):
    found = read_foreign(path, env)
    assert found is not None
    return found


def test_the_tags_of_sb3_become_our_columns_with_their_sign_and_unit(tmp_path):
    columns = sb3_rows(
        3,
        rollout_ep_rew_mean=[10.0, 20.0, 30.0],
        rollout_ep_len_mean=[11.0, 21.0, 31.0],
        train_approx_kl=[0, 0.01, 0.02],
        train_clip_fraction=[0, 0.1, 0.2],
        train_entropy_loss=[0, -0.6, -0.5],
        train_value_loss=[0, 5.0, 4.0],
        train_explained_variance=[0, 0.1, 0.2],
        train_clip_range=[0, 0.1, 0.1],
        train_learning_rate=[0, 1e-3, 1e-4],
    )
    found = read(write_csv(tmp_path / "progress.csv", columns))
    assert found.records.keys() == {
        "env_steps",
        "perf/return_mean",
        "perf/length_mean",
        "trust/kl_k3",
        "trust/ratio_outside_fraction",
        "policy/entropy",
        "loss/value",
        "fault",
    }
    expected = {
        "env_steps": [2048, 4096, 6144],
        "perf/return_mean": [10, 20, 30],
        "perf/length_mean": [11, 21, 31],
        "trust/kl_k3": [NAN, 0.01, 0.02],
        "trust/ratio_outside_fraction": [NAN, 0.1, 0.2],
        "policy/entropy": [NAN, 0.6, 0.5],
        "loss/value": [NAN, 5, 4],
    }
    for column, values in expected.items():
        np.testing.assert_array_equal(found.records[column], values)
    assert any(note.startswith("train/explained_variance is not read: ") for note in found.notes)
    assert list(found.records["fault"]) == ["", "", ""]
    # No train/std: the actions are discrete. The settings are the first values that were logged.
    assert found.context == Context(
        continuous=False, clip_epsilon=0.1, learning_rate=1e-3, return_episodes=100
    )
    assert found.source == str(tmp_path / "progress.csv")
    assert any("train/entropy_loss is read as policy/entropy" in note for note in found.notes)


def test_a_normal_of_sb3_is_known_by_its_std_and_has_one_entropy(tmp_path):
    columns = sb3_rows(2, rollout_ep_rew_mean=[1, 2], train_entropy_loss=[0, -1.5], train_std=[0, 1.0])
    found = read(write_csv(tmp_path / "progress.csv", columns))
    assert found.context.continuous is True
    np.testing.assert_array_equal(found.records["policy/entropy_base"], [NAN, 1.5])


def test_episodes_of_cleanrl_are_put_into_the_batch_in_which_they_ended(tmp_path):
    scalars = [
        ("charts/episodic_return", 1.0, 5),
        ("charts/episodic_length", 5.0, 5),
        ("charts/episodic_return", 3.0, 10),  # Ends with the batch: part of it.
        ("losses/entropy", 0.7, 10),
        ("charts/episodic_return", 7.0, 12),
        ("charts/episodic_return", 9.0, 12),  # Another environment, the same step: another episode.
        ("losses/entropy", 0.6, 20),
        ("losses/entropy", 0.5, 30),  # A batch in which no episode ended.
        ("charts/episodic_return", 4.0, 33),  # After the last update.
    ]
    records = read(write_events(tmp_path, scalars)).records
    np.testing.assert_array_equal(records["env_steps"], [10, 20, 30, 33])
    np.testing.assert_array_equal(records["perf/return_mean"], [2.0, 8.0, NAN, 4.0])
    np.testing.assert_array_equal(records["perf/return_max"], [3.0, 9.0, NAN, 4.0])
    np.testing.assert_array_equal(records["perf/episodes"], [2, 2, 0, 1])
    np.testing.assert_array_equal(records["perf/length_mean"], [5.0, NAN, NAN, NAN])
    np.testing.assert_allclose(
        records["policy/entropy"], [0.7, 0.6, 0.5, NAN], rtol=1e-7
    )  # Events are float32.


def test_the_losses_of_cleanrl_are_converted_and_its_arguments_are_the_context(tmp_path):
    scalars = [
        ("losses/approx_kl", 0.25, 128),
        ("losses/old_approx_kl", -0.5, 128),
        ("losses/clipfrac", 0.125, 128),
        ("losses/value_loss", 3.0, 128),
        ("losses/policy_loss", 0.5, 128),
        ("losses/explained_variance", 0.5, 128),
    ]
    found = read(write_events(tmp_path, scalars, CLEANRL_ARGUMENTS))
    values = {column: values[0] for column, values in found.records.items()}
    assert values == {
        "env_steps": 128,
        "trust/kl_k3": 0.25,
        "trust/kl_k1": -0.5,
        "trust/ratio_outside_fraction": 0.125,
        "loss/value": 6.0,  # CleanRL logs ½·(V − R)², we (V − R)².
        "fault": "",
    }
    assert found.context == Context(
        clip_epsilon=0.1, continuous=False, action_size=2, total_steps=1000, epochs=4, learning_rate=2.5e-4
    )


OLD_STATS = {
    "kl": 0.02,
    "entropy": 0.66,
    "vf_loss": 8.9,
    "policy_loss": -0.03,
    "total_loss": 8.8,
    "cur_lr": 5e-5,
}
NEW_STATS = {
    "mean_kl_loss": 0.02,
    "entropy": 0.66,
    "vf_loss": 8.0,
    "vf_loss_unclipped": 8.9,
    "policy_loss": -0.03,
}


@pytest.mark.parametrize(("result", "stats"), [(rllib_result, OLD_STATS), (rllib_new_result, NEW_STATS)])
def test_both_stacks_of_rllib_give_the_same_columns(result, stats, tmp_path):
    path = write_json_lines(tmp_path / "result.json", [result(4000, stats, 20.0), result(8000, stats, 25.0)])
    records = read(path).records
    expected = {
        "env_steps": [4000, 8000],
        "perf/return_mean": [20, 25],
        "perf/return_max": [30, 35],
        "perf/length_mean": [22.5, 22.5],
        "perf/episodes": [175, 175],
        "trust/kl": [0.02, 0.02],
        "policy/entropy": [0.66, 0.66],
        "loss/value": [8.9, 8.9],
    }
    for column, values in expected.items():
        np.testing.assert_array_equal(records[column], values)
    assert records.keys() == {*expected, "fault"}


def test_the_settings_of_rllib_come_from_its_results_or_from_params_json(tmp_path):
    expected = Context(
        clip_epsilon=0.3,
        epochs=30,
        learning_rate=5e-5,
        continuous=False,
        action_size=2,
        return_episodes=100,
    )
    assert (
        read(write_json_lines(tmp_path / "result.json", [rllib_result(4000, OLD_STATS, 20.0)])).context
        == expected
    )
    trial = tmp_path / "trial"
    write_csv(trial / "progress.csv", {"timesteps_total": [4000], "episode_reward_mean": [20.0]})
    config = rllib_result(4000, {}, 0.0)["config"]
    (trial / "params.json").write_text(json.dumps({**config, "callbacks": {"a": 1}, "explore": True}))
    assert read(trial).context == expected


def test_a_kl_of_zero_from_rllib_was_not_measured(tmp_path):
    """With kl_coeff = 0 RLlib writes 0 in its place: ppo_torch_policy.py."""
    stats = {**OLD_STATS, "kl": 0.0}
    records = read(write_json_lines(tmp_path / "result.json", [rllib_result(4000, stats, 20.0)])).records
    np.testing.assert_array_equal(records["trust/kl"], [NAN])


def test_rllib_in_tensorboard_counts_iterations_and_is_read_in_environment_steps(tmp_path):
    scalars = []
    for iteration in (1, 2, 3):
        scalars += [
            ("ray/tune/env_runners/episode_return_mean", 10.0 * iteration, iteration),
            ("ray/tune/num_env_steps_sampled_lifetime", 4000.0 * iteration, iteration),
            ("ray/tune/learners/default_policy/mean_kl_loss", 0.5, iteration),
        ]
    records = read(write_events(tmp_path, scalars)).records
    np.testing.assert_array_equal(records["env_steps"], [4000, 8000, 12000])
    np.testing.assert_array_equal(records["perf/return_mean"], [10, 20, 30])
    np.testing.assert_array_equal(records["trust/kl"], [0.5, 0.5, 0.5])


def test_an_export_of_wandb_holds_one_run_per_name(tmp_path):
    columns = {"global_step": [100, 200]}
    for run, value in (("CartPole-v1__ppo__1", 1.0), ("CartPole-v1__ppo__2", 2.0)):
        columns[f"{run} - losses/entropy"] = [value, ""]
        columns[f"{run} - losses/entropy__MIN"] = [-9.0, -9.0]
        columns[f"{run} - losses/entropy__MAX"] = [9.0, 9.0]
        columns[f"{run} - charts/episodic_return"] = [10 * value, 20 * value]
    found = read(write_csv(tmp_path / "wandb_export.csv", columns))
    np.testing.assert_array_equal(found.records["seed"], [0, 0, 1, 1])
    np.testing.assert_array_equal(found.records["policy/entropy"], [1, NAN, 2, NAN])
    np.testing.assert_array_equal(found.records["perf/return_mean"], [10, 20, 20, 40])
    assert found.notes[:2] == ["--seed 0 is CartPole-v1__ppo__1", "--seed 1 is CartPole-v1__ppo__2"]


def test_a_history_of_wandb_prefers_global_step_to_its_own_counter(tmp_path):
    columns = {"_step": [0, 1, 2], "global_step": [128, 128, 256], "losses/entropy": [0.7, "", 0.6]}
    columns["losses/clipfrac"] = ["", 0.25, ""]
    records = read(write_csv(tmp_path / "history.csv", columns)).records
    np.testing.assert_array_equal(records["env_steps"], [128, 256])
    np.testing.assert_array_equal(records["policy/entropy"], [0.7, 0.6])
    np.testing.assert_array_equal(records["trust/ratio_outside_fraction"], [0.25, NAN])


def test_steps_that_are_not_of_the_environment_are_said_to_be_so(tmp_path):
    path = write_csv(tmp_path / "export.csv", {"Step": [1, 2], "losses/entropy": [0.7, 0.6]})
    assert any(note.startswith("steps are those of Step") for note in read(path).notes)


def test_our_own_columns_are_taken_as_they_are_and_beat_an_estimate(tmp_path):
    columns = {"time/total_timesteps": [1, 2], "train/approx_kl": [9.0, 9.0], "trust/kl_k3": [0.1, 0.2]}
    found = read(write_csv(tmp_path / "progress.csv", {**columns, "health/actor/srank": [30, 29]}))
    np.testing.assert_array_equal(found.records["trust/kl_k3"], [0.1, 0.2])
    np.testing.assert_array_equal(found.records["health/actor/srank"], [30, 29])
    assert "left out, since other tags tell the same better: train/approx_kl" in found.notes


def test_dead_units_are_judged_where_the_log_says_of_how_many(tmp_path):
    columns = {"time/total_timesteps": [2048 * i for i in range(1, 31)], "rollout/ep_rew_mean": [10.0] * 30}
    columns["health/actor/dead_neurons"] = [1.0] * 10 + [62.0] * 20
    signs = {}
    for units in (None, 64, 6400):
        logged = columns if units is None else {**columns, "health/actor/units": [float(units)] * 30}
        found = read(write_csv(tmp_path / f"{units}.csv", logged))
        assert found.context.width == units
        signs[units] = {
            onset.text
            for onset in diagnose(found.records, found.context).onsets
            if onset.sign is Sign.DEAD_NEURONS
        }
    assert signs == {None: set(), 64: {"62 of 64 neurons dead, 1 at the start"}, 6400: set()}


def test_a_number_outside_its_range_that_no_rule_reads_is_told(tmp_path):
    """stable-baselines3 #1593: a KL of 33 and a clip fraction of 0.999 were on the screen, and nobody was told."""
    columns = sb3_rows(4, train_approx_kl=[0, 0.02, 12.0, 33.0], train_clip_fraction=[0, 0.2, 0.95, 0.999])
    notes = read(write_csv(tmp_path / "progress.csv", columns)).notes
    for column, first in (("trust/kl_k3", "12"), ("trust/ratio_outside_fraction", "0.95")):
        told = f"{column} was outside its healthy range in 2 rows, first with {first} at step 6,144"
        assert any(note.startswith(told) for note in notes) == (column not in COLUMNS)


def test_a_policy_that_leaves_the_trust_region_is_named_with_its_onset(tmp_path):
    """stable-baselines3 #1593: a KL of 33 and a clip fraction of 0.999 were on the screen, and nobody was told."""
    kl, clipped = [0.01] * 20 + [33.0] * 20, [0.1] * 20 + [0.999] * 20
    columns = sb3_rows(40, train_approx_kl=kl, train_clip_fraction=clipped)
    found = read(write_csv(tmp_path / "progress.csv", columns))
    diagnosis = diagnose(found.records, found.context)
    assert diagnosis.verdict is Verdict.TRUST_REGION_FAILURE
    (onset,) = (onset for onset in diagnosis.onsets if onset.sign is Sign.TRUST_REGION_LEFT)
    assert onset.step == 21 * 2048
    assert "trust/kl_k3 33" in onset.text


def steady(rows, *, entropy, returns):
    return sb3_rows(rows, rollout_ep_rew_mean=returns, train_entropy_loss=[-value for value in entropy])


def test_an_entropy_that_vanished_with_the_return_is_named_with_its_onset(tmp_path):
    entropy = [0.69] * 20 + [0.001] * 20
    returns = [10.0 + 9 * i for i in range(20)] + [15.0] * 20
    found = read(write_csv(tmp_path / "progress.csv", steady(40, entropy=entropy, returns=returns)))
    diagnosis = diagnose(found.records, found.context)
    assert diagnosis.verdict is Verdict.ENTROPY_COLLAPSE
    first = {onset.sign: onset.step for onset in diagnosis.onsets}
    # Row 20 is the first that is ill; its steps are 21 · 2048.
    assert first[Sign.ENTROPY_COLLAPSE] == 21 * 2048


@pytest.mark.parametrize("returns", [[200.0 + i for i in range(40)], [100.0] * 40])
def test_a_log_without_features_is_never_called_healthy(returns, tmp_path):
    found = read(write_csv(tmp_path / "progress.csv", steady(40, entropy=[0.6] * 40, returns=returns)))
    diagnosis = diagnose(found.records, found.context)
    assert diagnosis.verdict is Verdict.NOT_MEASURED
    assert "actor's features" in diagnosis.reason
    for sign in (Sign.RANK_DECLINE, Sign.DEAD_NEURONS, Sign.PREACTIVATION_GROWTH, Sign.DEGENERATE_POLICY):
        assert any(text.startswith(f"{sign}: ") for text in diagnosis.not_measured)


def test_the_kl_of_rllib_is_judged(tmp_path):
    rows = [
        rllib_result(4000 * (i + 1), {**OLD_STATS, "kl": 0.01 if i < 10 else 33.0}, 20.0 + i)
        for i in range(20)
    ]
    found = read(write_json_lines(tmp_path / "result.json", rows))
    diagnosis = diagnose(found.records, found.context)
    assert diagnosis.verdict is Verdict.TRUST_REGION_FAILURE
    assert diagnosis.onsets[0].step == 44_000


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_a_loss_that_is_not_finite_is_a_fault_where_it_was_logged(bad, tmp_path):
    losses = [0, 1.0, 1.0, bad, bad]
    found = read(
        write_csv(tmp_path / "progress.csv", sb3_rows(5, train_value_loss=losses, train_loss=losses))
    )
    told = f"train/loss is {bad}, train/value_loss is {bad}"
    assert sorted(found.records["fault"][2].split(", ")) == told.split(", ")
    assert list(found.records["fault"][:2]) == [
        "",
        "",
    ]  # The first row of the file has none of these columns.
    diagnosis = diagnose(found.records, found.context)
    assert diagnosis.verdict is Verdict.NON_FINITE
    assert diagnosis.onsets[0].step == 4 * 2048


def test_an_undefined_mean_is_no_fault(tmp_path):
    """RLlib's return is NaN before an episode has ended, an explained variance where all returns are equal."""
    rows = [
        rllib_result(4000, {**OLD_STATS, "vf_explained_var": NAN}, NAN),
        rllib_result(8000, OLD_STATS, 1.0),
    ]
    records = read(write_json_lines(tmp_path / "result.json", rows)).records
    np.testing.assert_array_equal(records["perf/return_mean"], [NAN, 1.0])
    assert list(records["fault"]) == ["", ""]


def test_the_environment_is_asked_for_its_actions_where_the_log_names_none(tmp_path):
    path = write_csv(tmp_path / "progress.csv", sb3_rows(2, train_entropy_loss=[0, -1.0], train_std=[0, 1.0]))
    assert read(path).context.action_size is None
    assert read(path, env="Pendulum-v1").context.action_size == 1
    with pytest.raises(UserError, match="Pendulun-v1"):
        read_foreign(path, env="Pendulun-v1")


def test_a_log_does_not_decide_what_is_imported(tmp_path, monkeypatch):
    (tmp_path / "canary.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    scalars = [("losses/entropy", 0.7, 10)]
    found = read(write_events(tmp_path / "run", scalars, {**CLEANRL_ARGUMENTS, "env_id": "canary:Thing-v0"}))
    assert found.context.continuous is None


@pytest.mark.parametrize("module", ["foreign", "_foreign_log", "_foreign_advice"])
def test_an_example_of_the_readers_prints_what_it_says(module):
    result = doctest.testmod(importlib.import_module(f"escapevelocity.interop.{module}"))
    assert (result.failed, result.attempted > 0) == (0, True)
