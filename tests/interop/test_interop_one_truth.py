"""One truth: numpy, jax and torch arrays give the same numbers, and so do the callback and our trainer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from gymnasium import spaces  # noqa: E402
from small_sb3 import Noise, small  # noqa: E402
from stable_baselines3 import PPO  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402

from escapevelocity import health  # noqa: E402
from escapevelocity.interop import HealthCallback  # noqa: E402
from escapevelocity.policy import DiagonalNormal, Softmax  # noqa: E402
from escapevelocity.ppo.config import NetworkConfig, ObjectiveConfig, PPOSpec  # noqa: E402
from escapevelocity.ppo.measure import health_rows, measure, view  # noqa: E402
from escapevelocity.ppo.networks import Actor, Agent, Network  # noqa: E402
from escapevelocity.ppo.objective import Batch  # noqa: E402

FORMS = {"jax": jnp.asarray, "torch": torch.from_numpy}


@pytest.fixture
def matrices(rng):
    """Features of rank 6 with two dead units, and ones of a steep spectrum; float32."""
    low_rank = np.maximum(rng.normal(size=(200, 6)) @ rng.normal(size=(6, 16)), 0)
    low_rank[:, :2] = 0
    steep = rng.normal(size=(200, 16)) * np.logspace(0, -5, 16)
    return [x.astype(np.float32) for x in (low_rank, steep)]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_features_give_the_same_numbers_as_numpy_jax_and_torch(matrices, form):
    convert = FORMS[form]
    for phi, other in zip(matrices, [x[::-1].copy() for x in matrices], strict=True):
        for rows in (200, 5):  # also fewer states than units
            assert health.feature_ranks(convert(phi[:rows])).values == pytest.approx(
                health.feature_ranks(phi[:rows]).values, rel=1e-6
            )
        for activation in health.ACTIVATIONS:
            assert float(health.dead_neurons(convert(phi), activation)) == float(
                health.dead_neurons(phi, activation)
            )
        for measured in (health.preactivation_norm, health.policy_variance):
            assert float(measured(convert(phi))) == pytest.approx(float(measured(phi)), rel=1e-6)
        assert float(health.value_std(convert(phi[:, 5]))) == pytest.approx(
            float(health.value_std(phi[:, 5])), rel=1e-6
        )
        for one, two in zip(
            health.feature_change(convert(phi), convert(other)),
            health.feature_change(phi, other),
            strict=True,
        ):
            assert float(one) == pytest.approx(float(two), rel=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_ratios_give_the_same_numbers_as_numpy_jax_and_torch(rng, form):
    log_ratio, advantages = rng.normal(scale=0.3, size=(2, 500)).astype(np.float32)
    expected = health.trust_region(log_ratio, advantages, 0.2, True).values
    found = health.trust_region(FORMS[form](log_ratio), FORMS[form](advantages), 0.2, True).values
    assert found == pytest.approx(expected, rel=1e-6)


def our_agent(policy) -> Agent:
    """A Stable-Baselines3 MlpPolicy's weights in our networks."""

    def mlp(hidden, head):
        layers = [*hidden[::2], head]
        weights, biases = (
            tuple(jnp.asarray(getattr(layer, name).detach().numpy()) for layer in layers)
            for name in ("weight", "bias")
        )
        return Network(weights, biases, activation="tanh")

    log_std = jnp.asarray(policy.log_std.detach().numpy()) if hasattr(policy, "log_std") else None
    return Agent(
        Actor(mlp(policy.mlp_extractor.policy_net, policy.action_net), log_std),
        mlp(policy.mlp_extractor.value_net, policy.value_net),
    )


class Keep(BaseCallback):
    """Our agent and our batch, from the policy and the buffer before the update."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.agent = our_agent(self.model.policy)
        buffer = self.model.rollout_buffer
        actions = jnp.asarray(buffer.actions[:, 0])
        is_discrete = isinstance(self.model.action_space, spaces.Discrete)
        scalars = [
            jnp.asarray(x[:, 0]) for x in (buffer.log_probs, buffer.advantages, buffer.returns, buffer.values)
        ]
        self.batch = Batch(
            jnp.asarray(buffer.observations[:, 0]),
            actions[:, 0].astype(jnp.int32) if is_discrete else actions,
            jnp.zeros((len(actions), 3 if is_discrete else actions.shape[1])),
            *scalars,
        )


BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
CASES = {
    "softmax": (spaces.Discrete(3), lambda: Softmax(3)),
    "normal_independent": (BOX, lambda: DiagonalNormal((-1.0, -1.0), (1.0, 1.0), std="exp")),
}


@pytest.mark.parametrize("head", CASES)
def test_the_callback_and_our_trainer_agree_on_the_same_networks_and_batch(head):
    actions, distribution = CASES[head]
    keep, watch = Keep(), HealthCallback()
    model = small(PPO, Noise(actions=actions), steps=128).learn(128, callback=[keep, watch])
    spec = PPOSpec(task="x", network=NetworkConfig(head=head), objective=ObjectiveConfig(clip_epsilon=0.2))
    family = distribution()

    @jax.jit
    def program(old, new, batch):
        return measure(view(old, batch.observations, family), new, batch, family, spec)

    measured = jax.tree.map(lambda x: x[None], program(keep.agent, our_agent(model.policy), keep.batch))
    (ours,) = health_rows(measured, np.asarray(keep.batch.advantages)[None], spec)
    (theirs,) = watch.rows
    # The callback does not measure norms; our continuous entropy is a one-sample estimate, SB3's is exact.
    common = set(ours) & set(theirs) - {"health/undefined", "policy/entropy"}
    assert set(ours) - set(theirs) == {"norm/actor_weights", "norm/critic_weights"}
    assert len(common) > 60
    # atol: the logarithm of a ratio of float32 log-probabilities is right to about 1e-6.
    assert {name: theirs[name] for name in common} == pytest.approx(
        {name: ours[name] for name in common}, rel=1e-5, abs=2e-6, nan_ok=True
    )
    assert ours["trust/clip_fraction"] > 0
    assert theirs["policy/entropy"] == pytest.approx(theirs["policy/entropy_base"], rel=1e-5)
