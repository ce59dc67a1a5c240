"""`ev study plan`: what it prints, what it writes, and what it refuses."""

import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "study.md"

STUDY = """
name = "carts"
seeds = ["1:3"]

[base]
task = "CartPole-v1"
steps = 1024

[axes]
epochs = [2, 4]
remedy = ["none", "pfo"]

[[when]]
match = { remedy = "pfo" }
set = { "pfo.coef" = 10.0 }
"""


@pytest.fixture
def study(tmp_path):
    """Write a study's file."""

    def write(text=STUDY):
        (tmp_path / "study.toml").write_text(text, encoding="utf-8")
        return "study.toml"

    return write


def test_a_plan_is_a_table_of_the_runs_and_totals(ev, study, tmp_path):
    answer = ev("study", "plan", study())
    assert (answer.code, answer.err) == (0, "")
    header, *rows = answer.out.splitlines()
    assert header.split() == ["run", "epochs", "remedy", "seeds", "state", "done", "time", "left"]
    expected = [("2", "none"), ("2", "pfo"), ("4", "none"), ("4", "pfo")]
    for row, labels in zip(rows, expected, strict=False):
        assert re.fullmatch(r"CartPole-v1-[0-9a-f]{10}", row.split()[0])
        assert row.split()[1:] == [*labels, "1:3", "missing", "0%", "unknown"]
    assert rows[4:] == [
        "",
        "4 runs of 12 seeds: 4 missing",
        "0 of 12,288 steps done (0%)",  # 4 × 3 × 1,024
        "time left: unknown, nothing like these runs was recorded yet; it is once one has reached a checkpoint",
    ]
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    kept = [
        "runs/carts/_study/.plan.lock",
        "runs/carts/_study/plan.json",
        "runs/carts/_study/wanted/carts.json",
    ]
    assert files == [*kept, "study.toml"]
    assert ev("study", "plan", "study.toml") == answer


def test_runs_have_the_folders_that_ev_train_would_use_and_are_adopted_from_there(ev, study, tmp_path):
    options = ("--epochs", "4", "--steps", "1024", "--seeds", "1:3", "--remedy", "pfo", "--pfo.coef", "10")
    dry = ev("train", "CartPole-v1", *options, "--out", "store", "--dry-run").out
    folder = tmp_path / re.search(r"^run directory  (.*)$", dry, re.MULTILINE)[1]
    folder.mkdir(parents=True)
    spec, _ = json.JSONDecoder().raw_decode(dry)
    (folder / "spec.json").write_text(json.dumps(spec))
    status = {
        "state": "interrupted",
        "why": "Ctrl-C",
        "steps_done": 512,
        "steps_total": 1024,
        "wall_time": 60.0,
    }
    (folder / "status.json").write_text(json.dumps(status))

    answer = ev("study", "plan", study(), "--store", "store", "--json")
    assert (answer.code, answer.err) == (0, "")
    document = json.loads(answer.out)
    assert (document["study"], document["store"]) == ("carts", "store")
    adopted = [run for run in document["runs"] if run["state"] != "missing"]
    assert adopted == [
        {
            "name": folder.name,
            "job": "ppo",
            "labels": {"epochs": 4, "remedy": "pfo"},
            "seeds": [1, 2, 3],
            "steps": 1024,
            "imports": [],
            "state": "interrupted",
            "steps_done": 512,
            "wall_time": 60.0,
            "seconds_left": 60.0,
            "why": "Ctrl-C",
        }
    ]
    # The others have as many steps as twice those that took a minute.
    assert [run["seconds_left"] for run in document["runs"]] == [120.0, 120.0, 120.0, 60.0]
    assert document["totals"]["seconds_left"] == 420.0
    table = ev("study", "plan", "study.toml", "--store", "store").out
    assert f"{folder.name} interrupted: Ctrl-C\n" in table
    assert "about 0.117 core-hours left, at one core per run and the pace recorded in this store\n" in table


def test_modules_can_be_imported_first(ev, study, tmp_path, monkeypatch):
    (tmp_path / "gentle_remedy_of_a_test.py").write_text(
        "from dataclasses import dataclass\n"
        "from escapevelocity.ppo.remedies import Remedy, register\n"
        "@register\n@dataclass(frozen=True)\n"
        "class GentleOfATest(Remedy):\n    'Gentle.'\n    name = 'gentle-of-a-test'\n"
    )
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    text = STUDY.replace('"pfo"]', '"gentle-of-a-test"]').split("[[when]]")[0]
    assert ev("study", "plan", study(text)).code == 2
    answer = ev("study", "plan", "study.toml", "--import", "gentle_remedy_of_a_test", "--json")
    try:
        assert answer.code == 0, answer.err
        runs = json.loads(answer.out)["runs"]
        assert {tuple(run["imports"]) for run in runs} == {("gentle_remedy_of_a_test",)}
    finally:
        from escapevelocity.ppo.remedies import REMEDIES

        REMEDIES.pop("gentle-of-a-test", None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "epochs = [2, 4]",
            "epoch = [2, 4]",
            "study.toml: epoch = 2: unknown setting; did you mean epochs? (cell: epoch 2, rem",
        ),
        (
            "epochs = [2, 4]",
            'epochs = [2, "4"]',
            "study.toml: epochs = '4': must be an integer (cell: epochs 4, remedy none)",
        ),
        (
            "epochs = [2, 4]",
            "hidden = [64, 32]",
            "study.toml: hidden = 64: must be a list of integers such as [64, 64] (cell: ",
        ),
        ("epochs = [2, 4]", "epochs = [2", "study.toml is not valid TOML: "),
        (
            "epochs = [2, 4]",
            "epochs = []",
            "study.toml: axis epochs = []: must be a list of one or more values",
        ),
        ('seeds = ["1:3"]', "seeds = [1, 1]", "study.toml: seeds = 1: must be different each"),
        ("CartPole-v1", "CartPol-v1", "task = 'CartPol-v1': not a known environment id"),
        ("CartPole-v1", "000000000000", '(--import MODULE; in a study\'s file imports = ["MODULE"])'),
        ('remedy = "pfo" }', 'remedy = "pf" }', "when 1: remedy = 'pf': matches nothing"),
        ("steps = 1024", "steps = 100", "steps = 100: must be at least one batch of 512"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_and_nothing_is_written(refused, study, old, new, message):
    assert message in refused("study", "plan", study(STUDY.replace(old, new)))


def test_a_mistake_on_the_command_line_is_one_line(refused, study, tmp_path):
    assert "cannot read nothing.toml" in refused("study", "plan", "nothing.toml")
    assert "missing" in refused("study", "plan")
    assert "store = 'study.toml': must be a folder" in refused(
        "study", "plan", study(), "--store", "study.toml"
    )
    assert "did you mean plan?" in refused("study", "pla", "study.toml")


def test_the_how_to_shows_what_its_study_plans(ev, study):
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    text = next(body for language, body in blocks if language == "toml")
    before, after, _ = (body for language, body in blocks if language == "text")
    assert ev("study", "plan", study(text)).out == before
    # With two more seeds; nothing was trained here, so what was finished then and its time stand apart.
    later = ev("study", "plan", study(text.replace("[1, 2, 3]", "[1, 2, 3, 4, 5]"))).out
    rows = [line.split()[:4] for line in after.splitlines()[:9]]
    assert [line.split()[:4] for line in later.splitlines()[:9]] == rows
