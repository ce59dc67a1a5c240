"""`ev list`, `ev show` and `ev plot`: what they print about runs whose numbers are known."""

import dataclasses
import io
import json
import re

import pytest
from rich.console import Console
from scripted_runs import BATCH, make_row, make_spec

from escapevelocity.cli import list_runs, plot, show
from escapevelocity.errors import UserError
from escapevelocity.report.overview import run_page, runs_table
from escapevelocity.report.settings import settings_changed
from escapevelocity.runs import checkpoint, open_run, whole_records


def text_of(renderable):
    console = Console(file=io.StringIO(), width=160, record=True, _environ={})
    console.print(renderable)
    return console.export_text()


def line_of(text, first):
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


@pytest.fixture
def run(run_of):
    rows = [
        make_row(
            s,
            b,
            perf__return_mean=float(s),
            health__actor__feature_rank_pca=3.0 if s > 1 and b == 1 else 30.0,
        )
        for b in range(2)
        for s in (1, 2, 3)
    ]
    return run_of(rows, name="mine")


def test_the_list_has_a_line_for_each_run_with_last_return_and_marks(run, tmp_path):
    found = line_of(text_of(runs_table(tmp_path)), "mine")
    assert found[1:5] == ["Hopper-v4", "finished", "3", "100%"]
    assert found[6:] == [
        "2",
        "health/actor/feature_rank_pca",
        "3",
    ]  # the median return; the rank of seeds 2 and 3


def test_the_list_speed_counts_all_members(run, tmp_path):
    speed = float(line_of(text_of(runs_table(tmp_path)), "mine")[5].replace(",", ""))
    # Two significant digits are shown at least.
    assert speed == pytest.approx(3 * 2 * BATCH / run.status.wall_time, rel=0.05)


def test_a_damaged_run_is_listed_with_what_is_wrong(run, tmp_path):
    (run.path / "spec.json").write_text("{")
    text = " ".join(text_of(runs_table(tmp_path)).split())
    assert "mine – damaged" in text
    assert "is not valid JSON" in text


def test_damaged_records_do_not_hide_the_other_runs(run, run_of, tmp_path):
    run_of([make_row()], name="other")
    next((run.path / "records").glob("*.parquet")).write_bytes(b"nothing")
    text = text_of(runs_table(tmp_path))
    assert line_of(text, "other")[6] == "100"
    assert line_of(text, "mine")[6] == "–"


def spec_with(**changes):
    def change(path):
        document = json.loads((path / "spec.json").read_text())
        document["spec"].update(changes)
        (path / "spec.json").write_text(json.dumps(document))

    return change


def begun_at(**parent):
    def change(path):
        for number in checkpoint.numbers(path / "checkpoints"):
            meta = checkpoint.load_meta(path / "checkpoints", number)
            meta["lineage"]["parent"] = parent
            arrays = checkpoint.load_arrays(path / "checkpoints", number)
            checkpoint.save_arrays(path / "checkpoints", number, arrays, meta["step"], meta)

    return change


def failed_because(why):
    def change(path):
        status = json.loads((path / "status.json").read_text())
        (path / "status.json").write_text(json.dumps(status | {"state": "failed", "why": why}))

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (spec_with(seeds=5), "damaged"),
        (spec_with(network={"head": "tanh_normal", "hidden": ["x"]}), "damaged"),
        (begun_at(path="."), "parent.spec_hash is missing"),
        (begun_at(path=".", spec_hash="x", checkpoint=1, step=0, sha256="x"), "from"),
        (failed_because("\x1b]0;owned\x07\x1b[2J"), "failed"),
    ],
)
def test_an_odd_folder_does_not_hide_the_others_nor_reach_the_terminal(run_of, tmp_path, change, told):
    odd = run_of([make_row()], name="odd")
    run_of([make_row()], name="sound")
    change(odd.path)
    console = Console(file=io.StringIO(), width=200, force_terminal=True, _environ={})
    console.print(runs_table(tmp_path))
    if told == "failed":
        console.print(run_page(odd.path))
    written = console.file.getvalue()
    text = re.sub(r"\x1b\[[\d;]*m", "", written)  # Rich's own colours.
    assert line_of(text, "sound")[6] == "100"
    assert told in text
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize(
    "settings", [{"seeds": 5}, {"network": {"head": "tanh_normal", "hidden": ["x"]}}], ids=["seeds", "layers"]
)
def test_settings_of_an_odd_shape_are_refused_with_the_run_and_what_is_wrong(run_of, settings):
    odd = run_of([make_row()], name="odd")
    spec_with(**settings)(odd.path)
    with pytest.raises(UserError, match=r"odd cannot be read: \w+Error: "):
        run_page(odd.path)


def test_a_branch_that_is_its_own_parent_has_an_end(run_of):
    odd = run_of([make_row()], name="odd")
    begun_at(path=".", spec_hash=odd.spec_hash, checkpoint=1, step=0, sha256="x")(odd.path)
    found = open_run(odd.path)
    _, lines = whole_records(odd.path, found.parent)
    assert "more than 20 branches lie between" in lines[0]


def test_an_empty_folder_says_how_to_make_a_run(tmp_path):
    assert f"no runs below {tmp_path}; `ev train" in text_of(runs_table(tmp_path)).replace("\n", "")
    with pytest.raises(UserError, match="nowhere is not a folder"):
        runs_table(tmp_path / "nowhere")


