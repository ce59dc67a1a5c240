"""The diagnosis of a run on disk, and how a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

from escapevelocity.errors import UserError
from escapevelocity.health.context import Context
from escapevelocity.health.diagnosis import Diagnosis, RunDiagnosis, combine, diagnose, seeds_of
from escapevelocity.health.verdict import Verdict
from escapevelocity.ppo.config import DISCRETE_HEADS
from escapevelocity.report._futures import find_parent, futures_lines, sure, verdict_line
from escapevelocity.report._shown import find_setting, layer_width, shown
from escapevelocity.runs import Run, whole_records

_WELL = (Verdict.HEALTHY, Verdict.LEARNING, Verdict.NOT_MEASURED)


def run_context(spec: Any, total_steps: int | None = None, action_size: int | None = None) -> Context:
    """Give the settings that change what a run's numbers mean.

    Args:
        spec: any job's spec, as its dataclass or as JSON values.
        total_steps: environment steps of the whole run.
        action_size: number of actions, or of action dimensions.
    """
    head = find_setting(spec, "network", "head")
    epsilon = find_setting(spec, "objective", "clip_epsilon")
    return Context(
        width=layer_width(spec),
        clip_epsilon=Context.clip_epsilon if epsilon is None else epsilon,
        continuous=None if head is None else head not in DISCRETE_HEADS,
        action_size=action_size,
        total_steps=total_steps or None,
        epochs=find_setting(spec, "optimizer", "epochs"),
        learning_rate=find_setting(spec, "optimizer", "learning_rate"),
        activation=find_setting(spec, "network", "activation"),
        **_of_sampler(spec),
    )


def _of_sampler(spec: Any) -> dict[str, Any]:
    """What else an adaptive sampler's numbers depend on."""
    found = {
        "bins": find_setting(spec, "sampler", "bins"),
        "step_up": find_setting(spec, "controller", "step_up"),
        "decision_every": find_setting(spec, "controller", "every"),
    }
    return {name: value for name, value in found.items() if value is not None}


def diagnose_run(
    run: Run, seeds: Sequence[int] = (), columns: Mapping[str, Sequence[Any]] | None = None
) -> RunDiagnosis:
    """Name the cause of what a run's records show, finished or not; those of a branch begin with the shared past.

    Args:
        run: the run.
        seeds: which members; by default all.
        columns: its records as columns, at least `health.diagnosis.USED`, where the caller has read them himself.

    Raises:
        UserError: a run without records, or a seed that it does not have.
    """
    found: Mapping[str, Sequence[Any]] = (
        whole_records(run.path, run.parent)[0].to_pydict() if columns is None else columns
    )
    if "env_steps" not in found or len(found["env_steps"]) == 0:
        raise UserError(
            f"{run.path} has no records to diagnose; `ev resume {quote(str(run.path))}` computes them"
        )
    context = run_context(run.spec, run.status.steps_total, _action_size(run))
    return combine([diagnose(found, context, seed) for seed in seeds or seeds_of(found)])


def is_ill(verdict: Verdict) -> bool:
    """Say whether a verdict names something that is the matter."""
    return verdict not in _WELL


def first_onset(diagnosis: RunDiagnosis) -> int | None:
    """Give the step at which the first sign that lasts began in a seed with the run's verdict; None for a well run."""
    if not is_ill(diagnosis.verdict):
        return None
    members = [member for member in diagnosis.members if member.verdict is diagnosis.verdict]
    return min((o.step for m in members for o in m.onsets if o.ended is None), default=None)


def diagnosis_text(run: Run, diagnosis: RunDiagnosis, commands: Sequence[str]) -> str:
    """Write a diagnosis for a person: the verdict first, then onsets, evidence, and what to try.

    Args:
        run: the run.
        diagnosis: its diagnosis.
        commands: what to try, as lines.
    """
    members, verdict = diagnosis.members, diagnosis.verdict
    lines = [f"{run.path}: {verdict_line(diagnosis)}", *_lineage(run, diagnosis)]
    if run.status.state != "finished":
        why = f" ({run.status.why})" if run.status.why else ""
        lines.append(f"The run is {run.status.state}{why}: what follows is about the part that was recorded.")
    told = next(member for member in members if member.verdict is verdict)
    lines += ["", *_member(told, run, len(members) > 1)]
    others = [member for member in members if member is not told]
    if others:
        lines += ["", "other seeds (--seed N tells more)"]
        lines += [f"  {member.seed:>6}  {_short(member)}" for member in others]
    if told.refuted_by:
        lines += ["", "what would refute it", *(f"  {text}" for text in told.refuted_by)]
    if commands:
        lines += ["", "what to try", *(f"  {command}" for command in commands)]
    if told.not_measured:
        lines += ["", "not measured", *(f"  {text}" for text in told.not_measured)]
    # Names, reasons and faults come from disk.
    return "\n".join(shown(line, None) for line in lines)


def parents_diagnosis(run: Run, seeds: Sequence[int] = ()) -> tuple[Run | None, RunDiagnosis | None, str]:
    """Diagnose the run that `run` branched from, with the same members.

    Returns:
        The parent and its diagnosis, None for a run that is no branch or a parent that is gone or has no records; and
        in the last two cases why, one line.
    """
    parent, gone = find_parent(run)
    if parent is None:
        return None, None, gone
    try:
        return parent, diagnose_run(parent, seeds), ""
    except UserError as error:
        return parent, None, str(error)


def _lineage(run: Run, diagnosis: RunDiagnosis) -> list[str]:
    """Both futures of a branch; that its parent is gone where it is; nothing for a run that is no branch."""
    parent, theirs, why = parents_diagnosis(run, [member.seed for member in diagnosis.members])
    if parent is None or theirs is None:
        return [f"Only this branch can be told of: {why}."] if why else []
    return futures_lines(run, diagnosis, parent, theirs)


def _member(member: Diagnosis, run: Run, named: bool) -> list[str]:
    title = f"seed {member.seed}: " if named else ""
    lines = [f"{title}{member.batches:,} logged batches, to step {member.steps:,}"]
    if member.reason:
        lines.append(f"  {member.reason}")
    width = len(f"{member.steps:,}")
    total = max(run.status.steps_total, member.steps, 1)
    for onset in member.onsets:
        gone = f" (gone again since step {onset.ended:,})" if onset.ended is not None else ""
        lines.append(
            f"  step {onset.step:>{width},}  {onset.step / total:4.0%}  {onset.sign}: {onset.text}{gone}"
        )
    return lines + [f"  {sentence}" for sentence in member.evidence]


def _short(member: Diagnosis) -> str:
    first = next((onset for onset in member.onsets if onset.ended is None), None)
    begun = f", first sign at step {first.step:,} ({first.sign})" if first and is_ill(member.verdict) else ""
    reason = f": {member.reason}" if member.reason else ""
    return f"{member.verdict}{sure(member)}{begun}{reason}"


def _action_size(run: Run) -> int | None:
    """Number of actions or of their dimensions, read off the actor's last layer; None where there is none to read.

    Asking the task instead would import its environments.
    """
    checkpoints = run.checkpoints()
    try:
        arrays = run.arrays(checkpoints[-1].number) if checkpoints else {}
    except UserError:  # Damaged: `ev resume` says so.
        return None
    biases = {name: array for name, array in arrays.items() if ".agent.actor.network.biases[" in name}
    if not biases:
        return None
    outputs = biases[max(biases, key=lambda name: int(name[name.rindex("[") + 1 : -1]))].shape[-1]
    with_std = find_setting(run.spec, "network", "head") in ("tanh_normal", "normal")
    return outputs // 2 if with_std else outputs
