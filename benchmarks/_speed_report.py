"""The Markdown of the speed benchmark."""

from collections.abc import Mapping, Sequence

from benchmarks._common import table
from benchmarks._speed_summary import (
    Goal,
    Simulator,
    Spread,
    Training,
    health_cost,
    step_budget,
)

TITLES = {"sb3": "Stable-Baselines3", "sbx": "SBX"}


def title(name: str) -> str:
    """A contender in words."""
    if name in TITLES:
        return TITLES[name]
    seeds, *control = name.removeprefix("ours-").split("-", 1)
    words = f"escapevelocity, {seeds} seed{'s' * (seeds != '1')}"
    return f"{words}, health off" if control else words


def report(
    trainings: Mapping[str, Training],
    warm_compile: Mapping[str, Spread],
    simulators: Mapping[int, Simulator],
    targets: Sequence[Goal],
    envs_per_seed: int,
    rounds: int,
) -> str:
    """All tables. Numbers are medians over the rounds, with the lowest and highest in brackets."""
    ours = {name: training for name, training in trainings.items() if name.startswith("ours-")}
    parts = [
        f"Medians of {rounds} interleaved round{'s' * (rounds > 1)}, lowest–highest in brackets.",
        "### Speed\n\n" + _speed(trainings),
        "### The simulator alone\n\n" + _simulators(simulators),
        "### Compile time and memory\n\n" + _resources(trainings, warm_compile),
        "### Where the wall time goes, % after the first batch\n\n" + _shares(trainings),
    ]
    if ours and simulators:
        parts.append(
            "### Where the rest goes: microseconds of wall time per environment step\n\n"
            + _budget(ours, simulators, envs_per_seed)
        )
    if targets:
        rows = [
            [goal.what, goal.target, goal.measured, "yes" if goal.reached else "**no**"] for goal in targets
        ]
        parts.append("### Targets\n\n" + table(["what", "target", "measured", "reached"], rows))
    return "\n\n".join(parts)


def _speed(trainings: Mapping[str, Training]) -> str:
    rows = []
    for name, training in trainings.items():
        ratios = [
            f"{training.rate.median / trainings[peer].rate.median:.2f} ×" if peer in trainings else "–"
            for peer in ("sb3", "sbx")
        ]
        rows.append([title(name), training.rate.text(), training.rate_with_compile.text(), *ratios])
    return table(["", "steps/s, all seeds", "with compile", "against SB3", "against SBX"], rows)


def _simulators(simulators: Mapping[int, Simulator]) -> str:
    rows = [[str(sim.num_envs), sim.rate.text(), sim.layout] for sim in simulators.values()]
    return table(["environments", "steps/s", "best layout"], rows)


def _resources(trainings: Mapping[str, Training], warm: Mapping[str, Spread]) -> str:
    rows = [
        [
            title(name),
            training.compile_s.text(1),
            warm[name].text(1) if name in warm else "–",
            training.startup_s.text(1),
            training.peak_mib.text(),
            training.growth_mib.text(1),
        ]
        for name, training in trainings.items()
    ]
    header = [
        "",
        "compile, cache cold (s)",
        "cache warm (s)",
        "start-up, cold (s)",
        "peak memory (MiB)",
        "growth (MiB)",
    ]
    return table(header, rows)


def _shares(trainings: Mapping[str, Training]) -> str:
    rows = []
    for name, training in trainings.items():
        cost = health_cost(trainings, name)
        rows.append(
            [
                title(name),
                *(
                    f"{100 * share.median:.1f}"
                    for share in (training.collect, training.update, training.health)
                ),
                f"{100 * training.other:.1f}",
                "–" if cost is None else f"{100 * cost:.1f}",
            ]
        )
    return table(["", "collect", "update", "health", "other", "health, by switching it off"], rows)


def _budget(ours: Mapping[str, Training], simulators: Mapping[int, Simulator], envs_per_seed: int) -> str:
    budgets = {
        name: step_budget(training, simulators.get(training.seeds * envs_per_seed))
        for name, training in ours.items()
    }
    parts = list(next(iter(budgets.values())))
    rows = [[title(name), *(f"{budget[part]:.1f}" for part in parts)] for name, budget in budgets.items()]
    return table(["", *parts], rows)
