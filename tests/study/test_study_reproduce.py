"""From a figure's id to its files: runs that are shared, what fails, what cannot be drawn, and the page."""

import pyarrow.parquet as pq
import pytest

from escapevelocity.errors import UserError
from escapevelocity.study import reproduce
from escapevelocity.study.papers import registry
from escapevelocity.study.store import open_store
from study import fake_paper


@pytest.fixture(autouse=True)
def paper(monkeypatch):
    fake_paper.install(monkeypatch)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


def go(wanted, store, out):
    """Everything but the command line."""
    plans = reproduce.plan_figures(wanted, store)
    outcomes = fake_paper.HereExecutor().run(reproduce.unfinished(plans), store, print)
    plans = reproduce.plan_figures(wanted, store)
    return outcomes, [reproduce.draw_figure(one, plans, store, out, None) for one in wanted]


def test_a_run_that_two_figures_share_is_trained_once_and_never_again(store, tmp_path):
    wanted = reproduce.select(["fake/figure-1", "fake/figure-2"], [], "up", "small")
    outcomes, drawn = go(wanted, store, tmp_path / "out")
    assert [outcome.state for outcome in outcomes] == ["finished"] * 3
    assert fake_paper.KIND.computed == ["up 1", "up 2", "up 3"]
    # The last score is slope × 40 + seed; over seeds 1 and 2 its mean is slope × 40 + 1.5.
    assert [one.said[0] for one in drawn] == ["up: 1: 41.5, 2: 81.5.", "up: 2: 81.5, 3: 121.5."]
    assert go(wanted, store, tmp_path / "out")[0] == []
    assert len(fake_paper.KIND.computed) == 3


def test_a_figure_leaves_picture_data_and_a_page(store, tmp_path):
    wanted = reproduce.select(["fake/figure-1"], [], "down", "paper")
    _, (drawn,) = go(wanted, store, tmp_path / "out")
    folder = tmp_path / "out" / "fake"
    names = [f"figure-1-down.{kind}" for kind in ("png", "pdf", "parquet", "md")]
    assert drawn.paths == [folder / name for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert (folder / names[0]).read_bytes().startswith(b"\x89PNG")
    assert (folder / names[1]).read_bytes().startswith(b"%PDF")
    table = pq.read_table(folder / names[2])
    assert sorted(table["score"].to_pylist())[:2] == [-79.0, -78.0]  # −2 × 40 + 1 and + 2
    page = (folder / names[3]).read_text(encoding="utf-8")
    for part in (
        "# fake/figure-1: last scores (down)",
        "![figure-1-down](figure-1-down.png)",
        "**What was claimed.** A larger slope has a larger last score.",
        "**What we measured.** down: 1: -38, 2: -78.",
        "Scale paper: 2 runs (2 finished), 3 seeds (1, 2, 3), 40 environment steps per seed.",
        '    way = "down"',
        "    slope = [1, 2]",
        "    ev reproduce fake/figure-1 --task down --scale paper",
        "Trained at commit ",
    ):
        assert part in page


def test_what_failed_is_tried_again_and_a_figure_without_runs_says_so(store, tmp_path):
    wanted = reproduce.select(["fake/figure-3", "fake/figure-1"], [], "up", "small")
    outcomes, drawn = go(wanted, store, tmp_path)
    assert [outcome.state for outcome in outcomes] == ["failed", "failed", "finished", "finished"]
    assert "fake/figure-3: none of its runs can be drawn" in drawn[0].problem
    assert (drawn[1].problem, len(drawn[1].paths)) == ("", 4)
    assert [outcome.state for outcome in go(wanted, store, tmp_path)[0]] == ["failed", "failed"]


def test_a_figure_that_cannot_be_drawn_is_told_in_a_line_and_leaves_no_picture(store, tmp_path):
    wanted = reproduce.select(["fake/figure-4"], [], "", "small")
    _, (drawn,) = go(wanted, store, tmp_path / "out")
    assert drawn.problem == "runs = 1: must be two or more, to be compared"
    assert not list(tmp_path.glob("out/**/*.png"))


def test_nothing_to_draw_from_is_told(store, tmp_path):
    wanted = reproduce.select(["fake/figure-1", "sgw/figure-6"], [], "", "small")
    plans = reproduce.plan_figures(wanted, store)
    assert (
        "none of its 2 runs is in" in reproduce.draw_figure(wanted[0], plans, store, tmp_path, None).problem
    )
    lab = reproduce.draw_figure(wanted[1], plans, store, tmp_path, None)
    assert "not there; run again without --draw-only" in lab.problem


def test_a_paper_is_all_its_figures_that_have_the_task_and_each_comes_once():
    wanted = reproduce.select(["fake/figure-2"], ["fake"], "down", "small")
    assert [one.stem for one in wanted] == ["fake/figure-2-down", "fake/figure-1-down"]
    assert [one.task for one in reproduce.select([], ["fake"], "", "small")] == ["up"] * 4
    # Of several papers, one that does not have it is passed over.
    some = reproduce.select([], ["fake", "sgw"], "down", "small")
    assert {one.stem for one in some} == {"fake/figure-1-down", "fake/figure-2-down"}


def test_the_slash_of_a_task_is_no_folder():
    wanted = reproduce.Wanted(fake_paper.FIGURES[0], "ALE/Phoenix-v5", "small")
    assert wanted.stem == "fake/figure-1-ALE-Phoenix-v5"


def test_the_command_of_a_page_names_store_and_history_as_seen_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, lab = fake_paper.FIGURES[0], registry.find_figure("sgw/figure-6")
    given = {"store": str(tmp_path / "runs" / "x"), "history": tmp_path / "kept.parquet"}
    command = ["ev", "reproduce", "fake/figure-1", "--task", "up", "--scale", "small"]
    named = reproduce.Wanted(study, "up", "small", **given)
    assert named.command == [*command, "--store", "runs/x", "--history", "kept.parquet"]
    elsewhere = reproduce.Wanted(study, "up", "small", "s3://bucket/x")
    assert elsewhere.command == [*command, "--store", "s3://bucket/x"]
    assert reproduce.Wanted(study, "up", "small").command == command
    # The lab has no runs that a history could hold.
    assert reproduce.Wanted(lab, "", "small", **given).command[-2:] == ["--store", "runs/x"]


@pytest.mark.parametrize(
    ("ids", "papers", "message"),
    [
        (["fake/figure-1"], [], r"task = 'sideways': must be, for fake/figure-1, one of up, down"),
        (["sgw/figure-1"], [], r"task = 'sideways': must be, for sgw/figure-1, left out: it has none"),
        ([], ["fake"], r"task = 'sideways': no figure of fake has it; known are down, up"),
        ([], ["sgw"], r"task = 'sideways': no figure of sgw has it; known are none"),
        ([], ["fake", "sgw"], r"task = 'sideways': no figure of fake, sgw has it; known are down, up"),
    ],
)
def test_a_task_that_a_figure_does_not_have_is_refused(ids, papers, message):
    with pytest.raises(UserError, match=message):
        reproduce.select(ids, papers, "sideways", "small")


def test_the_cost_of_a_figure_is_its_runs_and_steps():
    """Two slopes with two seeds of 40 steps each are 160 steps."""
    assert reproduce.cost(fake_paper.FIGURES[0]) == "2 runs of 2 seeds, 0.00016M steps"
