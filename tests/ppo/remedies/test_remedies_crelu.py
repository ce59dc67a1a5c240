"""CReLU as a remedy is a setting and nothing else."""

from escapevelocity.ppo.config import NetworkConfig, PPOSpec
from escapevelocity.ppo.remedies.crelu import CReLU
from escapevelocity.ppo.remedies.registry import apply_remedies


def test_it_chooses_the_activation_and_leaves_no_other_trace():
    given = PPOSpec(network=NetworkConfig(hidden=(8,), layer_norm=True))
    assert apply_remedies(given, [CReLU()]) == PPOSpec(
        network=NetworkConfig(hidden=(8,), layer_norm=True, activation="crelu")
    )
