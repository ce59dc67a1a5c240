"""Made-up histories for the figures of the PPO collapse paper: with the effects that it claims, or with none."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa

from escapevelocity.study._rows import TableRows
from escapevelocity.study.correlation import RANKS
from escapevelocity.study.grid import cells
from escapevelocity.study.history import History, RunArrays

POINTS = 60
ALL = {"trunk": "separate", "adam_beta2": 0.999, "hidden": (64, 64), "clip_epsilon": 0.2}
SICKNESS = {
    "no remedy": 1.0,
    "PFO (last layer)": 0.0,
    "PFO (all layers)": 0.0,
    "shared trunk": 0.3,
    "Adam reset": 0.6,
    "Adam β₂ = 0.9": 0.6,
    "separate, masked": 1.0,
    "shared trunk, masked": 1.0,
}


def history_of(study, effect: bool, seeds=None, change=None) -> History:
    """One run for each cell of a study. Everything without effect is the same in all cells and at all steps.

    `change(settings)` gives columns that a run has instead: seeds × points, or what fits that shape.
    """
    found = cells(study)
    epsilons = sorted({cell.settings.get("clip_epsilon", 0.2) for cell in found})
    runs = []
    for number, cell in enumerate(found):
        settings = {**ALL, **{k: v for k, v in cell.settings.items() if k not in ("remedy", "label")}}
        settings |= _remedy(cell.settings["remedy"])
        sickness = SICKNESS[str(cell.labels["arm"])] * {10: 0.3, 15: 0.7, 4: 0.7, 6: 0.7}.get(
            settings["epochs"], 1.0
        )
        if len(epsilons) > 1:
            place = epsilons.index(settings["clip_epsilon"])
            # The claim of Figure 34 is that there is no order.
            sickness = (0.2, 0.8, 0.2, 0.8)[place] if effect else (0.2, 0.4, 0.6, 0.8)[place]
        own = seeds or study.seeds
        shown = sickness if effect or len(epsilons) > 1 else 0.0
        ranked = effect or len(epsilons) > 1
        steps = np.linspace(settings["steps"] / POINTS, settings["steps"], POINTS)
        columns = _columns(shown, ranked, own)
        for name, values in (change(settings) if change else {}).items():
            columns[name] = np.broadcast_to(values, (len(own), POINTS))
        runs.append(RunArrays(f"run-{number:02}", settings, own, steps, columns))
    return History.from_arrays(runs)


def cut(history: History, chosen, share: float, state: str, fault: str | None = None) -> History:
    """The runs whose settings `chosen` accepts end after this share, in this state, with a fault in their last rows."""
    tables, runs = [], []
    for run in history.runs:
        table, total, meant = (
            history.rows.table(run.name, history.rows.schema.names),
            run.steps_total,
            chosen(run.settings),
        )
        if meant:
            table = table.filter(pa.array(table["env_steps"].to_numpy() <= share * total))
        steps = table["env_steps"].to_numpy()
        faults = [fault if meant and step == steps.max() else None for step in steps]
        tables.append(table.append_column("fault", pa.array(faults, pa.string())))
        runs.append(dataclasses.replace(run, state=state) if meant else run)
    return History(tuple(runs), TableRows.of(tables, tables[0].schema))


def _remedy(remedy) -> dict:
    """Settings as a real run has them: what is nothing but settings is not kept by name."""
    if remedy == "none":
        return {"remedy": "none"}
    named = sorted(name for name in remedy if name not in ("shared-trunk", "adam-beta2"))
    fields = {f"{name}.{key}": value for name in named for key, value in remedy[name].items()}
    fields |= {"trunk": "shared"} if "shared-trunk" in remedy else {}
    fields |= {"adam_beta2": 0.9} if "adam-beta2" in remedy else {}
    return {"remedy": "+".join(named) or "none", **fields}


def _columns(sickness: float, ranked: bool, seeds) -> dict:
    time = np.linspace(0, 1, POINTS) * sickness
    # A seed's own level is the same in all cells, as a shared start would make it.
    level = 1 + 0.02 * np.arange(len(seeds))[:, None]
    rank = np.maximum(60 * (1 - time), 1.0) / level
    below = np.where(rank < 10, 0.2, 0.75 - 0.05 * time)
    network = {
        "feature_rank_pca": rank,
        "feature_rank_pca_after": rank,
        "dead_neurons": 64 * time * level,
        "dead_neurons_after": 64 * time * level,
        "preactivation_norm": 20 * np.exp(3 * time) * level,
        "preactivation_norm_after": 20 * np.exp(3 * time) * level,
    }
    columns = {f"health/actor/{name}": values for name, values in network.items()}
    columns |= {
        "perf/return_mean": 1000 * level * (1 - 0.9 * time),
        "policy/entropy": 1 + time * level,
        "policy/variance": 10 * np.exp(-5 * time) * level,
        "policy/variance_after": 10 * np.exp(-5 * time) * level,
        "trust/ratio_below_mean": below,
        "trust/ratio_above_mean": np.full_like(below, 1.3),
        "trust/excess_ratio": 1.3 / below,
        "loss/objective_last": 0.01 * level * np.ones(POINTS),
    }
    return columns | _ranks(ranked, rank)


def _ranks(together: bool, rank: np.ndarray) -> dict:
    """Five ranks that rise and fall together, or of which every two are unrelated: waves of different frequencies."""
    waves = np.sin(2 * np.pi * np.linspace(0, 1, POINTS, endpoint=False) * np.arange(1, 6)[:, None])
    columns = {}
    for (place, name), network in itertools.product(enumerate(RANKS), ("actor", "critic")):
        values = 30 + (place + 1) * waves[0 if together else place] + 0 * rank
        columns[f"health/{network}/{name}_after"] = values
    if together:  # the headline rank stays what the other figures read
        columns |= {f"health/actor/{name}_after": rank + place for place, name in enumerate(RANKS)}
        columns["health/actor/feature_rank_pca_after"] = rank
    return columns
