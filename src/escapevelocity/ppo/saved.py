"""Settings read from a run or a spec.json: text that may come from a stranger."""

import os
import sys
from collections.abc import Mapping
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import PPOSpec
from escapevelocity.runs import load_spec, read_spec


def saved_spec(path: str | os.PathLike[str]) -> PPOSpec:
    """Read the settings of a PPO run.

    Gymnasium imports MODULE for a task named `MODULE:id`. A file must not decide what is imported, so such a task
    is accepted only when its module has been imported already, and a remedy only when it is registered.

    Args:
        path: the run's folder, or its spec.json.

    Raises:
        UserError: not the settings of a PPO run, a remedy that nobody has registered, or a task that names a module
            which is not imported.
    """
    spec = load_spec(PPOSpec, path, "ppo", _remedy_types(read_spec(path)["spec"], os.fspath(path)))
    module, colon, _ = spec.task.partition(":")
    if colon and module not in sys.modules and module != "gymnax":
        raise UserError(
            f"task = {spec.task!r}: {os.fspath(path)} names a module, and opening a run imports none; if you trust it, "
            f"import {module} first (ev: --import {module})"
        )
    return spec


def _remedy_types(fields: Mapping[str, Any], where: str) -> tuple[type, ...]:
    """The classes of the remedies that a spec's JSON names; none are imported where it names none."""
    remedies = fields.get("remedies")
    if not isinstance(remedies, list) or not remedies:
        return ()
    from escapevelocity.ppo.remedies import remedy_types

    known = {cls.__name__: cls for cls in remedy_types()}
    for remedy in remedies:
        name = remedy.get("_type") if isinstance(remedy, Mapping) else remedy
        if name not in known:
            raise UserError(
                f"remedies = {name!r}: {where} has a remedy that is not registered here; if you trust the module that "
                f"defines it, import it first (ev: --import MODULE)"
            )
    return tuple(known.values())
