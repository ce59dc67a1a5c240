import dataclasses
from pathlib import Path

import numpy as np
import pytest
import studies.escort_minatar
from studies.escort_minatar.choice import at_edge, choose, read_choice, write_choice
from studies.escort_minatar.figure import draw
from studies.escort_minatar.page import page
from studies.escort_minatar.plan import (
    CHOOSE,
    QUICK_CHOOSE,
    REPORT_SEEDS,
    REPORT_STEPS,
    grid,
    report_text,
)

from escapevelocity.errors import UserError
from escapevelocity.study.grid import cells, read_study
from escapevelocity.study.history import History, RunArrays, read_history

HERE = Path(studies.escort_minatar.__file__).parent
BEST = {"softmax": 1e-3, "escort-2": 3e-3, "escort-4": 1e-2}
POINTS = 40


def history_of(study, level):
    """Every cell of a study trained: the return of a run is `level(task, head, rate)`, a little more for each seed."""
    runs = []
    for (task, head, rate), cell in grid(study).items():
        settings = {**cell.settings, "escort_p": cell.settings.get("escort_p", 2.0)}
        returns = np.array([np.full(POINTS, level(task, head, rate) + seed / 1000) for seed in study.seeds])
        columns = {
            "perf/return_mean": returns,
            "policy/entropy": np.ones_like(returns),
            "wall_time": 3600 * np.ones_like(returns),
        }
        steps = np.linspace(1, study.base["steps"], POINTS).round()
        runs.append(RunArrays(f"{task}-{head}-{rate:g}", settings, study.seeds, steps, columns))
    return History.from_arrays(runs)


def level(task, head, rate):
    return 1.0 + (rate == BEST[head])


@pytest.fixture(scope="module")
def document():
    return choose(CHOOSE, history_of(CHOOSE, level))


def test_the_first_stage_has_every_rate_of_every_head_in_every_game():
    assert len(cells(CHOOSE)) == 4 * 3 * 4
    assert set(CHOOSE.seeds).isdisjoint(REPORT_SEEDS)
    assert len(REPORT_SEEDS) == 10


def test_each_head_gets_its_own_best_rate(document):
    assert all(chosen == BEST for chosen in document["chosen"].values())
    assert at_edge(document) == [(task, "escort-4") for task in document["chosen"]]


