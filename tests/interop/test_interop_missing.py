"""Importing the room imports no PyTorch; asking it for something without the package says what to install."""

import subprocess
import sys

import pytest

from end_to_end import process_environment

BLOCKED = """
import sys
sys.modules[{blocked!r}] = None
import escapevelocity.interop as interop
assert "torch" not in [name for name, module in sys.modules.items() if module is not None]
assert interop.health_row
try:
    interop.{name}
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("blocked", "name", "command"),
    [
        ("torch", "TorchMonitor", "pip install 'escapevelocity[torch]'"),
        ("torch", "HealthCallback", "pip install 'escapevelocity[torch]'"),
        ("stable_baselines3", "PFOPPO", "pip install stable-baselines3"),
        ("torch", "measure_embeddings", "pip install 'escapevelocity[torch]'"),
        ("pytorch_metric_learning", "AdaptiveMiner", "pip install pytorch-metric-learning"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(blocked, name, command, tmp_path):
    if blocked != "torch":
        pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(blocked=blocked, name=name)],
        env=process_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == (
        f"escapevelocity.interop.{name} needs {blocked}, which is not installed: {command}\n"
    )


def test_every_public_name_is_there():
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("pytorch_metric_learning")
    from escapevelocity import interop

    assert dir(interop) == sorted(interop.__all__)
    for name in interop.__all__:
        assert getattr(interop, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'Monitor'"):
        _ = interop.Monitor
