"""Every remedy in a setting that is prone to collapse: does it move the statistic that it is meant to move?

`python -m benchmarks.remedies` trains every remedy of the registry, and no remedy, on the same seeds, each in its own
process; runs that are finished in the work folder are not trained again. Then, and with `--report` at once, it writes
the table into `benchmarks/README.md` and the numbers into `benchmarks/results/`.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks import _common as common
from benchmarks._remedies_run import ADAM_STEPS

HOPPER, CARTPOLE = "Hopper-v4", "CartPole-v1"
NONE = ""


class Case(NamedTuple):
    """What a remedy is meant to move."""

    remedy: str
    column: str
    """Of the records; the mean over the last tenth of the run is looked at."""
    wanted: Literal["lower", "higher"]
    """Where it should be, against the same seed without a remedy."""
    fields: Mapping[str, Any] = {}
    """Where the defaults are for other settings than these."""
    task: str = HOPPER


_NORM = "health/actor/preactivation_norm"
_DEAD = "health/actor/dead_neurons"
_WEIGHTS = "norm/actor_weights"
CASES = (
    Case("pfo", _NORM, "lower", {"coef": 10.0}),
    Case("shared-trunk", "health/actor/feature_rank_pca", "higher"),
    Case("adam-reset", ADAM_STEPS, "lower"),
    Case("adam-beta2", _WEIGHTS, "lower"),
    Case("reward-mask", "loss/value", "lower"),
    Case("kl-penalty", "trust/kl", "lower"),
    Case("kl-early-stop", "trust/kl", "lower"),
    Case("escort", "policy/entropy", "higher", task=CARTPOLE),
    Case("layer-norm", _NORM, "lower"),
    Case("crelu", _DEAD, "lower"),
    Case("spectral-norm", _NORM, "lower"),
    Case("l2-init", _WEIGHTS, "lower"),
    Case("weight-decay", _WEIGHTS, "lower"),
    Case("redo", f"{_DEAD}_after", "lower"),
    # The published dose, 1e-6, is for runs of millions of steps; these have 30,720.
    Case("shrink-perturb", _WEIGHTS, "lower", {"shrink": 1e-4, "perturb": 1e-4}),
    Case("continual-backprop", _DEAD, "lower"),
    Case("weight-clipping", _WEIGHTS, "lower"),
    Case("c-chain", "trust/kl", "lower"),
    Case("entropy-schedule", "policy/entropy", "higher"),
    Case("delightful", "norm/actor_gradient", "lower"),
)


def moved(case: Case, treated: Sequence[float], untreated: Sequence[float]) -> int:
    """How many seeds ended on the wanted side of what the same seed does without a remedy."""
    sign = {"lower": -1, "higher": 1}[case.wanted]
    return sum(sign * (a - b) > 0 for a, b in zip(treated, untreated, strict=True))


def result_path(work: Path, task: str, remedy: str, steps: int, seeds: Sequence[int]) -> Path:
    """Where a finished run's result lies; runs of other lengths or seeds have other names."""
    return work / f"{task}.{remedy or 'none'}.{steps}.{'-'.join(map(str, seeds))}.json"


def train_missing(cases: Sequence[Case], steps: int, seeds: Sequence[int], work: Path) -> None:
    """Train whatever has no result yet; each task's run without a remedy first."""
    jobs = [(task, NONE, {}) for task in dict.fromkeys(case.task for case in cases)]
    jobs += [(case.task, case.remedy, case.fields) for case in cases]
    for number, (task, remedy, fields) in enumerate(jobs, start=1):
        path = result_path(work, task, remedy, steps, seeds)
        print(f"[{number}/{len(jobs)}] {task} {remedy or 'no remedy'}", flush=True)
        if not path.exists():
            job = {
                "task": task,
                "remedy": remedy,
                "fields": dict(fields),
                "steps": steps,
                "seeds": list(seeds),
            }
            common.write_json(path, common.run_child("benchmarks._remedies_run", job))


def report(cases: Sequence[Case], results: Mapping[tuple[str, str], Mapping[str, Any]]) -> str:
    """The table: means over seeds, and how many seeds the remedy moved where it should.

    Args:
        cases: the remedies that have results.
        results: by task and remedy (empty for none).
    """
    rows = []
    for case in cases:
        treated = results[case.task, case.remedy]["columns"][case.column]
        untreated = results[case.task, NONE]["columns"][case.column]
        count = moved(case, treated["end"], untreated["end"])
        fields = " ".join(f"--{case.remedy}.{name} {value:g}" for name, value in case.fields.items())
        name = f"{case.remedy} `{fields}`" if fields else case.remedy
        if case.task != HOPPER:
            name += f" ({case.task})"
        numbers = [_text(_mean(values)) for values in (treated["start"], treated["end"], untreated["end"])]
        rows.append(
            [
                name,
                f"`{case.column}`",
                case.wanted,
                *numbers,
                f"{count} of {len(treated['end'])}",
                *_returns(case, results),
            ]
        )
    header = [
        "remedy",
        "statistic",
        "wanted",
        "start",
        "end",
        "end without",
        "seeds moved",
        "return",
        "return without",
    ]
    return common.table(header, rows)


def _returns(case: Case, results: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    both = (results[case.task, case.remedy], results[case.task, NONE])
    return [_text(_mean(one["columns"]["perf/return_mean"]["end"])) for one in both]


def _count(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.remedies", description=__doc__)
    names = [case.remedy for case in CASES]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="REMEDY", help="remedies (all)"
    )
    parser.add_argument(
        "--steps", type=common.positive, default=100_000, help="steps per run and seed (100000)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds (1 2 3)")
    parser.add_argument(
        "--work", type=Path, default=common.ROOT / "runs" / "benchmark-remedies", help="finished runs"
    )
    parser.add_argument("--out", type=Path, default=common.RESULTS, help="where the numbers go")
    parser.add_argument("--readme", type=Path, default=common.README, help="README to write the table into")
    parser.add_argument("--no-readme", dest="readme", action="store_const", const=None, help="write none")
    parser.add_argument("--report", action="store_true", help="train nothing, report what is finished")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, then report."""
    arguments = _arguments(argv)
    steps, seeds, work = arguments.steps, arguments.seeds, arguments.work
    cases = [case for case in CASES if case.remedy in arguments.only]
    if not arguments.report:
        train_missing(cases, steps, seeds, work)
    paths = {
        (case.task, name): result_path(work, case.task, name, steps, seeds)
        for case in cases
        for name in (NONE, case.remedy)
    }
    results = {key: json.loads(path.read_text()) for key, path in paths.items() if path.exists()}
    finished = [case for case in cases if {(case.task, NONE), (case.task, case.remedy)} <= results.keys()]
    if not finished:
        raise SystemExit(f"no finished runs of {steps} steps in {work}; run without --report first")
    where = common.machine()
    text = (
        f"{common.machine_line(where)}\n\n{_count(seeds)} × {steps:,} steps.\n\n{report(finished, results)}"
    )
    common.write_json(arguments.out / "remedies.json", {"machine": where, "runs": list(results.values())})
    if arguments.readme is not None:
        common.replace_section(arguments.readme, "remedies", text)
    print("\n" + text, flush=True)


if __name__ == "__main__":
    main()