@pytest.mark.parametrize("dead", [(101,), (101, 102)], ids=["one seed", "all, so that the run failed"])
def test_a_rate_at_which_seeds_died_is_not_chosen_however_far_ahead(kill, dead):
    task = QUICK_CHOOSE.axes["task"][0]
    history = history_of(QUICK_CHOOSE, level)
    first = sorted(history.values(history.runs[0], "perf/return_mean").steps)[POINTS // 2]
    document = choose(QUICK_CHOOSE, kill(history, {f"{task}-softmax-0.001": dict.fromkeys(dead, int(first))}))
    assert document["chosen"][task]["softmax"] == 3e-3
    assert next(row["score"] for row in document["scores"] if row["head"] == "softmax") is None


def test_runs_that_are_missing_are_named():
    task = QUICK_CHOOSE.axes["task"][0]
    history = history_of(QUICK_CHOOSE, level).where(head="softmax")
    with pytest.raises(
        UserError, match=rf"{task}, escort-2, learning rate 0.001: seeds \[101, 102\] have not been"
    ):
        choose(QUICK_CHOOSE, history)


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_nothing_is_chosen_while_a_run_is_not_at_its_end(state):
    history = history_of(QUICK_CHOOSE, level)
    young = dataclasses.replace(history.runs[0], state=state)  # Failed, but no seed has died.
    with pytest.raises(UserError, match=r"seeds \[101, 102\] have not been trained to their end"):
        choose(QUICK_CHOOSE, History((young, *history.runs[1:]), history.rows))


def test_the_second_stage_is_a_study_file_with_the_chosen_rates(document, tmp_path):
    path = tmp_path / "report.toml"
    path.write_text(report_text(CHOOSE, document["chosen"]), encoding="utf-8")
    study = read_study(path)
    found = {(task, head): rate for task, head, rate in grid(study)}
    assert found == {(task, head): BEST[head] for task in CHOOSE.axes["task"] for head in BEST}
    assert (study.seeds, study.population, study.base["steps"]) == (REPORT_SEEDS, 5, REPORT_STEPS)
    powers = {
        cell.labels["head"]: (cell.settings["head"], cell.settings.get("escort_p")) for cell in cells(study)
    }
    assert powers == {"softmax": ("softmax", None), "escort-2": ("escort", 2.0), "escort-4": ("escort", 4.0)}


def test_the_page_says_who_won_and_the_figure_is_drawn(document, tmp_path):
    path = tmp_path / "report.toml"
    path.write_text(report_text(CHOOSE, document["chosen"]), encoding="utf-8")
    study = read_study(path)
    history = history_of(study, lambda task, head, rate: {"softmax": 5, "escort-2": 7, "escort-4": 5}[head])
    text = page(document, study, history, repetitions=200)
    assert "120 of 120 runs of 500,000 steps have come to their end" in text
    # Seeds 1 to 10 add 0.001 to 0.010; the middle six have the mean 0.0055.
    assert "| Freeway, escort-2 | 10 | 7.01 [7.00, 7.01] | +2.00 [+2.00, +2.00] | 1.00 [1.00, 1.00] |" in text
    assert "escort-2 over softmax | 4 | 1.00 [1.00, 1.00] | told apart |" in text
    # The same scores: wins and losses in equal number.
    assert "escort-4 over softmax | 4 | 0.50" in text
    assert "At the edge of the grid, so that a better rate may lie beyond: Breakout, escort-4" in text
    draw(document, study, history, tmp_path / "escort.png")
    assert (tmp_path / "escort.png").stat().st_size > 0


def test_a_dead_seed_stays_in_the_second_stages_numbers(document, tmp_path, kill):
    path = tmp_path / "report.toml"
    path.write_text(report_text(CHOOSE, document["chosen"]), encoding="utf-8")
    study = read_study(path)
    history = history_of(study, lambda task, head, rate: 5.0)
    name = next(run.name for run in history.runs if "Breakout" in run.name and "escort-4" in run.name)
    middle = int(np.linspace(1, 500_000, POINTS).round()[POINTS // 2])
    died = kill(history, {name: dict.fromkeys(study.seeds, middle)})
    text = page(document, study, died, repetitions=200)
    assert "return 0 from then on: 10." in text
    assert (
        "| Breakout, escort-4 | 10 | 0.00 [0.00, 0.00] | -5.01 [-5.01, -5.00] | 0.00 [0.00, 0.00] |" in text
    )
    # Half of the run at 5 and half of it at 0 (point 20 of 40 lies at 51 %).
    assert "| Breakout, escort-4 | 10 | 2.57 [2.57, 2.57] |" in text
    draw(document, study, died, tmp_path / "escort.png")


def test_the_choice_is_kept_as_it_was_made(document, tmp_path):
    write_choice(tmp_path / "chosen.json", document)
    assert read_choice(tmp_path / "chosen.json") == document


def test_the_second_stages_file_is_the_one_that_the_choice_gives():
    rates = read_choice(HERE / "chosen.json")["chosen"]
    assert (HERE / "report.toml").read_text(encoding="utf-8") == report_text(CHOOSE, rates)
    assert read_choice(HERE / "chosen.json") == choose(CHOOSE, read_history(HERE / "choose.parquet"))


def test_the_page_says_what_the_kept_history_says():
    text = (HERE / "README.md").read_text(encoding="utf-8")
    kept = text.split("<!-- numbers:start -->")[1].split("<!-- numbers:end -->")[0]
    document, study = read_choice(HERE / "chosen.json"), read_study(HERE / "report.toml")
    assert kept.strip() == page(document, study, read_history(HERE / "history.parquet")).strip()
