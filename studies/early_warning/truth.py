"""What became of a run: by what the agent can do, not by any sign that warns.

A run has *collapsed* when less than half is left, throughout the last tenth of its training, of either

- the return: of what had been gained since the first batch, and the fall is no noise; or
- the representation: of what a linear readout of the actor's features recovered of the observation at the start
  (`readout.py`).

The onset is the first step from which the loss lasts to the end. A run whose numbers stopped being finite has
collapsed there. A run that has not collapsed is *sound* if at its end next to nothing is lost of the representation,
and *damaged* otherwise. No sign that warns reads the readout, and those that read the return have no say here.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

WINDOW = 0.1
"""Share of the batches that a return is averaged over; and a loss counts only if it lasts for so much of the run."""
LEFT = 0.5
"""Less than this share is left of the return gained, or of what could be read at the start."""
SOUND_LEFT = 0.95
"""A sound run can read at least this share of what it could at the start. No run ended between 0.90 and 0.96."""
STANDARD_ERRORS = 3.0
"""A fall of the return must be larger than so many standard errors of the difference."""


@dataclass(frozen=True)
class Truth:
    """What became of a run; onsets in environment steps, None where nothing was lost to the end.

    Attributes:
        return_onset: since when the return is lost.
        representation_onset: since when the representation is lost.
        fault: where the numbers stopped being finite.
        readable_last: of what could be read at the start, the share that can be read at the end.
    """

    return_onset: int | None
    representation_onset: int | None
    fault: int | None
    readable_last: float = 1.0

    @property
    def onset(self) -> int | None:
        """The first of them; None if the run did not collapse."""
        known = (self.return_onset, self.representation_onset, self.fault)
        return min((step for step in known if step is not None), default=None)

    @property
    def outcome(self) -> Literal["collapsed", "damaged", "sound"]:
        """What became of the run."""
        if self.onset is not None:
            return "collapsed"
        return "sound" if self.readable_last >= SOUND_LEFT else "damaged"

    @property
    def kind(self) -> str:
        """What was lost, such as "return" or "representation, return"."""
        lost = {"representation": self.representation_onset, "return": self.return_onset, "fault": self.fault}
        return ", ".join(name for name, step in lost.items() if step is not None)


def return_onset(steps: np.ndarray, returns: np.ndarray) -> int | None:
    """Find the step since which the return is lost.

    Args:
        steps: (batches,) environment steps.
        returns: (batches,) mean return of each batch, NaN where no episode ended; the first is the untrained policy's.
    """
    known = np.isfinite(returns)
    steps, returns = steps[known], returns[known]
    width = max(3, round(WINDOW * len(known)))
    if len(returns) < 2 * width:
        return None
    smooth = centred_mean(returns, width)
    best = np.maximum.accumulate(np.maximum(smooth, returns[0]))
    # Differences between neighbours hold no trend: half their mean square is the variance of one batch.
    batch_std = np.sqrt(0.5 * np.mean(np.diff(returns) ** 2))
    # Between two windows, or between the first batch alone and a window.
    error = batch_std * np.sqrt(np.where(best > returns[0], 2 / width, 1 + 1 / width))
    lost = (smooth < returns[0] + LEFT * (best - returns[0])) & (best - smooth > STANDARD_ERRORS * error)
    return lasting_onset(steps, lost)


def representation_onset(steps: np.ndarray, shares: np.ndarray, left: float = LEFT) -> int | None:
    """Find the step since which the representation is lost.

    Args:
        steps: (snapshots,) environment steps, the first before training.
        shares: (snapshots,) readable share.
        left: of what could be read at the start, less than this can be read.
    """
    # The median of three neighbours: one snapshot decides nothing.
    padded = np.concatenate([shares[:1], shares, shares[-1:]])
    smooth = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    return lasting_onset(steps, smooth < left * shares[0])


def readable_last(shares: np.ndarray) -> float:
    """Give the median share over the last tenth of the snapshots, as a share of the first."""
    return float(np.median(shares[-max(1, round(WINDOW * len(shares))) :]) / shares[0])


def lasting_onset(steps: np.ndarray, lost: np.ndarray) -> int | None:
    """Give the first step from which `lost` holds to the end, if it does so for the last tenth of the run."""
    if lost.all():
        return int(steps[0])
    first = len(lost) - int(np.argmin(lost[::-1]))
    if first == len(lost) or steps[first] > (1 - WINDOW) * steps[-1]:
        return None
    return int(steps[first])


def centred_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over `width` values around each one; fewer at the ends. A trailing mean would put the onset too late."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centre = np.arange(len(values))
    low = np.maximum(centre - width // 2, 0)
    high = np.minimum(centre + width // 2 + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
