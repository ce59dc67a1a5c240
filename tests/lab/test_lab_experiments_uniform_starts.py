"""Uniform starts: steps against closed forms and a NumPy loop, the corner counter against hand counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from escapevelocity.errors import UserError
from escapevelocity.lab import npg, sampled, spg
from escapevelocity.lab.experiments._bandits import OwnBandits, follow
from escapevelocity.lab.experiments._corners import observer
from escapevelocity.lab.experiments.uniform_starts import UniformStarts, random_rewards, separation

SMALL = {"num_actions": (4,), "runs": 300, "sampled_runs": 40, "sampled_rates": (0.4,), "horizon": 200.0}
REWARDS = np.random.default_rng(3).random((4, 30))
UNIFORM = np.full((4, 30), 0.25)


@pytest.fixture(scope="module")
def findings():
    return UniformStarts(methods=("EPG(2)", "NPG"), **SMALL).run()


def regret(probs, rewards):
    return rewards.max(axis=0) - (probs * rewards).sum(axis=0)


def test_natural_gradient_solves_each_bandit_when_the_closed_form_does():
    # From 1/K the natural gradient's policy after t updates is softmax(η·r·t).
    notes = follow(npg(0.4), REWARDS, UNIFORM, observer(0.01, 5), 2000)
    for rewards, steps in zip(REWARDS.T, notes.steps, strict=True):
        logits = 0.4 * rewards[:, None] * np.arange(2001)
        probs = np.exp(logits - logits.max(axis=0))
        probs /= probs.sum(axis=0)
        assert steps == (regret(probs, rewards[:, None]) < 0.01).argmax()
        assert steps > 5


def test_every_run_follows_its_own_bandit_as_a_plain_loop_does():
    notes = follow(spg(0.4), REWARDS, UNIFORM, observer(0.05, 5), 400)
    for i in range(30):
        rewards, theta, lowest, steps = REWARDS[:, i], np.zeros(4), 1.0, -1
        for step in range(401):
            probs = np.exp(theta) / np.exp(theta).sum()
            if regret(probs, rewards) < 0.05:
                steps = step
                break
            lowest = min(lowest, probs[rewards.argmax()])
            theta += 0.4 * probs * (rewards - probs @ rewards)
        assert notes.steps[i] == steps
        assert notes.lowest[i] == pytest.approx(lowest, rel=1e-12)


def test_wrong_corners_and_dips_are_counted_until_the_run_is_solved():
    watch = observer(0.1, early_steps=1)
    path = [[0.3, 0.7], [0.05, 0.95], [0.08, 0.92], [0.2, 0.8], [0.95, 0.05], [0.01, 0.99]]
    with jax.enable_x64(True):
        bandit = OwnBandits(jnp.array([[1.0], [0.0]]))
        evaluations = [bandit.evaluate(jnp.array(probs)[:, None]) for probs in path]
        notes = watch.first(evaluations[0])
        for step, at in enumerate(evaluations):
            notes = watch.see(notes, jnp.asarray(step), at, jnp.zeros(1, jnp.int64))
        assert notes.steps.tolist() == [4]
        assert notes.in_corner.tolist() == [2]
        assert notes.lowest.tolist() == [0.05]
        assert notes.early_lowest.tolist() == [0.05]
        assert watch.finished(notes).tolist() == [True]


def test_exact_gradients_from_the_uniform_policy_are_never_trapped_and_never_dip(findings):
    # π·A is largest for the best action while it is the likeliest, so it stays the likeliest and only grows.
    runs = findings.tables["runs"]
    exact = runs["gradients"] == "exact"
    assert exact.sum() == 600
    assert runs["solved"][exact].all()
    assert not runs["trapped"][exact].any()
    assert (runs["lowest_best_prob"][exact] >= 0.25 - 1e-12).all()
    assert "0 of 600 runs were trapped" in findings.answers[0]


def test_escort_2_follows_the_flow_of_the_natural_gradient(findings):
    # Both are the replicator equation: u' = (η/2)·u·A gives π' = η·π·A. Updates of 0.4 differ by a few percent.
    runs = findings.tables["runs"]
    exact = runs["gradients"] == "exact"
    escort, natural = (runs["steps"][exact & (runs["method"] == name)] for name in ("EPG(2)", "NPG"))
    np.testing.assert_allclose(escort, natural, rtol=0.05, atol=2)
    assert np.corrcoef(escort, natural)[0, 1] > 0.99


def test_rewards_are_uniform(findings):
    runs = findings.tables["runs"]
    gaps = runs["reward_gap"][(runs["gradients"] == "exact") & (runs["method"] == "NPG")]
    # The spacings of K = 4 uniform numbers: Beta(1, 4), with mean 1/5 and variance 4/150; five standard errors.
    assert abs(gaps.mean() - 0.2) < 5 * np.sqrt(4 / 150 / len(gaps))


def test_the_table_says_what_the_runs_did(findings):
    runs = findings.tables["runs"]
    for i, method in enumerate(findings.tables[""]["method"]):
        row = {name: column[i] for name, column in findings.tables[""].items()}
        own = (runs["method"] == method) & (runs["gradients"] == row["gradients"])
        assert row["runs"] == own.sum()
        assert row["median_steps"] == np.median(runs["steps"][own])
        assert row["trapped"] == np.mean(runs["trapped"][own])
        assert row["trapped_low"] <= row["trapped"] <= row["trapped_high"]
        assert runs["steps"][own & ~runs["solved"]].tolist() == [500] * (own & ~runs["solved"]).sum()


def test_sampled_runs_can_be_trapped_at_the_action_that_they_happened_to_take():
    # NPG with baseline 0 and a large rate stays with its first action: three of four are wrong.
    notes = follow(
        sampled(npg(50.0), 0.0), np.tile([[1.0], [0.9], [0.9], [0.9]], (1, 200)), np.full((4, 200), 0.25),
        observer(0.01, 5), 50, jax.random.key(0),
    )  # fmt: skip
    trapped = notes.in_corner > 25
    assert ((notes.steps >= 0) ^ trapped).all()
    # Binomial, five standard deviations.
    assert abs(trapped.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 200)


def test_the_same_settings_give_the_same_numbers_whatever_is_compared(findings):
    runs = findings.tables["runs"]
    own = runs["method"] == "NPG"
    for name, column in UniformStarts(methods=("NPG",), **SMALL).run().tables["runs"].items():
        np.testing.assert_array_equal(column, runs[name][own])


def test_separation_counts_the_pairs_in_the_right_order():
    trapped, score = np.array([True, True, False, False]), np.array([3.0, 1.0, 1.0, 0.0])
    assert separation(trapped, score) == (3 + 0.5) / 4  # three pairs in order, one tie
    assert np.isnan(separation(np.zeros(4, bool), score))


def test_another_seed_gives_other_rewards():
    one, again, other = (random_rewards(seed, 3, 5) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ("PPO",)}, r"methods\[0\] = 'PPO': must be one of SPG, EPG\(2\)"),
        ({"num_actions": (5, 1)}, r"num_actions\[1\] = 1: must be an integer ≥ 2"),
        ({"num_actions": ()}, r"num_actions = \(\): must be one or more of"),
        ({"sampled_rates": (0.0,)}, r"sampled_rates\[0\] = 0\.0: must be a finite number > 0"),
        ({"learning_rate": -1.0}, r"learning_rate = -1\.0: must be a finite number > 0"),
        ({"horizon": float("inf")}, "horizon = inf: must be a finite number > 0"),
        ({"horizon": 1e30}, r"horizon = 1e\+30: must be at most 1e\+17"),
        ({"runs": 0}, "runs = 0: must be an integer ≥ 1"),
        ({"sampled_runs": 0}, "sampled_runs = 0: must be an integer ≥ 1"),
        ({"early_steps": 0}, "early_steps = 0: must be an integer ≥ 1"),
        ({"tolerance": 1.0}, r"tolerance = 1\.0: must be in \(0, 1\)"),
        ({"seed": -1}, "seed = -1: must be an integer ≥ 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        UniformStarts(**settings).run()
