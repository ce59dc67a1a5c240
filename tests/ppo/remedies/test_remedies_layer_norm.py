"""Layer normalisation as a remedy is a setting and nothing else."""

from escapevelocity.ppo.config import NetworkConfig, PPOSpec
from escapevelocity.ppo.remedies.layer_norm import LayerNorm
from escapevelocity.ppo.remedies.registry import apply_remedies


def test_it_switches_layer_normalisation_on_and_leaves_no_other_trace():
    given = PPOSpec(network=NetworkConfig(hidden=(8,), activation="relu"))
    assert apply_remedies(given, [LayerNorm()]) == PPOSpec(
        network=NetworkConfig(hidden=(8,), activation="relu", layer_norm=True)
    )
