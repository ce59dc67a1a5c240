"""A remedy as a user writes one, for `--import my_remedies`."""

import dataclasses
from typing import ClassVar

from escapevelocity.ppo.remedies import Remedy, register


@register
@dataclasses.dataclass(frozen=True)
class Tinkering(Remedy):
    """Do nothing, in a way of one's own.

    More about that.
    """

    name: ClassVar[str] = "tinkering"

    strength: float = 0.5
    """How much of nothing."""
    loudly: bool = False
    """Whether it is said."""
    layers: tuple[int, ...] = (1, 2)
    """Where."""
