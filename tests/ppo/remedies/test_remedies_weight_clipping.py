"""Weight clipping against NumPy's clip and PyTorch's initial bounds."""

import jax
import numpy as np
import pytest
from remedy_agents import agent_of

from escapevelocity.errors import UserError
from escapevelocity.ppo.remedies.weight_clipping import WeightClipping
from escapevelocity.ppo.remedy import Step

# Of every layer, the head's last: 3 inputs, 4 and 5 units; windows of 2·2·2 and 2·2·3 entries, 2·2·2 pixels, 4 units.
FAN_IN = {"dense": [3, 4, 5], "shared": [3, 4, 5], "convolutional": [8, 12, 8, 4]}


def after(remedy, agent):
    step = Step(**{**dict.fromkeys(Step._fields), "agent": agent, "moments": "m", "state": "s"})
    return remedy.after_step(step)


@pytest.mark.parametrize("kind", FAN_IN)
def test_weights_and_biases_are_clipped_to_multiples_of_the_initial_bound(kind, rng):
    agent = agent_of(kind, rng)  # Normal weights, of which many are beyond 1.5/√fan_in.
    changed = after(WeightClipping(kappa=1.5), agent)
    assert (changed.moments, changed.state) == ("m", "s")
    for ours, network in (
        (changed.agent.actor.network, agent.actor.network),
        (changed.agent.critic, agent.critic),
    ):
        fan_in = FAN_IN[kind][-len(network.weights) :]
        for field in ("weights", "biases"):
            for x, old, n in zip(getattr(ours, field), getattr(network, field), fan_in, strict=True):
                bound = 1.5 / np.sqrt(n)
                np.testing.assert_allclose(x, np.clip(np.asarray(old), -bound, bound), rtol=1e-6)
    clipped = (
        np.abs(np.asarray(changed.agent.actor.network.weights[0])) > 1.5 / np.sqrt(FAN_IN[kind][0]) - 1e-6
    )
    assert 0 < clipped.sum() < clipped.size


def test_scales_offsets_and_log_std_are_left_alone(rng):
    agent = jax.tree.map(lambda x: 100 * x, agent_of("layer_norm", rng))
    changed = after(WeightClipping(), agent).agent
    for ours, old in ((changed.actor.network, agent.actor.network), (changed.critic, agent.critic)):
        for one, two in zip((*ours.scales, *ours.offsets), (*old.scales, *old.offsets), strict=True):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(changed.actor.log_std, agent.actor.log_std)


def test_the_bound_is_that_of_pytorchs_layers():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    # 4,800 uniform draws come within 1 % of the bound but for a chance of 0.99^4800 < 1e-20.
    for layer, fan_in in ((torch.nn.Linear(12, 400), 12), (torch.nn.Conv2d(3, 400, 2), 12)):
        largest = layer.weight.abs().max().item()
        assert 0.99 / fan_in**0.5 < largest <= 1 / fan_in**0.5


def test_an_infinite_multiple_is_idle_and_a_negative_one_refused():
    assert WeightClipping(kappa=float("inf")).is_idle()
    assert not WeightClipping().is_idle()
    with pytest.raises(UserError, match=r"weight-clipping.kappa = 0.0: must be above 0"):
        WeightClipping(kappa=0.0)
