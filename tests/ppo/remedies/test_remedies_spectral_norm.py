"""Spectral normalisation as a remedy is a setting and nothing else."""

import pytest

from escapevelocity.ppo.config import NetworkConfig, PPOSpec
from escapevelocity.ppo.remedies.registry import apply_remedies
from escapevelocity.ppo.remedies.spectral_norm import SpectralNorm


@pytest.mark.parametrize("layers", ["last", "all"])
def test_it_chooses_the_layers_and_leaves_no_other_trace(layers):
    given = PPOSpec(network=NetworkConfig(hidden=(8,)))
    assert apply_remedies(given, [SpectralNorm(layers=layers)]) == PPOSpec(
        network=NetworkConfig(hidden=(8,), spectral_norm=layers)
    )
