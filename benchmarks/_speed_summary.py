"""From the raw times of every round to the numbers of the speed table: pure arithmetic."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Spread:
    """Median and range over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Median, minimum and maximum of one number per round."""
        return cls(float(np.median(values)), float(np.min(values)), float(np.max(values)))

    def text(self, digits: int = 0) -> str:
        """`median (low–high)`."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}–{self.high:,.{digits}f})"


@dataclass(frozen=True)
class Training:
    """One trainer. Steps/s are of all seeds together; shares are of wall time after the first batch."""

    seeds: int
    rate: Spread
    """Steps/s after the first batch."""
    rate_with_compile: Spread
    """Steps/s of as many batches, the first one included."""
    compile_s: Spread
    """First batch minus the median of the others."""
    startup_s: Spread
    """From building the trainer to the end of the first batch, minus the median of the other batches."""
    collect: Spread
    update: Spread
    health: Spread
    """0 for peers, which measure none."""
    peak_mib: Spread
    growth_mib: Spread
    """Resident memory at the end minus after 25 % of the batches."""

    @property
    def other(self) -> float:
        """Share of the rest: records, checkpoints, fresh environments at boundaries."""
        return 1 - self.collect.median - self.update.median - self.health.median


def summarise_training(rounds: Sequence[Raw], seeds: int, batch_size: int) -> Training:
    """Summarise one trainer's rounds.

    Args:
        rounds: what `benchmarks._contenders` returned, one mapping per round.
        seeds: members of the population; 1 for peers.
        batch_size: environment steps per batch and seed.
    """

    def over(number) -> Spread:
        return Spread.of([number(raw) for raw in rounds])

    def rate(times: Sequence[float]) -> float:
        return seeds * batch_size * len(times) / sum(times)

    def share(part: str) -> Spread:
        return over(lambda raw: sum(raw[part][1:]) / sum(raw["batch_s"][1:]) if part in raw else 0.0)

    def steady(raw: Raw) -> float:
        return float(np.median(raw["batch_s"][1:]))

    return Training(
        seeds=seeds,
        rate=over(lambda raw: rate(raw["batch_s"][1:])),
        rate_with_compile=over(lambda raw: rate(raw["batch_s"][:-1])),
        compile_s=over(lambda raw: raw["batch_s"][0] - steady(raw)),
        startup_s=over(lambda raw: raw["first_batch_done_s"] - steady(raw)),
        collect=share("collect_s"),
        update=share("update_s"),
        health=share("health_s"),
        peak_mib=over(lambda raw: raw["peak_mib"]),
        growth_mib=over(lambda raw: raw["rss_mib"][-1] - raw["rss_mib"][round(len(raw["rss_mib"]) / 4) - 1]),
    )


@dataclass(frozen=True)
class Simulator:
    """EnvPool alone, in its best layout of pools and threads."""

    num_envs: int
    layout: str
    rate: Spread


def summarise_simulator(rounds: Sequence[Raw], num_envs: int) -> Simulator:
    """The layout with the highest median over the rounds: that is the limit."""
    layouts = {
        name: Spread.of([raw["steps_per_s"][name] for raw in rounds]) for name in rounds[0]["steps_per_s"]
    }
    layout = max(layouts, key=lambda name: layouts[name].median)
    return Simulator(num_envs, layout, layouts[layout])


def step_budget(training: Training, simulator: Simulator | None) -> dict[str, float]:
    """Where the time of one environment step goes, in microseconds of wall time.

    `policy and Python` is what collecting costs beyond the simulator alone, with as many environments.
    """
    total = 1e6 / training.rate.median
    limit = 1e6 / simulator.rate.median if simulator else float("nan")
    return {
        "total": total,
        "simulator": limit,
        "policy and Python": training.collect.median * total - limit,
        "update": training.update.median * total,
        "health": training.health.median * total,
        "other": training.other * total,
    }


@dataclass(frozen=True)
class Goal:
    """One of the issue's targets."""

    what: str
    target: str
    measured: str
    reached: bool


def goals(
    trainings: Mapping[str, Training], simulators: Mapping[int, Simulator], envs_per_seed: int
) -> list[Goal]:
    """The issue's targets, as far as the contenders that they need have run. Ratios are of medians."""
    found: list[Goal] = []

    def ratio(ours: str, peer: str, at_least: float) -> None:
        if ours in trainings and peer in trainings:
            value = trainings[ours].rate.median / trainings[peer].rate.median
            found.append(
                Goal(f"{ours} against {peer}", f"≥ {at_least} ×", f"{value:.2f} ×", value >= at_least)
            )

    def at_most(name: str, what: str, value: float, limit: float, unit: str) -> None:
        text = f"{value:.1f} {unit}".strip()
        found.append(Goal(f"{name}: {what}", f"< {limit:g} {unit}".strip(), text, value < limit))

    ratio("ours-1", "sb3", 3.5)
    ratio("ours-1", "sbx", 2.7)
    ratio("ours-5", "sb3", 7.5)
    ten = simulators.get(10 * envs_per_seed)
    if "ours-10" in trainings and ten:
        value = 100 * trainings["ours-10"].rate.median / ten.rate.median
        what = f"ours-10 against EnvPool alone with {ten.num_envs} environments"
        found.append(Goal(what, "≥ 70 %", f"{value:.1f} %", value >= 70))
    for name, training in trainings.items():
        if name.startswith("ours-") and not name.endswith("-no-health"):
            at_most(name, "wall time on health", 100 * training.health.median, 5, "%")
            at_most(name, "compile, cache cold", training.compile_s.median, 5, "s")
            at_most(name, "peak memory", training.peak_mib.median, 1024, "MiB")
    return found


def health_cost(trainings: Mapping[str, Training], name: str) -> float | None:
    """Share of wall time that health costs, by the same run without it: 1 − (steps/s with) / (without)."""
    control = trainings.get(f"{name}-no-health")
    return None if control is None else 1 - trainings[name].rate.median / control.rate.median


def as_json(value: Training | Simulator | Goal) -> dict[str, Any]:
    """For `results/speed.json`."""
    return asdict(value)
