"""A run's diagnosis as what the report page shows first: is it healthy, why, since when, and what to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from escapevelocity.health.diagnosis import Diagnosis, RunDiagnosis
from escapevelocity.health.signs import SIGNS, Sign
from escapevelocity.health.verdict import CAUSES, SAMPLER_CAUSES, Verdict
from escapevelocity.health.watch import Onset
from escapevelocity.report.diagnosis import first_onset, is_ill
from escapevelocity.report.page_words import TRY_WORDS, WORDS
from escapevelocity.runs import Run

_WHY = 4
"""So many signs are named at first sight; the table below has them all."""


class OnsetRow(NamedTuple):
    """One sign, in all seeds in which it appeared."""

    sign: str
    meaning: str
    """What the sign says about a run."""
    text: str
    """What was seen where it came first, with its numbers."""
    step: int
    """Where it came first."""
    share: str
    """Of the whole run."""
    seeds: str
    """In which seeds."""
    lasts: int
    """In how many of them it is still there."""
    lasts_told: str


class SeedVerdict(NamedTuple):
    """What became of some seeds."""

    seeds: str
    verdict: str
    tone: str


class Try(NamedTuple):
    """Something to try."""

    what: str
    """In words; empty where the command says it all."""
    command: str


class VerdictCard(NamedTuple):
    """All that is said of one run's health."""

    label: str
    group: int
    tone: str
    """good, bad or unsure."""
    answer: str
    """To the question whether it is healthy."""
    verdict: str
    """As `ev diagnose` names it."""
    headline: str
    plain: str
    seeds_told: str
    """In how many of the seeds."""
    confidence: str
    """In a word and a number; empty where nothing was inferred."""
    why: tuple[str, ...]
    """What was seen, the first signs first."""
    why_of: str
    """Of which seed that is; empty where there is one."""
    since: str
    tries: tuple[Try, ...]
    """What to try, the most promising first."""
    notes: tuple[str, ...]
    """Of an unfinished run, and what else to know before reading on."""
    seeds: tuple[SeedVerdict, ...]
    """Where seeds differ; else empty."""
    onsets: tuple[OnsetRow, ...]
    evidence: tuple[str, ...]
    refuted_by: tuple[str, ...]
    not_measured: tuple[str, ...]


def verdict_card(
    run: Run, diagnosis: RunDiagnosis, label: str, group: int, advice: Sequence[tuple[str, str]]
) -> VerdictCard:
    """Tell a run's diagnosis.

    Args:
        run: the run.
        diagnosis: its diagnosis.
        label: what the page calls it.
        group: its place on the page, which gives its colour.
        advice: what to try: the name of a remedy, and the command that tries it.
    """
    words, members = WORDS[diagnosis.verdict], diagnosis.members
    told = next(member for member in members if member.verdict is diagnosis.verdict)
    counted = f"in {len(diagnosis.seeds)} of {len(members)} seeds" if len(members) > 1 else ""
    sure = ""
    if diagnosis.verdict is not Verdict.NOT_MEASURED:
        sure = f"confidence {diagnosis.confidence_word} ({diagnosis.confidence:.2f})"
    return VerdictCard(
        label=label,
        group=group,
        tone=words.tone,
        answer=words.answer,
        verdict=str(diagnosis.verdict),
        headline=words.headline,
        plain=words.plain,
        seeds_told=counted,
        confidence=sure,
        why=_why(told),
        why_of=f"seed {told.seed}" if len(members) > 1 and is_ill(told.verdict) else "",
        since=_since(run, diagnosis),
        tries=tuple(Try(TRY_WORDS.get(remedy, ""), command) for remedy, command in advice),
        notes=_notes(run),
        seeds=_seed_verdicts(members),
        onsets=_onset_rows(run, members),
        evidence=told.evidence,
        refuted_by=told.refuted_by,
        not_measured=told.not_measured,
    )


