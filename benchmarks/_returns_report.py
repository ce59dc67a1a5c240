"""From the finished runs of the returns benchmark to its table, figure and files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import bootstrap_means, interval, table

Run = Mapping[str, Any]
TITLES = {"ours": "escapevelocity", "sb3": "Stable-Baselines3"}
LAST = 0.1
"""The part of training, at its end, whose episodes count for the table."""
CURVE_POINTS = 50
SEED = 20240508
"""Of the bootstrap."""


@dataclass(frozen=True)
class Outcome:
    """One contender on one task: the mean over seeds of the final training return."""

    task: str
    contender: str
    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Ours minus Stable-Baselines3 on one task, with a 95 % interval."""

    task: str
    difference: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether ours is below, as far as these seeds can tell."""
        if self.high < 0:
            return "**below**"
        return "above" if self.low > 0 else "no difference shown"


def final_return(run: Run) -> float:
    """Mean return of the episodes that ended in the last `LAST` of the run's steps; NaN if none did."""
    total = run["batches"][-1]["env_steps"]
    late = [batch for batch in run["batches"] if batch["env_steps"] > (1 - LAST) * total]
    episodes = sum(batch["episodes"] for batch in late)
    return sum(batch["return_sum"] for batch in late) / episodes if episodes else float("nan")


def curve(run: Run, points: int = CURVE_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps and mean returns of `points` equal stretches of a run; NaN where no episode ended."""
    steps = np.array([batch["env_steps"] for batch in run["batches"]])
    points = min(points, len(steps))
    edges = steps[-1] * np.arange(1, points + 1) / points
    stretch = np.minimum(np.searchsorted(edges, steps, side="left"), points - 1)
    sums = np.bincount(stretch, [batch["return_sum"] for batch in run["batches"]], points)
    counts = np.bincount(stretch, [batch["episodes"] for batch in run["batches"]], points)
    return edges, np.divide(sums, counts, out=np.full(points, np.nan), where=counts > 0)


def outcomes(runs: Sequence[Run]) -> list[Outcome]:
    """One outcome per task and contender."""
    found = []
    for (task, contender), group in _grouped(runs).items():
        returns = np.array([final_return(run) for run in group])
        low, high = interval(bootstrap_means(returns, _generator(task, contender)))
        seeds = tuple(run["seed"] for run in group)
        found.append(
            Outcome(
                task,
                contender,
                seeds,
                tuple(returns.tolist()),
                float(returns.mean()),
                float(low),
                float(high),
            )
        )
    return found


def comparisons(found: Sequence[Outcome]) -> list[Comparison]:
    """Ours minus Stable-Baselines3 for every task that both have runs of; both are resampled, unpaired."""
    by_name = {(outcome.task, outcome.contender): outcome for outcome in found}
    result = []
    for task in dict.fromkeys(outcome.task for outcome in found):
        ours, theirs = by_name.get((task, "ours")), by_name.get((task, "sb3"))
        if ours is None or theirs is None:
            continue
        samples = [
            bootstrap_means(np.array(one.returns), _generator(task, one.contender)) for one in (ours, theirs)
        ]
        low, high = interval(samples[0] - samples[1])
        result.append(Comparison(task, ours.mean - theirs.mean, float(low), float(high)))
    return result


def report(found: Sequence[Outcome], differences: Sequence[Comparison], steps: int) -> str:
    """Both tables in Markdown."""
    rows = [
        [
            one.task,
            TITLES[one.contender],
            f"{one.mean:,.0f}",
            f"{one.low:,.0f} – {one.high:,.0f}",
            ", ".join(f"{value:,.0f}" for value in one.returns),
        ]
        for one in found
    ]
    parts = [
        f"Mean training return over the last {100 * LAST:.0f} % of {steps:,} steps.",
        table(["task", "trainer", "mean over seeds", "95 % interval", "each seed"], rows),
    ]
    if differences:
        rows = [
            [d.task, f"{d.difference:+,.0f}", f"{d.low:+,.0f} – {d.high:+,.0f}", d.verdict]
            for d in differences
        ]
        header = ["task", "escapevelocity − Stable-Baselines3", "95 % interval", "escapevelocity is"]
        parts.append(table(header, rows))
    return "\n\n".join([*parts, "![Learning curves: mean over seeds, 95 % interval](results/returns.png)"])


def draw(runs: Sequence[Run], path: Path) -> None:
    """Learning curves, one panel per task: mean over seeds with its 95 % bootstrap interval, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(run["task"] for run in runs))
    figure = Figure(figsize=(4.5 * len(tasks), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = dict(zip(tasks, figure.subplots(1, len(tasks), squeeze=False)[0], strict=True))
    colours = {"ours": "C0", "sb3": "C1"}
    for (task, contender), group in _grouped(runs).items():
        curves = [curve(run) for run in group]
        steps, values = curves[0][0] / 1e6, np.stack([returns for _, returns in curves])
        low, high = interval(bootstrap_means(values, _generator(task, contender)))
        label = f"{TITLES[contender]} ({len(group)} seeds)"
        panels[task].plot(steps, values.mean(axis=0), color=colours[contender], label=label)
        panels[task].fill_between(steps, low, high, color=colours[contender], alpha=0.2, linewidth=0)
        panels[task].set(title=task, xlabel="environment steps (millions)")
    for panel in panels.values():
        panel.locator_params(axis="x", nbins=5)
        panel.legend(frameon=False, loc="upper left", fontsize="small")
        panel.spines[["top", "right"]].set_visible(False)
    panels[tasks[0]].set_ylabel("training return")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def as_json(found: Sequence[Outcome], differences: Sequence[Comparison]) -> dict[str, Any]:
    """For `results/returns.json`."""
    return {
        "outcomes": [asdict(one) for one in found],
        "comparisons": [{**asdict(one), "verdict": one.verdict.strip("*")} for one in differences],
    }


def curves_table(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The curves as columns, for Parquet: one row per run and stretch."""
    columns: dict[str, list[Any]] = {
        "task": [],
        "contender": [],
        "seed": [],
        "env_steps": [],
        "return_mean": [],
    }
    for run in runs:
        for steps, value in zip(*curve(run), strict=True):
            for name, entry in zip(
                columns, (run["task"], run["contender"], run["seed"], steps, value), strict=True
            ):
                columns[name].append(entry)
    return columns


def _grouped(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    grouped: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run["task"], run["contender"], run["seed"])):
        grouped.setdefault((run["task"], run["contender"]), []).append(run)
    return grouped


def _generator(task: str, contender: str) -> np.random.Generator:
    """Its own stream for each task and contender, the same in every report."""
    return np.random.default_rng([SEED, *f"{task} {contender}".encode()])
