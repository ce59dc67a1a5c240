"""`ev lab`: every experiment runs by its name, prints a table, and leaves data, figures and a page."""

import json
import re

import pyarrow.parquet as pq
import pytest

from escapevelocity.cli.lab import EXPERIMENTS

SMALL = ("--best-probs", "1e-2", "1e-3", "--escort-powers", "2", "4", "--max-steps", "3000")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_ev_lab_alone_lists_every_experiment(ev, arguments):
    answer = ev("lab", *arguments)
    assert (answer.code, answer.err) == (0, "")
    for name, entry in EXPERIMENTS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.summary)}$", answer.out, re.MULTILINE)


def test_escape_prints_the_reference_steps_of_the_design_and_leaves_data_figures_and_a_page(ev, tmp_path):
    """theory.md: K = 6, b = 0.2, Δ = 0.5, η = 0.4 and π₁ = 10⁻², 10⁻³; SPG, EPG(2) and EPG(4)."""
    answer = ev("lab", "escape", "--quick", *SMALL, "--out", "here")
    assert answer.code == 0
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:4]]
        for line in answer.out.splitlines()
        if len(cells := line.split("│")) > 4
    }
    assert rows["SPG"] == ["254", "2520"]
    assert rows["EPG(2)"] == ["13", "25"]
    assert rows["EPG(4)"] == ["64", "271"]
    assert rows["Tsallis(0.5)"] == ["2091", "> 3000"]
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == ["escape.md", "escape.parquet", "escape.pdf", "escape.png"]
    table = pq.read_table(tmp_path / "here" / "escape.parquet")
    spg = [row for row in table.to_pylist() if row["method"] == "SPG"]
    assert [(row["best_prob"], row["steps"], row["censored"]) for row in spg] == [
        (1e-2, 254, False),
        (1e-3, 2520, False),
    ]
    settings = json.loads(table.schema.metadata[b"escapevelocity"])
    assert settings["experiment"] == "escape"
    assert settings["settings"]["best_probs"] == [1e-2, 1e-3]
    assert settings["settings"]["max_steps"] == 3000
    page = (tmp_path / "here" / "escape.md").read_text()
    assert (
        "    ev lab escape --quick --best-probs 1e-2 1e-3 --escort-powers 2 4 --max-steps 3000 --out here"
        in page
    )
    assert "![escape](escape.png)" in page
    assert "| SPG | 254 | 2520 |" in page


QUICKER = {
    "trajectories": "--escort-powers 2 --max-steps 2000 --num-points 100 --surface-grid 10",
    "rooms": "--methods SPG EPG --rates 100 1000 --iterations 100 --snapshots 10",
    "damping": "--escort-powers 4 2 --num-steps 2000",
    "classify": "--escort-powers 4 --learning-rates 1 --epochs 2 --selection-seeds 2 --report-seeds 2",
    "toy": "--num-draws 100",
    "p-study": "--powers 1 2 --best-probs 1e-2 --rates 0.1 1 --bandits 20 --steps 200 --horizons 20 100",
    "uniform-starts": "--methods SPG EPG(2) --runs 100 --sampled-runs 32 --horizon 100",
    "stable-rate": "--num-actions 2 --escort-powers 2 --highest-power 4",
    "adaptive-rates": "--methods SPG NPG --learning-rates 0.4 --horizons 30 100",
    "exponent": "--escort-powers 2 4 --tsallis-orders 0.5 --temperatures 0.1 --max-steps 3000",
    "optimisers": "--best-probs 1e-2 --optimisers SGD --rates 0.1 1 10",
    "many-classes": "--num-actions 3 5 10 --escort-powers 2 --study-rates 1 4 --max-steps 50",
}
"""Options beside --quick: what takes time is compiling, a program per method and shape. Escape has its own test."""


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICKER)
def test_every_experiment_has_a_quick_version_that_leaves_all_its_files(ev, tmp_path, name):
    answer = ev("lab", name, "--quick", *QUICKER[name].split(), "--out", "here")
    assert answer.code == 0, answer.err
    folder = tmp_path / "here"
    assert pq.read_table(folder / f"{name}.parquet").num_rows > 0
    pictures = list(folder.glob(f"{name}*.png"))
    assert pictures
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    page = (folder / f"{name}.md").read_text()
    for picture in pictures:
        assert f"]({picture.name})" in page
    assert all(str(path.relative_to(tmp_path)) in answer.out for path in folder.iterdir())
    assert "nan" not in page


