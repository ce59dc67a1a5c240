"""Environment seeds, from the member's seed, the purpose, the segment and the environment's index alone."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream of random numbers is for; each purpose has its own, so none disturbs another."""

    TRAINING = 0
    NORMALIZATION = 1
    EVALUATION = 2


def environment_seeds(
    member_seeds: Sequence[int], num_envs: int, segment: int = 0, purpose: Purpose = Purpose.TRAINING
) -> list[int]:
    """Seeds for `num_envs` environments of every member, member by member.

    Args:
        member_seeds: the seeds of the population's members.
        num_envs: environments per member.
        segment: the segment that the environments are made for (architecture.md, idea 1).
        purpose: which stream to draw from.

    Returns:
        `len(member_seeds) * num_envs` integers in [0, 2³¹), the range every back end takes.
    """
    return [
        int(np.random.SeedSequence((seed, int(purpose), segment, index)).generate_state(1)[0] >> 1)
        for seed in member_seeds
        for index in range(num_envs)
    ]
