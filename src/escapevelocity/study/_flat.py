"""A run's settings by their plain names, as a study's axes and a figure's selection call them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.runs import canonical_json, spec_from_json

NO_REMEDY = "none"
NO_BRANCH = "none"
_ELSEWHERE = ("seeds", "remedies", "branch")


def flat_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a spec.json into settings by name.

    Args:
        document: what `runs.read_spec` returns: a mapping with `job` and `spec`.

    Returns:
        Every field of the spec and of its parts under its own name (`epochs`, `learning_rate`, `task`, …; fields that
        an older version did not write with their defaults), and besides: `job`; `remedy`, the remedies' names sorted
        and joined by "+", or "none"; their fields as `pfo.coef`; `branch`, the hash of the run that it leaves, or
        "none". Seeds are left out. Lists become tuples.

    Example:
        >>> flat_settings({"job": "count", "spec": {"rows": 3, "walk": {"scale": 0.5}}})
        {'job': 'count', 'branch': 'none', 'remedy': 'none', 'rows': 3, 'scale': 0.5}
    """
    spec = _with_defaults(document["job"], document["spec"])
    branch = spec.get("branch")
    leaves = branch.get("parent") if isinstance(branch, Mapping) else branch
    settings: dict[str, Any] = {"job": document["job"], "branch": leaves or NO_BRANCH}
    settings |= _remedy_settings(spec.get("remedies") or ())
    _flatten({name: value for name, value in spec.items() if name not in _ELSEWHERE}, "", settings)
    return settings


def _with_defaults(job: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in what an older version did not write; a spec of unknown classes stays as it is."""
    if job != "ppo" or (not spec.get("remedies") and _fields_of(spec) == _all_fields()):
        return spec  # Nothing to fill in, which is known without decoding: that takes a millisecond for each run.
    from escapevelocity.ppo.config import PPOSpec

    types = ()
    if spec.get("remedies"):  # The classes import JAX, which nobody needs to wait for otherwise.
        from escapevelocity.ppo.remedies import remedy_types

        types = remedy_types()
    try:
        return json.loads(canonical_json(spec_from_json(PPOSpec, spec, types), job))["spec"]
    except UserError:
        return spec


@cache
def _all_fields() -> frozenset[str]:
    """Dotted names of the fields of PPO's spec, as this version writes them."""
    from escapevelocity.ppo.config import PPOSpec

    return _fields_of(json.loads(canonical_json(PPOSpec(seeds=(0,)), "ppo"))["spec"])


def _fields_of(part: Mapping[str, Any], prefix: str = "") -> frozenset[str]:
    names = set()
    for name, value in part.items():
        names |= _fields_of(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name}
    return frozenset(names)


def _remedy_settings(remedies: Any) -> dict[str, Any]:
    names = _remedy_names() if remedies else {}
    named = {names.get(kind := str(remedy["_type"]), kind): remedy for remedy in remedies}
    settings: dict[str, Any] = {"remedy": "+".join(sorted(named)) or NO_REMEDY}
    for name, remedy in sorted(named.items()):
        settings |= {f"{name}.{field}": frozen(x) for field, x in remedy.items() if field != "_type"}
    return settings


def _remedy_names() -> dict[str, str]:
    """Names of remedies by their classes' names, as spec.json has them."""
    from escapevelocity.ppo.remedies import remedy_types

    return {str(cls.__name__): cls.name for cls in remedy_types()}


def _flatten(part: Mapping[str, Any], prefix: str, into: dict[str, Any]) -> None:
    """Add a part's fields under their own names; a name that is taken keeps the part's in front."""
    for name, value in part.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{prefix}{name}.", into)
        else:
            into[prefix + name if name in into else name] = frozen(value)


def frozen(value: Any) -> Any:
    """Give a JSON value with tuples for lists, so that it compares with what Python code writes."""
    return tuple(frozen(item) for item in value) if isinstance(value, list) else value