def test_no_experiment_is_left_out():
    assert {*QUICKER, "escape"} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_of_an_experiment_names_its_settings_and_the_output(ev, name):
    answer = ev("lab", name, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert f"usage: ev lab {name}" in answer.out
    assert "--quick" in answer.out
    assert "--out" in answer.out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["escap"], r"experiment = 'escap': not an experiment of the lab; did you mean escape\?"),
        (["wells"], r"experiment = 'wells': .*known: trajectories, escape, "),
        (["escape", "--gap", "x"], r"gap = 'x': must be a number"),
        (["escape", "--gap", "0.9"], r"gap = 0\.9: must be in \(0, 0\.8\]"),
        (["escape", "--gap", "nan"], r"gap = nan: must be in \(0, 0\.8\]"),
        (["escape", "--base-reward", "1.5"], r"base_reward = 1\.5: must be in \[0, 1\]"),
        (["escape", "--best-probs", "0.5"], r"best_probs\[0\] = 0\.5: must be in \(0, 0\.1\)"),
        (["escape", "--escort-powers", "2", "0.5"], r"escort_powers\[1\] = 0\.5: must be finite and ≥ 1"),
        (["escape", "--learning-rate", "0"], r"learning_rate = 0\.0: must be a finite number > 0"),
        (["escape", "--learning-rate", "-1"], r"learning_rate = -1\.0: must be a finite number > 0"),
        (["escape", "--num-actions", "2"], r"num_actions = 2: must be an integer ≥ 3"),
        (["escape", "--max-steps", "0"], r"max_steps = 0: must be an integer ≥ 1"),
        (["escape", "--quik"], r"unknown option --quik; did you mean --quick"),
        (["escape", "sideways"], r"unexpected argument 'sideways'"),
    ],
)
def test_a_mistake_is_told_in_one_line(refused, arguments, complaint):
    assert re.search(complaint, refused("lab", *arguments))


def test_an_answer_keeps_its_brackets(ev, monkeypatch):
    from escapevelocity.lab.experiments.damping import Damping

    run = Damping.run
    answers = ["1.1 [none, 3.0] and [bold]so[/bold]"]
    monkeypatch.setattr(Damping, "run", lambda self, track: run(self, track)._replace(answers=answers))
    answer = ev("lab", "damping", "--escort-powers", "4", "--num-steps", "100", "--num-points", "50")
    assert "\n1.1 [none, 3.0] and [bold]so[/bold]\n" in answer.out


def test_all_runs_every_experiment_with_the_same_output_options(ev, monkeypatch):
    from escapevelocity.cli import lab

    ran = []
    monkeypatch.setattr(lab, "_run", lambda name, arguments: ran.append((name, arguments)))
    assert ev("lab", "all", "--quick", "--out", "here").code == 0
    assert ran == [(name, ["--quick", "--out", "here"]) for name in EXPERIMENTS]


def test_all_takes_no_setting_of_a_single_experiment(refused):
    assert re.search(r"unknown option --gap", refused("lab", "all", "--gap", "0.5"))


def test_an_output_folder_that_is_a_file_is_refused_before_anything_is_computed(refused, tmp_path):
    (tmp_path / "taken").write_text("mine")
    line = refused("lab", "escape", *SMALL, "--out", "taken")
    assert "taken" in line


def test_a_first_look_replaces_no_result_of_full_size(ev, tmp_path):
    assert ev("lab", "toy", "--quick").code == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["lab-quick"]
    assert (tmp_path / "runs" / "lab-quick" / "toy.md").exists()


def test_an_experiment_that_cannot_be_drawn_leaves_no_file(ev, tmp_path, monkeypatch):
    from escapevelocity.report.lab import toy

    def fail(experiment, findings):
        raise ZeroDivisionError

    monkeypatch.setattr(toy, "draw", fail)
    with pytest.raises(ZeroDivisionError):
        ev("lab", "toy", "--quick", "--out", "here")
    assert not (tmp_path / "here").exists()
