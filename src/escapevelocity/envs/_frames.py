"""From a game's screens to what the network sees: the latest four, side by side as channels."""

import numpy as np

SCREEN = (84, 84)
"""Height and width of a screen, as in Mnih et al. 2015 (Nature 518, 529-533)."""
STACKED = 4


class FrameStack:
    """Keeps each game's latest four screens in the network's inputs; the face of `Observer`, for images.

    An episode starts with its first screen four times (Moalla et al. 2024, code), where ale-py would pad with zeros.
    """

    output_shape: tuple[int, ...] = (*SCREEN, STACKED)
    dtype = np.dtype(np.uint8)

    def write(
        self, observations: np.ndarray, elapsed: np.ndarray, out: np.ndarray, rows: np.ndarray | None = None
    ) -> None:
        """Append one screen to each stack in `out`, or start the stack anew.

        Args:
            observations: (n, 84, 84) uint8 screens.
            elapsed: (n,) steps since the start of each episode; 0 starts a stack anew.
            out: (n, 84, 84, 4) uint8, oldest screen first: the stacks as the previous call left them.
            rows: indices of the environments that the arrays hold, which make no difference here.
        """
        # The four channels of a pixel as one little-endian number, oldest lowest: one shift moves all of them, more
        # than ten times as fast as NumPy moves single bytes.
        stacks = out.view("<u4")[..., 0]
        screens = observations.astype("<u4")
        fresh = np.flatnonzero(elapsed == 0)
        stacks >>= 8
        stacks |= screens << 24
        if len(fresh):
            stacks[fresh] = screens[fresh] * 0x01010101
