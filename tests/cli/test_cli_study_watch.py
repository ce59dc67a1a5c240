"""`ev study watch` on a store without a terminal, and its mistakes."""

from pathlib import Path

from test_cli_study_history import make_runs


def test_a_store_is_told_in_plain_lines_without_a_terminal(ev, tmp_path):
    make_runs(Path("runs"))
    for options in ((), ("--once",)):
        answer = ev("study", "watch", "runs", *options)
        assert answer.code == 0, answer
        lines = answer.out.splitlines()
        assert lines[:2] == ["runs: 2 finished", "all runs are finished"]
        assert sorted(line.partition(": ")[0] for line in lines[2:]) == [
            "finished     rows=1",
            "finished     rows=2",
        ]


def test_a_study_that_has_not_begun_is_told_to_be_missing(ev, tmp_path):
    Path("small.toml").write_text(
        'name = "small"\nseeds = [1, 2]\n[base]\ntask = "Hopper-v4"\n[axes]\nepochs = [1, 2, 3]\n'
    )
    Path("store").mkdir()
    answer = ev("study", "watch", "small.toml", "--store", "store", "--once")
    assert answer.out.splitlines() == [
        "small: 3 missing",
        "nothing is running; `ev study run` goes on with what is left",
    ]


def test_mistakes_are_one_line(refused):
    assert "nowhere" in refused("study", "watch", "nowhere")
    assert "every = 0.0: must be above 0" in refused("study", "watch", ".", "--every", "0")
    assert "every = inf: must be above 0 and at most" in refused("study", "watch", ".", "--every", "inf")
    assert "store = 'x': must be left out" in refused("study", "watch", ".", "--store", "x")
