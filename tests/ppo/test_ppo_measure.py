"""A row's health against features computed in NumPy float64 from the same weights, and KL against PyTorch."""

import math
from functools import cache

import jax
import numpy as np
import pytest
from small_ppo import (
    BOX,
    fresh_learner,
    numpy_mlp,
    random_batch,
    random_order,
    run_update,
    small_spec,
    task_for,
)

from escapevelocity.ppo.measure import _dead_units, health_rows, measure, view
from escapevelocity.ppo.programs import action_distribution

MEMBERS = 2
SPECS = {"tanh_normal": small_spec("tanh_normal"), "softmax": small_spec("softmax")}


class Measured:
    """Two members measured before and after an update, with everything that a test needs to compute it again."""

    def __init__(self, spec, still=False):
        self.spec, distribution = spec, action_distribution(spec, task_for(spec))
        self.old = [fresh_learner(spec, seed).agent for seed in range(MEMBERS)]
        self.batches = []
        for seed, agent in enumerate(self.old):
            batch = random_batch(spec, seed)
            params = np.asarray(params_of(spec, agent, batch.observations))
            self.batches.append(batch._replace(log_probs=np.float32(log_prob(spec, params, batch.actions))))
        self.new = (
            self.old
            if still
            else [
                run_update(spec, fresh_learner(spec, seed), batch, random_order(spec))[0].agent
                for seed, batch in enumerate(self.batches)
            ]
        )
        stack = lambda trees: jax.tree.map(lambda *x: np.stack(x), *trees)  # noqa: E731
        program = jax.jit(
            jax.vmap(
                lambda old, new, batch: measure(
                    view(old, batch.observations, distribution), new, batch, distribution, spec
                )
            )
        )
        self.device = program(stack(self.old), stack(self.new), stack(self.batches))
        self.rows = health_rows(self.device, np.stack([b.advantages for b in self.batches]), spec)


def params_of(spec, agent, observations):
    """Parameters of the action distribution, in float64: the logits, or mean and std."""
    outputs, _, _ = numpy_mlp(agent.actor.network, observations)
    if spec.network.head == "softmax":
        return outputs
    mean, x = np.split(outputs, 2, axis=-1)
    return np.concatenate([mean, np.logaddexp(0, x + np.log(np.exp(0.99) - 1)) + 0.01], axis=-1)