def _why(member: Diagnosis) -> tuple[str, ...]:
    """The signs that last, what the verdict is named after first; the reason where there are none."""
    lasting = [onset for onset in member.onsets if onset.ended is None] if is_ill(member.verdict) else []
    lasting.sort(key=lambda onset: not _is_named_by(member.verdict, onset.sign))
    told = [f"{_capital(SIGNS[o.sign].meaning)} ({o.text}; at step {o.step:,})." for o in lasting[:_WHY]]
    if len(lasting) > _WHY:
        left = len(lasting) - _WHY
        told.append(
            f"And {left} more {'sign' if left == 1 else 'signs'}: the evidence below has all, of all seeds."
        )
    if not told and member.reason:
        told.append(f"{_capital(member.reason)}.")
    return tuple(told)


def _is_named_by(verdict: Verdict, sign: Sign) -> bool:
    """Whether a sign is what the verdict is named after, such as dead neurons of a collapsed representation."""
    cause = CAUSES.get(verdict) or SAMPLER_CAUSES.get(verdict)
    return cause is not None and SIGNS[sign].instrument in cause.expected[:1]


def _since(run: Run, diagnosis: RunDiagnosis) -> str:
    """When the first sign that lasts began, and the first of those that the verdict is named after, in the seed where
    that was first; empty for a run that is well.
    """
    first = first_onset(diagnosis)
    if first is None:
        return ""
    own = [member for member in diagnosis.members if member.verdict is diagnosis.verdict]
    found = [(m.seed, o) for m in own for o in m.onsets if o.ended is None and o.step == first]
    said = [_at(run, diagnosis, *found[0])]
    named = [
        (m.seed, o) for m in own for o in m.onsets if o.ended is None and _is_named_by(m.verdict, o.sign)
    ]
    if named and (later := min(named, key=lambda one: one[1].step))[1].step > first:
        said.append(_at(run, diagnosis, *later))
    return "; ".join([_capital(said[0]), *said[1:]])


def _at(run: Run, diagnosis: RunDiagnosis, seed: int, onset: Onset) -> str:
    whose = f", seed {seed}" if len(diagnosis.members) > 1 else ""
    return f"step {onset.step:,} ({_share(run, onset.step)} of the run{whose}): {onset.sign}"


def _notes(run: Run) -> tuple[str, ...]:
    status = run.status
    if status.state == "finished":
        return ()
    why = f" ({status.why})" if status.why else ""
    done = _share(run, status.steps_done)
    return (f"The run is {status.state}{why}, {done} done: this is about the part that was recorded.",)


def _seed_verdicts(members: Sequence[Diagnosis]) -> tuple[SeedVerdict, ...]:
    verdicts = list(dict.fromkeys(member.verdict for member in members))
    if len(verdicts) < 2:
        return ()
    found = []
    for verdict in verdicts:
        own = [str(member.seed) for member in members if member.verdict is verdict]
        name = "seed" if len(own) == 1 else "seeds"
        found.append(SeedVerdict(f"{name} {' '.join(own)}", str(verdict), WORDS[verdict].tone))
    return tuple(found)


def _onset_rows(run: Run, members: Sequence[Diagnosis]) -> tuple[OnsetRow, ...]:
    """A row for each sign, those that last first, then by when they came first."""
    found: dict[Sign, list[Onset]] = {}
    for onset in (onset for member in members for onset in member.onsets):
        found.setdefault(onset.sign, []).append(onset)
    rows = []
    for sign, onsets in found.items():
        seeds = list(dict.fromkeys(onset.seed for onset in onsets))
        lasting = [onset for onset in onsets if onset.ended is None]
        first = min(lasting or onsets, key=lambda onset: onset.step)
        told = f"yes, in {len(lasting)} of {len(members)} seeds" if len(members) > 1 else "yes"
        rows.append(
            OnsetRow(
                sign=str(sign),
                meaning=SIGNS[sign].meaning,
                text=first.text,
                step=first.step,
                share=_share(run, first.step),
                seeds=" ".join(map(str, seeds)),
                lasts=len(lasting),
                lasts_told=told if lasting else "no, it went away again",
            )
        )
    return tuple(sorted(rows, key=lambda row: (row.lasts == 0, row.step)))


def _share(run: Run, step: int) -> str:
    return f"{step / max(run.status.steps_total, step, 1):.0%}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