def test_settings_are_shown_where_they_differ_from_the_preset(run_of):
    optimizer = dataclasses.replace(make_spec().optimizer, learning_rate=0.01, epochs=20)
    run = run_of([make_row(5, 0)], optimizer=optimizer)
    assert settings_changed(run) == {
        "optimizer.learning_rate": (0.01, 3e-4),
        "optimizer.epochs": (20, 10),
        "steps": (BATCH, 5_000_000),
    }
    text = text_of(run_page(run))
    assert "optimizer.learning_rate = 0.01  (preset: 0.0003)" in text
    assert "seeds 5" in text
    assert "job ppo, task Hopper-v4, preset mujoco" in text


def test_the_page_has_status_values_with_marks_and_ranges_and_checkpoints(run):
    text = text_of(run_page(run))
    assert f"{2 * BATCH:,} of {2 * BATCH:,} steps per seed" in text
    assert line_of(text, "health/actor/feature_rank_pca")[1:6] == ["30", "3!", "3!", "≥", "min(10,"]
    assert line_of(text, "perf/return_mean")[1:4] == ["1", "2", "3"]
    assert f"0 (0 steps), 1 ({2 * BATCH:,} steps)" in text
    assert "numpy " in text  # provenance
    assert "faults" not in text


def test_the_page_tells_the_faults(run_of):
    fault = "seed 1, batch 1: non-finite loss in minibatch 3"
    text = text_of(run_page(run_of([make_row(1, 0), make_row(1, 1, fault=fault)])))
    assert "faults" in text
    assert fault in text


def test_the_page_shows_the_last_measurement_where_the_last_batch_had_none(run_of):
    last = {k: v for k, v in make_row(1, 1, perf__return_mean=float("nan")).items() if k[:6] != "health"}
    text = text_of(run_page(run_of([make_row(1, 0), last])))
    assert line_of(text, "health/actor/dead_neurons")[1] == "2"
    assert line_of(text, "perf/return_mean")[1] == "100"


def test_a_run_without_records_and_with_a_lost_provenance_still_has_a_page(run_of):
    run = run_of([])
    (run.path / "provenance.json").unlink()
    text = text_of(run_page(run))
    assert "no records yet" in text
    assert "provenance.json is missing or damaged" in text


def test_the_commands_print_and_draw(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert list_runs.main([str(tmp_path)]) == 0
    assert "mine" in capsys.readouterr().out
    assert show.main([str(run.path)]) == 0
    assert "last values" in capsys.readouterr().out
    assert plot.main([str(run.path)]) == 0
    expected = [run.path / "plots" / name for name in ("health.png", "health.pdf")]
    assert capsys.readouterr().out.split() == [str(path) for path in expected]
    assert plot.main([str(run.path), "--columns", "trust/kl", "--out", str(tmp_path / "o")]) == 0
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["columns.pdf", "columns.png"]
    assert all(path.exists() for path in expected)


def test_a_value_after_the_update_is_held_to_where_the_run_began_after_it(run_of):
    """CartPole begins with a rank of 2 or 3: half of the start is the bound there, before the update and after."""
    ranks = {"health__actor__feature_rank_pca": 3.0, "health__actor__feature_rank_pca_after": 3.0}
    text = text_of(run_page(run_of([make_row(1, 0, **ranks), make_row(1, 1, **ranks)])))
    assert line_of(text, "health/actor/feature_rank_pca")[1] == "3"
    assert line_of(text, "health/actor/feature_rank_pca_after")[1] == "3"


def test_a_kl_that_rounding_made_negative_is_no_illness(run_of):
    text = text_of(run_page(run_of([make_row(1, 0, trust__kl=-4.1e-10)])))
    assert line_of(text, "trust/kl")[1] == "-4.1e-10"


@pytest.mark.parametrize(("width", "seeds", "left"), [(160, 5, 1), (108, 5, 1), (80, 2, 4), (40, 1, 5)])
def test_a_narrow_page_says_how_many_seeds_it_has_no_room_for(run_of, width, seeds, left):
    text = text_of(run_page(run_of([make_row(seed, 0) for seed in range(1, 7)]), width))
    (header,) = (line for line in text.splitlines() if line.startswith("metric"))
    assert header.count("seed") == seeds
    assert f"… and {left} more seeds" in text


@pytest.mark.parametrize("width", [60, 80])
def test_a_narrow_list_shows_names_and_numbers_whole(run_of, tmp_path, width):
    names = ["CartPole-v1-0c2f1a2b3c", "CartPole-v1-0c2f1a2b3d"]
    for name in names:
        row = make_row(health__actor__dead_neurons=90.0, perf__return_mean=-1234.0)
        run_of([row], name=name)
    console = Console(file=io.StringIO(), width=width, _environ={})
    console.print(runs_table(tmp_path))
    lines = console.file.getvalue().splitlines()
    assert [
        line.split()[0] for line in lines if line.startswith("Cart")
    ] == names  # In one piece, to be copied.
    assert console.file.getvalue().count("-1,234") == 2
    assert "…" not in console.file.getvalue()


def test_a_figure_stays_in_its_folder(run, tmp_path):
    for name in ("../z", "", ".hidden", "a\nb", "x" * 201):
        for columns in ((), ("--columns", "trust/kl")):
            with pytest.raises(UserError, match=r"^name = .*: must be the name of one file, without slashes"):
                plot.main([str(run.path), "--out", str(tmp_path / "o"), "--name", name, *columns])
    assert not (tmp_path / "o").exists()
    assert not list(tmp_path.glob("z.*"))


def test_mistakes_in_the_commands_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="is not a folder; give a run's folder"):
        show.main([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match=r"run = \(\): must be one or more runs' folders"):
        plot.main([])
    with pytest.raises(UserError, match="is not a folder"):
        list_runs.main([str(tmp_path / "nowhere")])
