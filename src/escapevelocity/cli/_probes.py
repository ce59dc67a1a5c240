"""What `ev doctor` tries out, each in a process of its own: a library that crashes is then a finding, not the end.

`python -m escapevelocity.cli._probes NAME` prints one line of what was found, or ends with the library's error.
"""

import sys
from collections.abc import Callable, Mapping


def jax() -> str:
    """A compiled computation on JAX's device."""
    import jax
    import jax.numpy as jnp

    total = float(jax.jit(lambda x: (x @ x).sum())(jnp.ones((64, 64), jnp.float32)))
    if total != 64.0**3:
        raise ArithmeticError(f"64³ computed as {total}")
    devices = [f"{device.platform} ({device.device_kind})" for device in jax.devices()]
    return f"{', '.join(devices)}; a compiled product of matrices is right"


def envpool() -> str:
    """A step of a simulator in EnvPool."""
    import envpool
    import numpy as np

    environments = envpool.make_gymnasium("CartPole-v1", num_envs=1, num_threads=1)
    environments.reset()
    environments.step(np.zeros(1, np.int64))
    return "one environment made a step"


def mujoco() -> str:
    """A step of a MuJoCo task in Gymnasium."""
    import gymnasium

    environment = gymnasium.make("Hopper-v5")
    environment.reset(seed=0)
    environment.step(environment.action_space.sample())
    return "Hopper made a step"


def games() -> str:
    """A game's ROM, read by ale-py."""
    from ale_py import ALEInterface, LoggerMode, roms

    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator = ALEInterface()
    emulator.loadROM(str(roms.get_rom_path("breakout")))
    return f"{len(roms.get_all_rom_ids())} games"


def torch() -> str:
    """A computation in PyTorch."""
    import torch

    torch.ones(2, 2).matmul(torch.ones(2, 2))
    return "cuda" if torch.cuda.is_available() else "on the CPU"


PROBES: Mapping[str, Callable[[], str]] = {
    "jax": jax,
    "envpool": envpool,
    "mujoco": mujoco,
    "games": games,
    "torch": torch,
}


if __name__ == "__main__":
    print(PROBES[sys.argv[1]]())
