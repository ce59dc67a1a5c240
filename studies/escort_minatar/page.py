"""The numbers of README.md, as Markdown, from chosen.json and the kept history of the second stage."""

from collections.abc import Mapping
from typing import Any

from benchmarks._common import table as markdown

from escapevelocity.study.bootstrap import improvement_interval
from escapevelocity.study.grid import Study
from escapevelocity.study.history import History
from studies.escort_minatar.choice import LAST, LAST_TEXT, RETURN, at_edge, tasks_and_heads
from studies.escort_minatar.plan import grid, select
from studies.measures import (
    BOOTSTRAP_SEED,
    DEAD_RETURN,
    REPETITIONS,
    Measure,
    at_end,
    by_seed,
    difference_interval,
    iqm_interval,
    known,
    on_average,
    written,
)
from studies.running import core_hours, dead_seeds, finished

MEASURES: Mapping[str, Measure] = {
    f"return, last {LAST_TEXT}": at_end(LAST, DEAD_RETURN),
    "return, mean over the run": on_average(DEAD_RETURN),
}
SOFTMAX = "softmax"
ENTROPY = "policy/entropy"

Scores = dict[str, dict[str, dict[int, float]]]
"""By head, task and seed."""


def chosen_page(document: Mapping[str, Any]) -> str:
    """The first stage: the final return of every learning rate, the chosen one in bold."""
    rates = sorted({row["learning_rate"] for row in document["scores"]})
    edges = at_edge(document)
    by_cell = {(row["task"], row["head"], row["learning_rate"]): row["score"] for row in document["scores"]}
    rows = []
    tasks, heads = tasks_and_heads(document)
    for task in tasks:
        for head in heads:
            best = document["chosen"][task][head]
            cells = [by_cell[task, head, rate] for rate in rates]
            words = ["failed" if score is None else f"{score:.2f}" for score in cells]
            words[rates.index(best)] = f"**{words[rates.index(best)]}**"
            rows.append([f"{game(task)}, {head}", *words])
    header = ["learning rate", *(f"{rate:g}" for rate in rates)]
    seeds = document["seeds"]
    text = (
        f"Mean return over the last {LAST_TEXT} of {document['steps']:,} steps, {len(seeds)} seeds "
        f"({seeds[0]} to {seeds[-1]}); the best is reported on other seeds."
    )
    if edges:
        names = "; ".join(f"{game(task)}, {head}" for task, head in edges)
        text += f" At the edge of the grid, so that a better rate may lie beyond: {names}."
    return f"{text}\n\n{markdown(header, rows)}"


def page(document: Mapping[str, Any], study: Study, history: History, repetitions: int = REPETITIONS) -> str:
    """All numbers.

    Args:
        document: chosen.json.
        study: the second stage.
        history: its runs.
        repetitions: of the bootstrap.
    """
    parts = ["### What was chosen\n\n" + chosen_page(document)]
    done = finished(history)
    found = {title: gather(study, done, RETURN, measure) for title, measure in MEASURES.items()}
    if not any(
        scores for by_head in found.values() for by_task in by_head.values() for scores in by_task.values()
    ):
        return "\n\n".join(
            [*parts, "### What was found\n\nNo run of the second stage has come to its end yet."]
        )
    entropy = gather(study, done, ENTROPY, at_end(LAST))
    parts.append("### What was found\n\n" + _runs(study, done))
    for title, own in found.items():
        parts.append(f"### {title[0].upper()}{title[1:]}\n\n" + _table(own, repetitions))
    parts.append("### Over the games\n\n" + _pooled(found, repetitions))
    parts.append("### Entropy of the policy, last 10 %, nats\n\n" + _entropy(entropy, repetitions))
    return "\n\n".join(parts)


def _runs(study: Study, history: History) -> str:
    seeds = sum(len(run.seeds) for run in history.runs)
    steps = max(run.steps_total for run in history.runs)
    planned = len(grid(study)) * len(study.seeds)
    return (
        f"{seeds} of {planned} runs of {steps:,} steps have come to their end, {core_hours(history):.1f} core-hours. "
        f"Seeds that "
        f"have died of numbers that are not finite, and return {DEAD_RETURN:g} from then on: {dead_seeds(history)}."
    )


def gather(study: Study, history: History, column: str, measure: Measure) -> Scores:
    """One value per seed of every cell of the second stage."""
    found: Scores = {}
    for (task, head, _), cell in grid(study).items():
        found.setdefault(head, {})[task] = by_seed(select(history, cell), column, measure)
    return found


def game(task: str) -> str:
    """Such as `Breakout`, of gymnax:Breakout-MinAtar."""
    return task.removeprefix("gymnax:").removesuffix("-MinAtar")


def _table(scores: Scores, repetitions: int) -> str:
    rows = []
    for task in scores[SOFTMAX]:
        for head, by_task in scores.items():
            own, softmax = by_task[task], scores[SOFTMAX][task]
            against = ["–", "–"]
            if head != SOFTMAX and known(own).size and known(softmax).size:
                better = improvement_interval(
                    {task: known(own)}, {task: known(softmax)}, seed=BOOTSTRAP_SEED, repetitions=repetitions
                )
                difference = difference_interval(own, softmax, repetitions)
                against = [written(difference, 2, "+"), written(better, 2)]
            rows.append(
                [
                    f"{game(task)}, {head}",
                    str(known(own).size),
                    written(iqm_interval(own, repetitions), 2),
                    *against,
                ]
            )
    return markdown(["game, head", "seeds", "IQM", "IQM − softmax's", "P(better than softmax)"], rows)


def _pooled(found: Mapping[str, Scores], repetitions: int) -> str:
    rows = []
    for title, scores in found.items():
        for x, y in (("escort-2", SOFTMAX), ("escort-4", SOFTMAX), ("escort-2", "escort-4")):
            pair = [{task: known(own) for task, own in scores[head].items()} for head in (x, y)]
            tasks = [task for task in pair[0] if pair[0][task].size and pair[1][task].size]
            if not tasks:
                continue
            first, second = ({task: each[task] for task in tasks} for each in pair)
            better = improvement_interval(first, second, seed=BOOTSTRAP_SEED, repetitions=repetitions)
            said = "told apart" if better.low > 0.5 or better.high < 0.5 else "not told apart"
            rows.append([f"{title}: {x} over {y}", str(len(tasks)), written(better, 2), said])
    text = (
        "The chance that a run with the first head beats one with the second in the same game, averaged over games; "
        "0.5 is no difference. Intervals are 95 % each, not adjusted for their number."
    )
    return f"{text}\n\n{markdown(['', 'games', 'P(better)', ''], rows)}"


def _entropy(scores: Scores, repetitions: int) -> str:
    tasks = list(scores[SOFTMAX])
    rows = [
        [game(task), *(written(iqm_interval(by_task[task], repetitions), 2) for by_task in scores.values())]
        for task in tasks
    ]
    return markdown(["game", *scores], rows)
