"""`ev asr`: a short run on digits as a user makes it, all that is drawn from it, and mistakes."""

import json
import re

import pyarrow.parquet as pq
import pytest

SMALL = (
    *("--steps", "24", "--every", "6", "--batch-size", "40", "--per-class", "8", "--embedding-dim", "16"),
    *("--hidden", "8", "--test-every", "2"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of four periods."""
    from escapevelocity.cli import main

    out = tmp_path_factory.mktemp("asr")
    assert main(["asr", "train", "--seeds", "1:2", *SMALL, "--out", str(out), "--name", "run"]) == 0
    return out / "run"


def test_a_run_prints_its_retrieval_and_leaves_its_records(trained, ev):
    table = pq.read_table(trained / "records")
    assert table["batch"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert json.loads((trained / "spec.json").read_text())["job"] == "asr"
    answer = ev("asr", "train", *SMALL, "--steps", "6", "--name", "another")
    assert answer.code == 0
    assert answer.out.startswith("digits: 6 steps per seed, 1 seed; in runs/another")
    assert "recall@1 valid. " in answer.out
    assert "finished: 6 of 6 steps" in answer.out


def test_plots_are_six_curves_and_the_distribution_over_time(trained, ev):
    answer = ev("plot", trained, "--out", "plots")
    names = [line.rpartition("/")[2] for line in answer.out.splitlines()]
    assert names == ["health.png", "health.pdf", "distribution.png", "distribution.pdf"]
    assert ev("plot", trained, "--columns", "asr/reward", "--out", "plots").code == 0


def test_a_map_shows_the_test_classes(trained, ev, tmp_path):
    answer = ev("asr", "map", trained, "--method", "pca", "--seed", "2", "--out", "maps")
    assert answer.code == 0
    assert (tmp_path / "maps" / "map.png").read_bytes().startswith(b"\x89PNG")


def test_a_map_says_before_the_work_that_it_has_no_place(trained, refused, tmp_path, monkeypatch):
    from escapevelocity.metric_learning import period

    monkeypatch.setattr(period, "embed", None)  # That would be the work.
    (tmp_path / "maps").write_text("mine")
    line = f"ev: out = 'maps': must be a folder that can be written; {tmp_path / 'maps'} is not"
    assert refused("asr", "map", trained, "--out", "maps") == line


def test_show_list_and_diagnose_know_what_it_is_about(trained, ev):
    shown = ev("show", trained).out
    assert "job asr, task digits" in shown
    assert "learner.batch_size = 40  (preset: 100)" in shown
    assert "digits" in ev("list", trained.parent).out
    assert "not measured" in ev("diagnose", trained).out.lower()


def test_a_finished_run_is_neither_trained_nor_resumed_again(trained, refused):
    said = refused("asr", "train", "--seeds", "1:2", *SMALL, "--out", trained.parent, "--name", "run")
    assert "is finished" in said
    assert "is finished" in refused("resume", trained)


def test_a_branch_goes_on_with_another_start(trained, ev):
    answer = ev(
        "asr", "branch", trained, "--at", "1", "--steps", "30", "--init", "narrow", "--name", "branch"
    )
    assert answer.code == 0, answer.err
    assert "branches from" in answer.err
    assert ev("plot", "runs/branch", trained, "--out", "plots").code == 0


def test_an_edge_out_of_range_is_the_one_that_is_blamed(refused):
    assert "high = 3.0: must be above 0 and at most 2" in refused("asr", "starts", "--high", "3")
    assert "low = 1.5: must be at least 0 and below high = 1.4" in refused("asr", "starts", "--low", "1.5")


def test_starts_show_the_two_readings_of_normal_high_apart(ev):
    answer = ev("asr", "starts", "broad", "pads_normal_high")
    assert answer.code == 0
    broad, high = (next(x for x in answer.out.splitlines() if x.startswith(n)) for n in ("broad", "pads_n"))
    assert "0.750" in broad  # Its mean distance.
    assert high.split()[6] == "25"  # Bins at the floor, as in the design.
    assert "raises to parity" in answer.out


def test_numbers_of_starts_are_whole_on_a_narrow_terminal(ev, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    printed = ev("asr", "starts", "broad", "narrow").out
    assert "…" not in printed
    assert {"3.31", "0.750", "0.314", "1.56", "0.500", "0.053", "150"} <= set(printed.split())


def test_starts_that_need_another_support_are_named_and_left_out_unless_asked_for(ev, refused):
    answer = ev("asr", "starts", "--low", "0.8")
    assert answer.code == 0
    rows = [line.split()[0] for line in answer.out.splitlines() if line.strip()]
    assert "flat" in rows
    assert "broad" not in rows
    assert "narrow" not in rows
    assert re.search(r"another\s+support\s+than\s+0\.8\s+to\s+1\.4:\s+.*broad", " ".join(answer.out.split()))
    assert "mean = 0.75: must be in the support" in refused("asr", "starts", "broad", "--low", "0.8")


def test_a_resnet_without_weights_is_warned_of(ev):
    dry = ("asr", "train", "--data", "cub200", "--dry-run")
    assert "ResNet-50 without --weights begins at random" in ev(*dry).out
    assert "begins at random" not in ev(*dry, "--weights", "resnet50.safetensors").out
    assert "begins at random" not in ev("asr", "train", "--data", "digits", "--dry-run").out


def test_a_study_prints_a_row_for_each_start_and_draws_its_maps(ev, tmp_path):
    options = ("--means", "0.5", "--stds", "0.4", "--seeds", "1", "--steps", "30", "--workers", "1")
    answer = ev("asr", "study", *options)
    assert answer.code == 0, answer.err
    assert [line.split()[1] for line in answer.out.splitlines() if line.startswith("| n")] == [
        "narrow",
        "normal(0.5,0.4)",
    ]
    assert "[Student's 95 % interval]" in answer.out
    assert (tmp_path / "runs/asr-wells-digits/plots/wells.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "digit"), "data = 'digit': must be one of digits, mnist"),
        (("--init", "braod"), "init = 'braod': must be a start such as broad"),
        (("--init", "normal(0.5,0)"), "init"),
        (("--batch-size", "112", "--per-class", "4"), "28 classes in a batch, but there are 5"),
        (("--steps", "5"), "steps = 5: must be at least one decision of every = 30 steps"),
        (("--validation-share", "0"), "validation-share = 0.0: must be above 0"),
        (("--validation-split", "class"), "validation-share = 0.15"),
        (("--data", "omniglot", "--data-dir", "nowhere"), "nowhere"),
        (("--data", "cars196", "--download"), "cars196"),
        (("--weights", "resnet.safetensors", "--backbone", "resnet50"), "resnet.safetensors"),
        (("--reward-weights", "0", "0", "0", "0", "0"), "reward-weights = .*not all 0"),
        (("--seeds", "1", "1"), "1 stands there more than once"),
        (("--milestones", "3000000000"), "milestones"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(refused, arguments, said, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EV_DATA_DIR", raising=False)
    assert re.search(said, refused("asr", "train", *arguments))


def test_a_dry_run_prints_settings_and_segments_and_writes_nothing(ev, tmp_path):
    answer = ev("asr", "train", *SMALL, "--steps", "25", "--dry-run")
    assert answer.code == 0
    assert "periods        4 of 6 training steps per member" in answer.out
    assert "--steps 25 rounded down to 24: 4 whole periods of 6" in answer.out
    assert list(tmp_path.iterdir()) == []
