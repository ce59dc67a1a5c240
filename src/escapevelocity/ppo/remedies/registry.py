"""All remedies by name: those of this package, those registered by hand, and those of installed packages."""

import dataclasses
import difflib
import functools
import re
import warnings
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TypeVar

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.ppo.remedies.adam_beta2 import AdamBeta2
from escapevelocity.ppo.remedies.adam_reset import AdamReset
from escapevelocity.ppo.remedies.c_chain import CChain
from escapevelocity.ppo.remedies.continual_backprop import ContinualBackprop
from escapevelocity.ppo.remedies.crelu import CReLU
from escapevelocity.ppo.remedies.delightful import Delightful
from escapevelocity.ppo.remedies.entropy_schedule import EntropySchedule
from escapevelocity.ppo.remedies.escort import Escort
from escapevelocity.ppo.remedies.kl_early_stop import KLEarlyStop
from escapevelocity.ppo.remedies.kl_penalty import KLPenalty
from escapevelocity.ppo.remedies.l2_init import L2Init
from escapevelocity.ppo.remedies.layer_norm import LayerNorm
from escapevelocity.ppo.remedies.pfo import PFO
from escapevelocity.ppo.remedies.redo import ReDo
from escapevelocity.ppo.remedies.reward_mask import RewardMask
from escapevelocity.ppo.remedies.shared_trunk import SharedTrunk
from escapevelocity.ppo.remedies.shrink_perturb import ShrinkPerturb
from escapevelocity.ppo.remedies.spectral_norm import SpectralNorm
from escapevelocity.ppo.remedies.weight_clipping import WeightClipping
from escapevelocity.ppo.remedies.weight_decay import WeightDecay
from escapevelocity.ppo.remedy import Remedy

ENTRY_POINTS = "escapevelocity.remedies"
"""Group of entry points, each a remedy's class under its name, by which installed packages add remedies."""

REMEDIES: dict[str, type[Remedy]] = {}
"""Every remedy registered so far, by its name on the command line."""

_BUILT_IN: tuple[type[Remedy], ...] = (
    PFO,
    SharedTrunk,
    AdamReset,
    AdamBeta2,
    RewardMask,
    KLPenalty,
    KLEarlyStop,
    Escort,
    LayerNorm,
    CReLU,
    SpectralNorm,
    L2Init,
    WeightDecay,
    ReDo,
    ShrinkPerturb,
    ContinualBackprop,
    WeightClipping,
    CChain,
    EntropySchedule,
    Delightful,
)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

RemedyClass = TypeVar("RemedyClass", bound=type)


def register(cls: RemedyClass) -> RemedyClass:
    """Make a remedy known by its name; usable as a decorator above `@dataclass(frozen=True)`.

    Args:
        cls: a frozen dataclass that derives from `Remedy` and has a `name` of its own.

    Returns:
        The class.

    Raises:
        UserError: not such a class, a name that is not lower-case words joined by dashes, or a name that is taken.

    Example:
        >>> @register
        ... @dataclasses.dataclass(frozen=True)
        ... class Nothing(Remedy):
        ...     "Change nothing."
        ...     name = "nothing"
        >>> remedy_class("nothing") is Nothing
        True
        >>> del REMEDIES["nothing"]
    """
    remedy = _checked(cls)
    # spec.json tells remedies apart by their class's name, so that it has to be unique too.
    taken = [o for o in REMEDIES.values() if remedy.name == o.name or remedy.__name__ == o.__name__]
    if taken and taken != [remedy]:
        where = f"{taken[0].__module__}.{taken[0].__qualname__}"
        raise UserError(
            f"remedy name = {remedy.name!r} of {remedy.__name__}: already taken by {where}; choose another"
        )
    REMEDIES[remedy.name] = remedy
    return cls


def _checked(cls: type) -> type[Remedy]:
    # A subclass that is no dataclass itself inherits its parent's parameters, so look at its own.
    parameters = vars(cls).get("__dataclass_params__") if isinstance(cls, type) else None
    frozen = parameters is not None and parameters.frozen
    if not (frozen and issubclass(cls, Remedy) and cls is not Remedy):
        raise UserError(f"remedy = {cls!r}: must be a frozen dataclass that derives from Remedy")
    if not _NAME.fullmatch(cls.name):
        raise UserError(
            f"remedy name = {cls.name!r} of {cls.__name__}: must be lower-case words joined by dashes"
        )
    return cls


