"""`ev reproduce`: the list, runs that are trained when they are missing, what is printed, and what is refused."""

import re

import pytest

from escapevelocity.study import local, reproduce
from escapevelocity.study.papers import registry
from study import fake_paper


@pytest.fixture(autouse=True)
def paper(monkeypatch):
    fake_paper.install(monkeypatch)
    monkeypatch.setattr(local, "LocalExecutor", lambda workers: fake_paper.HereExecutor())


def test_the_list_has_every_figure_with_title_tasks_and_cost(ev, monkeypatch):
    papers = {name: module for name, module in registry.PAPERS.items() if name != "nrnt"}
    monkeypatch.setattr(reproduce, "PAPERS", papers)
    monkeypatch.setattr(registry, "PAPERS", papers)  # 41 figures' grids take seconds to be made.
    answer = ev("reproduce", "--list")
    assert (answer.code, answer.err) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in answer.out.splitlines()]
    assert ["fake/figure-1", "last scores", "up, down", "2 runs of 2 seeds, 0.00016M steps"] in rows
    assert [row[0] for row in rows if row and row[0].startswith("sgw")] == [
        f"sgw/figure-{i}" for i in range(1, 9)
    ]


@pytest.mark.parametrize(
    ("named", "ids"),
    [
        (["fake/figure-2"], ["fake/figure-2"]),
        (["fake/figure-2", "sgw/figure-1"], ["fake/figure-2", "sgw/figure-1"]),
        (["--paper", "sgw"], [f"sgw/figure-{i}" for i in range(1, 9)]),
    ],
)
def test_the_list_of_what_is_named_has_nothing_else(ev, named, ids):
    answer = ev("reproduce", "--list", *named)
    assert re.findall(r"^│ (\w+/[\w-]+)", answer.out, re.MULTILINE) == ids


def test_missing_runs_are_trained_and_the_figure_is_drawn_and_told(ev, tmp_path):
    answer = ev("reproduce", "fake/figure-1", "--task", "down", "--out", "figures")
    assert answer.code == 0
    assert "fake/figure-1-down: A larger slope has a larger last score." in answer.out
    assert "  down: 1: -38.5, 2: -78.5." in answer.out
    assert "figures/fake/figure-1-down.png" in answer.out
    assert (tmp_path / "figures" / "fake" / "figure-1-down.md").exists()
    assert len(list((tmp_path / "runs" / "reproduce-small").glob("down-*"))) == 2
    again = ev("reproduce", "--paper", "fake", "--task", "down", "--draw-only", "--out", "figures")
    assert fake_paper.KIND.computed == ["down 1", "down 2"]
    assert again.code == 1  # Figure 2 has only one of its runs.
    assert "fake/figure-2-down: not drawn: runs = 1: must be two or more" in again.err
    assert "figures/fake/figure-1-down.png" in again.out


def test_a_figure_is_drawn_from_a_kept_history_and_from_what_is_trained_beside_it(ev, tmp_path):
    # Both figures have the run 2; the first one's runs are kept, then their store is left behind.
    assert ev("reproduce", "fake/figure-1", "--out", "figures").code == 0
    history = "figures/fake/figure-1-up.parquet"
    fake_paper.KIND.computed.clear()
    given = ("--store", "runs/elsewhere", "--history", history, "--out", "again")
    answer = ev("reproduce", "fake/figure-1", "fake/figure-2", *given)
    assert answer.code == 0
    assert fake_paper.KIND.computed == ["up 3"]
    first, again = (tmp_path / out / "fake" / "figure-1-up.md" for out in ("figures", "again"))
    measured = [page.read_text().split("What we measured")[1].split("\n\n")[1] for page in (first, again)]
    assert measured[0] == measured[1]
    assert (tmp_path / "again" / "fake" / "figure-2-up.png").exists()


def test_a_kept_history_is_drawn_from_without_any_run(ev, tmp_path):
    assert ev("reproduce", "fake/figure-1", "--out", "figures").code == 0
    fake_paper.KIND.computed.clear()
    given = ("--store", "runs/nowhere", "--history", "figures/fake/figure-1-up.parquet", "--out", "again")
    assert ev("reproduce", "fake/figure-1", "--draw-only", *given).code == 0
    assert (fake_paper.KIND.computed, list((tmp_path / "runs" / "nowhere").glob("up-*"))) == ([], [])
    assert (tmp_path / "again" / "fake" / "figure-1-up.png").exists()


def test_a_dry_run_prints_the_runs_and_trains_none(ev, tmp_path):
    answer = ev("reproduce", "fake/figure-1", "fake/figure-2", "sgw/figure-1", "--dry-run")
    assert (answer.code, fake_paper.KIND.computed) == (0, [])
    assert re.findall(r"^(?:fake|sgw)/.*", answer.out, re.MULTILINE) == [
        "fake/figure-1-up:",
        "fake/figure-2-up:",
        "sgw/figure-1: computed by the lab, no runs",
    ]
    assert re.findall(r"^up-\w+ +(\d) +1 2 +missing", answer.out, re.MULTILINE) == ["1", "2", "2", "3"]
    assert "all figures, every run once:\n3 runs of 6 seeds: 3 missing\n0 of 240 steps done" in answer.out


def test_a_run_that_fails_is_exit_code_one(ev, tmp_path):
    answer = ev("reproduce", "fake/figure-3")
    assert answer.code == 1
    assert "fake/figure-3-up: not drawn: fake/figure-3: none of its runs can be drawn" in answer.err


def test_a_stopped_study_is_not_drawn_and_says_how_to_go_on(ev, monkeypatch):
    class Stopped:
        def run(self, orders, store, tell):
            from escapevelocity.study.work import Outcome

            return [Outcome(order.name, "interrupted", "Ctrl-C") for order in orders]

    monkeypatch.setattr(local, "LocalExecutor", lambda workers: Stopped())
    answer = ev("reproduce", "fake/figure-1")
    assert answer.code == 130
    assert "figure-1-up" not in answer.out
    assert "interrupted" in answer.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], r"figures: missing; name some, such as nrnt/figure-6, or see ev reproduce --list"),
        (["fake/figure-9"], r"figure = 'fake/figure-9': unknown; did you mean fake/figure-"),
        (["--paper", "fke"], r"paper = 'fke': unknown; did you mean fake\?"),
        (["fake/figure-1", "--task", "left"], r"task = 'left': must be, for fake/figure-1, one of up, down"),
        (["--all", "--paper", "fake"], r"paper = 'fake': must be left out with --all"),
        (["fake/figure-1", "--scale", "huge"], r"scale = 'huge': must be one of small, paper"),
        (["fake/figure-1", "--executor", "slurm"], r"executor = 'slurm': must be one of local, ray"),
        (
            ["fake/figure-1", "--address", "here:1"],
            r"address = 'here:1': must be left out with --executor local",
        ),
        (
            ["fake/figure-1", "--executor", "ray", "--workers", "2"],
            r"workers = 2: must be left out with --executor ray",
        ),
        (["fake/figure-1", "--draw-only"], r"store = 'runs/reproduce-small': must be a folder that exists"),
    ],
)
def test_a_mistake_is_told_in_one_line(refused, arguments, complaint):
    assert re.search(complaint, refused("reproduce", *arguments))


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_trained(refused, tmp_path):
    (tmp_path / "file").touch()
    complaint = refused("reproduce", "fake/figure-1", "--out", "file/figures")
    assert "out = 'file/figures': must be a folder that can be written" in complaint
    assert fake_paper.KIND.computed == []
