"""The emulator itself, stepped frame by frame through ale-py's plain interface: the truth about a game."""

import ale_py
import numpy as np
from ale_py.roms import get_rom_path

SKIP = 3
ROUNDING = 0.5 + 1e-3
"""Pixels are area averages rounded to integers, from float32 weights: 255·2⁻²⁴ per operation, some dozens of them."""


def area_weights(size: int, smaller: int) -> np.ndarray:
    """(smaller, size): the share of each pixel in the average over each of `smaller` equal intervals."""
    edges = np.arange(smaller + 1) * size / smaller
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(overlap, 0) * smaller / size


ROWS, COLUMNS = area_weights(210, 84), area_weights(160, 84)


class Emulator:
    """One game, from reset on, with no-ops, fire, limits and clipping left out."""

    def __init__(self, rom: str, seed: int, sticky_actions: float):
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        self.ale = ale_py.ALEInterface()
        self.ale.setInt("random_seed", seed)
        self.ale.setFloat("repeat_action_probability", sticky_actions)
        path = get_rom_path(rom)
        assert path is not None
        self.ale.loadROM(path)
        self.ale.reset_game()
        self.actions = self.ale.getMinimalActionSet()

    def step(self, action: int) -> tuple[int, bool]:
        """Up to SKIP frames of one action: what they scored, and whether the game is over."""
        reward = 0
        for _ in range(SKIP):
            reward += self.ale.act(self.actions[action])
            if self.ale.game_over():
                break
        return reward, self.ale.game_over()

    def screen(self) -> np.ndarray:
        """(84, 84) exact averages of the grey screen."""
        return ROWS @ self.ale.getScreenGrayscale().astype(float) @ COLUMNS.T

    def phoenix_score(self) -> int:
        """The score that Phoenix shows: binary-coded digits in its memory, in tens (ALE's Phoenix.cpp)."""
        tens, low, high = (int(x) for x in self.ale.getRAM()[[0x47, 0x48, 0x49]])
        digits = (tens // 16, low % 16, low // 16, high % 16, high // 16)
        return sum(digit * 10**k for k, digit in enumerate(digits, start=1))