def remedy_class(name: str) -> type[Remedy]:
    """The remedy of that name; installed packages are asked for it when it is not known yet.

    Raises:
        UserError: no remedy of that name; the nearest are named.
    """
    if name not in REMEDIES:
        load_entry_points()
    if name in REMEDIES:
        return REMEDIES[name]
    near = difflib.get_close_matches(name, REMEDIES, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(REMEDIES))}"
    raise UserError(f"remedy = {name!r}: unknown; {hint}")


@functools.cache
def load_entry_points() -> None:
    """Register the remedies of installed packages (entry points of the group `escapevelocity.remedies`), once.

    A package whose remedy cannot be imported or registered gets a `RuntimeWarning` that names it, so that it does not
    stand in the way of runs that have nothing to do with it.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            register(entry.load())
        except Exception as error:  # Whatever a stranger's module raises.
            package = entry.dist.name if entry.dist else "an unknown package"
            text = f"remedy {entry.name!r} of {package} ({entry.value}) cannot be used: {error}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)


def remedy_types() -> tuple[type[Remedy], ...]:
    """All remedies, those of installed packages included: what a spec.json may hold."""
    load_entry_points()
    return tuple(REMEDIES.values())


def apply_remedies(spec: PPOSpec, remedies: Sequence[Remedy]) -> PPOSpec:
    """Add remedies to a run's settings.

    Those that change settings are applied to them. Those that do nothing else are not kept beyond that: the same
    settings are the same run, however they were asked for. The others stand in the result's `remedies`, in the order
    given behind those of `spec`; one of the same name takes the older one's place.

    Args:
        spec: the settings without them.
        remedies: what to add.

    Raises:
        UserError: a remedy given twice, two that want different values of one setting, or two that each take the
            clipped objective's place.
    """
    names = [remedy.name for remedy in remedies]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"remedy = {name!r}: given twice; give it once with all its fields")
    applied: list[Remedy] = []
    for remedy in remedies:
        spec = remedy.configure(spec)
        for earlier in applied:
            _require_same_settings(spec, earlier, remedy)
        applied.append(remedy)
    kept = {remedy.name: remedy for remedy in (*spec.remedies, *remedies) if not _is_only_settings(remedy)}
    result = dataclasses.replace(spec, remedies=tuple(kept.values()))
    _require_one_objective(result.remedies)
    return result


def _is_only_settings(remedy: Remedy) -> bool:
    """Whether a remedy overrides no place of training but `configure`."""
    places = [name for name in vars(Remedy) if not name.startswith("_") and name not in ("name", "is_idle")]
    return [place for place in places if getattr(type(remedy), place) is not getattr(Remedy, place)] == [
        "configure"
    ]


def _require_same_settings(spec: PPOSpec, earlier: Remedy, later: Remedy) -> None:
    """Raise `UserError` where `later` has overridden a setting of `earlier`."""
    wanted = earlier.configure(spec)
    for path, value in _settings(wanted).items():
        if (given := _settings(spec)[path]) != value:
            raise UserError(
                f"remedy = {later.name!r}: sets {path} to {given!r}, and {earlier.name} to {value!r}; leave one out"
            )


def _settings(spec: PPOSpec) -> dict[str, object]:
    """Every setting by its option's name."""
    settings: dict[str, object] = {}
    for item in dataclasses.fields(spec):
        value = getattr(spec, item.name)
        inner = vars(value) if dataclasses.is_dataclass(value) else {item.name: value}
        settings |= {name.replace("_", "-"): part for name, part in inner.items()}
    return settings


def _require_one_objective(remedies: Sequence[Remedy]) -> None:
    """Raise `UserError` where two remedies each take the clipped objective's place."""
    unclipped = [remedy.name for remedy in remedies if not remedy.clips]
    if len(unclipped) > 1:
        raise UserError(
            f"remedy = {unclipped[1]!r}: takes the clipped objective's place, as {unclipped[0]} does; leave one out"
        )


for _cls in _BUILT_IN:
    register(_cls)
