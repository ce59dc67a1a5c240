"""The two stages: choose.toml as it stands, and report.toml, which is written from what was chosen."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from escapevelocity.study.grid import Cell, Study, cells, read_study
from escapevelocity.study.history import History

HERE = Path(__file__).parent
CHOOSE_FILE = HERE / "choose.toml"
REPORT_SEEDS, REPORT_STEPS, REPORT_POPULATION = tuple(range(1, 11)), 500_000, 5
QUICK_STEPS, QUICK_SEEDS = 24 * 1024, (101, 102)
QUICK_TASK, QUICK_RATES = "gymnax:Breakout-MinAtar", (1e-3, 3e-3)

Rates = Mapping[str, Mapping[str, float]]
"""Learning rate by task and label of the head."""

CHOOSE = read_study(CHOOSE_FILE)
QUICK_CHOOSE = replace(
    CHOOSE,
    name="escort-minatar-quick",
    base=dict(CHOOSE.base) | {"steps": QUICK_STEPS},
    axes=dict(CHOOSE.axes) | {"task": (QUICK_TASK,), "learning_rate": QUICK_RATES},
    seeds=QUICK_SEEDS,
)


def report_text(choose: Study, rates: Rates, quick: bool = False) -> str:
    """Write the second stage as a study's TOML: the chosen rate of each head in each game, on seeds of its own.

    Args:
        choose: the first stage.
        rates: what was chosen.
        quick: as short as the first stage, with two seeds.
    """
    seeds = REPORT_SEEDS[:2] if quick else REPORT_SEEDS
    base = dict(choose.base) | ({} if quick else {"steps": REPORT_STEPS})
    lines = [
        "# Written by `python -m studies.escort_minatar` from chosen.json.",
        f'name = "{choose.name.removesuffix("-choose")}-report"',
        f"seeds = {list(seeds)}",
        f"population = {REPORT_POPULATION}",
        "",
        "[base]",
        *(f"{name} = {_value(value)}" for name, value in base.items()),
        "",
        "[axes]",
        *(f"{axis} = {_value(choose.axes[axis])}" for axis in ("task", "head")),
    ]
    for task, by_head in rates.items():
        for head, rate in by_head.items():
            lines += ["", "[[when]]", f"match = {_value({'task': task, 'head': head})}"]
            lines += [f"set = {_value({'learning_rate': rate})}"]
    return "\n".join(lines) + "\n"


def grid(study: Study) -> dict[tuple[str, str, float], Cell]:
    """The cells by task, label of the head, and learning rate."""
    return {
        (str(c.labels["task"]), str(c.labels["head"]), float(c.settings["learning_rate"])): c
        for c in cells(study)
    }


def select(history: History, cell: Cell) -> History:
    """The runs of one cell, whatever their seeds and length."""
    return history.where(**{name: value for name, value in cell.settings.items() if name != "steps"})


def _value(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(inner)}" for name, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
