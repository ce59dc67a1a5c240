"""A run's settings beside those of its preset, and of its parent where it is a branch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from escapevelocity.report._futures import branched_at, find_parent
from escapevelocity.report._shown import UNDEFINED, find_setting
from escapevelocity.runs import Run, canonical_json


def settings_changed(run: Run) -> dict[str, tuple[Any, Any]]:
    """Give the settings that differ from the run's preset: dotted name to (value, the preset's value), as JSON values.

    A job without presets gives every setting, with None for the preset's.
    """
    own = settings_of(run)
    if run.job == "asr":
        from escapevelocity.metric_learning.presets import preset_spec as images_preset

        fitting = images_preset(run.spec["data"]["data"], run.spec["seeds"])
        return _differing(own, flat_spec(json.loads(canonical_json(fitting, run.job))["spec"]))
    if run.job != "ppo":
        return {name: (value, None) for name, value in own.items()}
    from escapevelocity.ppo.config import DISCRETE_HEADS
    from escapevelocity.ppo.presets import preset_spec

    discrete = find_setting(run.spec, "network", "head") in DISCRETE_HEADS
    preset = preset_spec(run.spec["preset"], run.spec["task"], discrete, run.spec["seeds"])
    usual = flat_spec(json.loads(canonical_json(preset, run.job))["spec"])
    return _differing(own, usual)


def _differing(own: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (value, usual.get(name)) for name, value in own.items() if value != usual.get(name)}


def settings_of(run: Run) -> dict[str, Any]:
    """Give every setting of a run by its dotted name, those of a remedy under the remedy's."""
    return flat_spec(run.spec)


def lineage_lines(run: Run) -> list[str]:
    """Say where a branch began and in which settings it differs from its parent; nothing for other runs."""
    if run.parent is None:
        return []
    parent, gone = find_parent(run)
    where = branched_at(run.parent, parent)
    if parent is None:
        return [f"{where}; {gone}"]
    own, theirs = settings_of(run), settings_of(parent)
    changed = [name for name in sorted({*own, *theirs}) if own.get(name) != theirs.get(name)]
    pairs = [(name, *(side.get(name, UNDEFINED) for side in (own, theirs))) for name in changed]
    return [where, *(f"  {name} = {mine}  (parent: {its})" for name, mine, its in pairs)]


def flat_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Give every setting of a spec, as JSON values, by its dotted name, those of a remedy under the remedy's."""
    # Where a branch began is told apart.
    settings = _flat({name: value for name, value in spec.items() if name not in ("remedies", "branch")})
    remedies = spec.get("remedies")
    if isinstance(remedies, list):
        names = _remedy_names() if remedies else {}
        named = {names.get(kind := str(remedy["_type"]), kind): remedy for remedy in remedies}
        settings["remedies"] = " ".join(named) or "none"
        for name, remedy in named.items():
            settings |= {f"{name}.{field}": value for field, value in remedy.items() if field != "_type"}
    return settings


def _remedy_names() -> dict[str, str]:
    """Names of remedies by their classes' names, as spec.json has them."""
    from escapevelocity.ppo.remedies import remedy_types

    return {cls.__name__: cls.name for cls in remedy_types()}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
