"""The examples in the docstrings print what they say."""

import doctest
import importlib

import pytest

pytest.importorskip("stable_baselines3")


@pytest.mark.parametrize("module", ["torch", "losses", "escort", "_sb3_escort", "_sb3_pfo", "_sb3_health"])
def test_an_example_prints_what_it_says(module):
    result = doctest.testmod(importlib.import_module(f"escapevelocity.interop.{module}"))
    assert result.failed == 0
    assert result.attempted > 0
