"""The command line that makes a run again, from its settings alone: whoever has the page need not have the run."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from escapevelocity.errors import UserError
from escapevelocity.report._futures import find_parent
from escapevelocity.report._shown import find_setting
from escapevelocity.report.settings import flat_spec, settings_of
from escapevelocity.runs import Run, canonical_json

if TYPE_CHECKING:
    from escapevelocity.ppo.remedy import Remedy

_NOT_OPTIONS = ("seeds", "task", "preset", "steps", "remedies", "data.data", "data_dir")
"""Given in a place of their own, or (where images lie) another on each machine."""
_LONGEST = 20  # Generations of branches: a chain that a damaged folder has made a ring must end.


def reproduce(run: Run) -> list[str]:
    """Give the commands that make a run again, one for each generation of a branch; empty for a job without a command.

    The same versions on the same machine type give the same records bit for bit.

    Args:
        run: the run.

    Raises:
        UserError: settings that cannot be read here, such as a remedy that nobody has registered.
    """
    lines: list[str] = []
    for _ in range(_LONGEST):
        parent, gone = find_parent(run)
        if run.parent is None:
            return [*_from_scratch(run), *lines]
        if parent is None:
            return [f"# {gone}", *lines]
        lines.insert(0, _branch(run, parent))
        run = parent
    return lines


def remedy_options(remedies: Sequence[Remedy]) -> list[str]:
    """Write remedies with all their fields as options, such as `--remedy pfo --pfo.coef 10.0`; empty for none.

    Example:
        >>> from escapevelocity.ppo.remedies import AdamBeta2
        >>> " ".join(remedy_options([AdamBeta2()]))
        '--remedy adam-beta2 --adam-beta2.value 0.9'
    """
    if not remedies:
        return []
    given = ["--remedy", *(remedy.name for remedy in remedies)]
    for remedy in remedies:
        for item in dataclasses.fields(remedy):
            value = getattr(remedy, item.name)
            if value is not None:
                given += _option(f"{remedy.name}.{item.name}", value)
    return given


def _from_scratch(run: Run) -> list[str]:
    if run.job not in ("ppo", "asr"):
        return []
    head, usual, remedies = _ppo_defaults(run) if run.job == "ppo" else _asr_defaults(run)
    given = [
        *head,
        *_pair("--seeds", [str(seed) for seed in run.spec["seeds"]]),
        *_pair("--steps", [str(run.spec["steps"])]),
        *_changed(settings_of(run), usual),
        *remedies,
        "--name",
        run.path.resolve().name,
    ]
    return [shlex.join(given)]


def _ppo_defaults(run: Run) -> tuple[list[str], Mapping[str, Any], list[str]]:
    """The beginning of the command, the settings that it and the remedies imply, and the remedies' options."""
    from escapevelocity.ppo.config import DISCRETE_HEADS, PPOSpec
    from escapevelocity.ppo.presets import preset_spec
    from escapevelocity.ppo.remedies import apply_remedies, remedy_types
    from escapevelocity.runs import spec_from_json

    spec = spec_from_json(PPOSpec, run.spec, remedy_types())
    discrete = find_setting(run.spec, "network", "head") in DISCRETE_HEADS
    preset = preset_spec(spec.preset, spec.task, discrete, spec.seeds)
    usual = apply_remedies(dataclasses.replace(preset, steps=spec.steps), spec.remedies)
    head = ["ev", "train", spec.task, "--preset", spec.preset]
    return head, _flat(usual, "ppo"), remedy_options(spec.remedies)


def _asr_defaults(run: Run) -> tuple[list[str], Mapping[str, Any], list[str]]:
    from escapevelocity.metric_learning.presets import preset_spec

    data = run.spec["data"]["data"]
    usual = preset_spec(data, run.spec["seeds"])
    return ["ev", "asr", "train", "--data", data], _flat(usual, "asr"), []


def _branch(run: Run, parent: Run) -> str:
    """How to leave the parent, in the settings that differ from its own."""
    own, theirs = settings_of(run), settings_of(parent)
    words = ["ev", *(["asr"] if run.job == "asr" else []), "branch", f"runs/{parent.path.resolve().name}"]
    assert run.parent is not None
    words += ["--at", str(run.parent.step)]
    words += _pair("--steps", [str(own["steps"])] if own["steps"] != theirs["steps"] else [])
    remedies: list[str] = []
    if run.job == "ppo" and run.spec["remedies"] != parent.spec["remedies"]:
        from escapevelocity.ppo.config import PPOSpec
        from escapevelocity.ppo.remedies import remedy_types
        from escapevelocity.runs import spec_from_json

        remedies = remedy_options(spec_from_json(PPOSpec, run.spec, remedy_types()).remedies)
        remedies = remedies or ["--remedy", "none"]
    changed = _changed(own, theirs)
    return shlex.join([*words, *changed, *remedies, "--name", run.path.resolve().name])


def _changed(own: Mapping[str, Any], usual: Mapping[str, Any]) -> list[str]:
    """Options for the settings that differ, those of remedies and the ones with a place of their own left out."""
    remedies = tuple(f"{name}." for name in str(own.get("remedies", "")).split())
    given: list[str] = []
    for name, value in own.items():
        if name in _NOT_OPTIONS or name.startswith(remedies) or value == usual.get(name):
            continue
        given += _option(name.split(".")[-1], value)
    return given


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        remedy, dot, field = name.replace("_", "-").rpartition(".")
        return [flag if value else f"--{remedy}{dot}no-{field}"]
    return _pair(flag, [str(one) for one in (value if isinstance(value, list | tuple) else [value])])


def _pair(flag: str, values: Sequence[str]) -> list[str]:
    return [flag, *values] if values else []


def _flat(spec: Any, job: str) -> Mapping[str, Any]:
    return flat_spec(json.loads(canonical_json(spec, job))["spec"])


def reproduce_lines(run: Run) -> list[str]:
    """`reproduce`, with the reason in place of the commands where they cannot be told."""
    try:
        return reproduce(run)
    except UserError as error:
        return [f"# {' '.join(str(error).split())}"]