def log_prob(spec, params, actions):
    actions = np.asarray(actions)
    if spec.network.head == "softmax":
        shifted = params - params.max(axis=-1, keepdims=True)
        table = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return table[np.arange(len(actions)), actions]
    actions = actions.astype(np.float64)
    mean, std = np.split(params, 2, axis=-1)
    half_range = (np.array(BOX.actions.high) - np.array(BOX.actions.low)) / 2
    normal = -0.5 * ((actions - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return (normal - np.log(half_range * (1 - np.tanh(actions) ** 2))).sum(axis=-1)


@pytest.fixture(scope="module", params=SPECS)
def measured(request):
    return measurement(request.param)


@cache
def measurement(head, still=False):
    return Measured(SPECS[head], still)


def members(measured):
    yield from zip(measured.rows, measured.old, measured.new, measured.batches, strict=True)


def test_ranks_norms_and_dead_neurons_are_those_of_the_features(measured):
    for row, old, new, batch in members(measured):
        for name, networks in (
            ("actor", (old.actor.network, new.actor.network)),
            ("critic", (old.critic, new.critic)),
        ):
            for suffix, network in zip(("", "_after"), networks, strict=True):
                _, features, preactivations = numpy_mlp(network, batch.observations)
                own = {column.removeprefix(f"health/{name}/"): value for column, value in row.items()}
                sigma = np.linalg.svd(features, compute_uv=False)
                energy = np.cumsum(sigma**2) / np.sum(sigma**2)
                share = sigma / sigma.sum()
                assert own["feature_rank_pca" + suffix] == 1 + np.sum(energy < 0.99)
                assert own["srank" + suffix] == 1 + np.sum(np.cumsum(share) < 0.99)
                assert own["effective_rank" + suffix] == pytest.approx(
                    np.exp(-np.sum(share * np.log(share))), rel=1e-4
                )
                assert own["stable_rank" + suffix] == pytest.approx(
                    np.sum(sigma**2) / sigma[0] ** 2, rel=1e-4
                )
                assert own["feature_rank_lyle" + suffix] == np.sum(sigma / 8 > 0.01)  # √64 states
                assert own["numerical_rank" + suffix] == np.linalg.matrix_rank(features.astype(np.float32))
                assert own["dead_neurons" + suffix] == np.sum(features.std(axis=0, ddof=1) < 0.001)
                last, every = preactivations[-1], np.concatenate(preactivations, axis=-1)
                norms = [np.linalg.norm(x, axis=-1).mean() for x in (last, every)]
                assert own["preactivation_norm" + suffix] == pytest.approx(norms[0], rel=1e-5)
                assert own["preactivation_norm_all" + suffix] == pytest.approx(norms[1], rel=1e-5)


def test_change_is_that_between_old_and_new_features(measured):
    for row, old, new, batch in members(measured):
        for name, pair in (
            ("actor", (old.actor.network, new.actor.network)),
            ("critic", (old.critic, new.critic)),
        ):
            traces = [numpy_mlp(network, batch.observations) for network in pair]
            for what, (a, b) in (
                ("features", [trace[1] for trace in traces]),
                ("preactivations", [trace[2][-1] for trace in traces]),
            ):
                cosine = np.sum(a * b, axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
                assert row[f"change/{name}/{what}_l2"] == pytest.approx(np.mean((a - b) ** 2), rel=1e-3)
                assert row[f"change/{name}/{what}_cosine"] == pytest.approx(np.mean(1 - cosine), rel=1e-2)
                assert row[f"change/{name}/{what}_l2"] > 1e-4  # the update did move them


def test_policy_and_value_columns_are_those_of_the_outputs(measured):
    softmax = measured.spec.network.head == "softmax"
    for row, old, new, batch in members(measured):
        for agent, suffix in ((old, ""), (new, "_after")):
            params = params_of(measured.spec, agent, batch.observations)
            shown = np.exp(params) / np.exp(params).sum(axis=-1, keepdims=True) if softmax else params
            assert row["policy/variance" + suffix] == pytest.approx(
                shown.var(axis=0, ddof=1).mean(), rel=1e-4
            )
            values = numpy_mlp(agent.critic, batch.observations)[0]
            assert row["value/std" + suffix] == pytest.approx(values.std(ddof=1), rel=1e-4)
        params = params_of(measured.spec, old, batch.observations)
        if softmax:
            probs = np.exp(params) / np.exp(params).sum(axis=-1, keepdims=True)
            base = entropy = -np.sum(probs * np.log(probs), axis=-1).mean()
        else:
            mean, std = np.split(params, 2, axis=-1)
            base = np.sum(0.5 * np.log(2 * np.pi * np.e * std**2), axis=-1).mean()
            entropy = -log_prob(measured.spec, params, mean + std * np.asarray(batch.noise)).mean()
        assert row["policy/entropy_base"] == pytest.approx(base, rel=1e-5)
        assert row["policy/entropy"] == pytest.approx(entropy, rel=1e-4)
        for name, network in (("actor", new.actor), ("critic", new.critic)):
            squares = sum(np.sum(np.asarray(leaf, np.float64) ** 2) for leaf in jax.tree.leaves(network))
            assert row[f"norm/{name}_weights"] == pytest.approx(np.sqrt(squares), rel=1e-6)


def test_kl_is_exact_against_pytorch(measured):
    torch = pytest.importorskip("torch")
    for row, old, new, batch in members(measured):
        before, after = (
            torch.from_numpy(params_of(measured.spec, x, batch.observations)) for x in (old, new)
        )
        if measured.spec.network.head == "softmax":
            families = [torch.distributions.Categorical(logits=p) for p in (before, after)]
        else:
            families = [
                torch.distributions.Independent(torch.distributions.Normal(*p.chunk(2, dim=-1)), 1)
                for p in (before, after)
            ]
        expected = torch.distributions.kl_divergence(*families).mean().item()
        assert expected > 1e-4
        assert row["trust/kl"] == pytest.approx(expected, rel=1e-3)


def test_trust_is_that_of_the_new_policy_on_the_old_actions(measured):
    spec, epsilon = measured.spec, 0.2
    for row, old, new, batch in members(measured):
        params = [params_of(spec, agent, batch.observations) for agent in (old, new)]
        log_ratio = log_prob(spec, params[1], batch.actions) - log_prob(spec, params[0], batch.actions)
        ratio = np.exp(log_ratio)
        advantages = np.asarray(batch.advantages, np.float64)
        high = (ratio > 1 + epsilon) & (advantages > advantages.mean())
        low = (ratio < 1 - epsilon) & (advantages < advantages.mean())
        assert row["trust/clip_fraction"] == np.mean(high | low)
        assert row["trust/ratio_outside_fraction"] == np.mean(np.abs(ratio - 1) > epsilon)
        assert (row["trust/ratio_min"], row["trust/ratio_max"]) == pytest.approx(
            (ratio.min(), ratio.max()), rel=1e-4
        )
        assert row["trust/ratio_mean"] == pytest.approx(ratio.mean(), rel=1e-4)
        assert row["trust/ratio_std"] == pytest.approx(ratio.std(ddof=1), rel=1e-3)
        assert row["trust/kl_k1"] == pytest.approx(-log_ratio.mean(), rel=1e-3, abs=1e-5)
        assert row["trust/kl_k3"] == pytest.approx((ratio - 1 - log_ratio).mean(), rel=1e-3)
        assert row["trust/ratio_above_count"] == np.sum(ratio > 1 + epsilon) > 0
        assert row["trust/ratio_above_mean"] == pytest.approx(ratio[ratio > 1 + epsilon].mean(), rel=1e-4)
        assert 0 < row["trust/clip_fraction"] < row["trust/ratio_outside_fraction"] < 1


def test_where_nothing_changed_ratios_are_one_and_undefined_values_say_why():
    row = measurement("tanh_normal", still=True).rows[0]
    # The recorded log-probabilities are rounded to float32: at sizes below 16 by at most 5e-7 (half of 2^-20), twice.
    for column in ("trust/ratio_mean", "trust/ratio_min", "trust/ratio_max"):
        assert row[column] == pytest.approx(1.0, abs=5e-6)
    # Old and new pass are compiled apart and may differ by roundings (1e-7), whose squares are 1e-14.
    assert abs(row["trust/kl"]) < 1e-12
    assert row["trust/clip_fraction"] == row["trust/ratio_above_count"] == row["trust/ratio_below_count"] == 0
    assert all(abs(row[name]) < 1e-12 for name in row if name.startswith("change/"))
    for name in [name for name in row if name.endswith("_after")]:
        assert row[name] == pytest.approx(row[name.removesuffix("_after")], rel=1e-6)
    undefined = {"trust/ratio_above_mean", "trust/ratio_below_mean", "trust/excess_ratio"}
    assert {
        name for name, value in row.items() if isinstance(value, float) and math.isnan(value)
    } == undefined
    assert all(name in row["health/undefined"] for name in undefined)


def test_advantages_that_are_not_normalised_count_as_they_are():
    spec = small_spec("softmax", objective={"normalize_advantages": False})
    measured = measurement("softmax")
    shifted = np.stack([np.asarray(b.advantages) + 100 for b in measured.batches])
    plain = health_rows(measured.device, shifted, spec)
    centred = health_rows(measured.device, shifted, SPECS["softmax"])
    for one, other, row in zip(plain, centred, measured.rows, strict=True):
        # All advantages are positive: only ratios above 1 + ε are clipped.
        assert one["trust/clip_fraction"] == one["trust/ratio_above_count"] / 64
        assert other["trust/clip_fraction"] == row["trust/clip_fraction"]


def test_a_members_nan_stays_its_own_and_has_a_reason():
    measured = measurement("softmax")
    features = {name: np.array(x) for name, x in measured.device.features.items()}
    features["actor"][0, 3, 2] = np.nan
    scalars = {name: np.array(x) for name, x in measured.device.scalars.items()}
    scalars["trust/kl"][0] = np.nan
    advantages = np.stack([b.advantages for b in measured.batches])
    advantages[0, 5] = np.inf
    broken = measured.device._replace(features=features, scalars=scalars)
    first, second = health_rows(broken, advantages, measured.spec)
    assert second == pytest.approx(measured.rows[1], nan_ok=True)
    for name in ("health/actor/feature_rank_pca", "trust/kl", "trust/clip_fraction"):
        assert math.isnan(first[name])
        assert name in first["health/undefined"]
    assert first["health/critic/feature_rank_pca"] == measured.rows[0]["health/critic/feature_rank_pca"]


def test_a_crelu_unit_is_dead_when_both_its_outputs_are():
    # Units: always positive, always negative, both, and 0 throughout: [relu(x), relu(−x)].
    x = np.asarray([[1.0, -2.0, 3.0, 0.0], [2.0, -1.0, -3.0, 0.0]], np.float32)
    features = jax.numpy.asarray(np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)], axis=-1))
    spec = small_spec("softmax", network={"activation": "crelu"})
    assert float(_dead_units(features, spec)) == 1.0
