"""The interop benchmark: its ratios by hand, its order, and a run of the real thing."""

import pytest

from benchmarks import _common as common
from benchmarks import _interop_run, interop


def pair(without, with_health, health=1.0):
    return {
        "without": {"wall_s": without, "cpu_s": 2 * without},
        "with": {"wall_s": with_health, "cpu_s": 3 * without, "health_s": health},
    }


def test_ratios_are_taken_within_a_round():
    assert interop.ratios([pair(10.0, 11.0), pair(20.0, 21.0)], "wall_s") == [1.1, 1.05]


def test_the_table_by_hand():
    text = interop.report({"Hopper-v4": [pair(10.0, 10.4), pair(20.0, 21.0), pair(10.0, 12.0, health=0.6)]})
    line = "| Hopper-v4 | 10.0 | 12.0 | 1.050 (1.040–1.200) | 1.500 (1.500–1.500) | 5.0% |"
    assert line in text
    assert "Every median is under 1.10 ×." in text


def test_a_task_over_the_limit_is_named():
    text = interop.report({"A": [pair(10.0, 10.1)], "B": [pair(10.0, 11.0)]})
    assert "**Not under 1.10 ×: B.**" in text


def test_the_order_changes_from_round_to_round_and_the_section_is_written(monkeypatch, tmp_path, capsys):
    order = []

    def run_child(module, job, variables):
        order.append((job["task"], job["health"]))
        return {"wall_s": 2.0, "cpu_s": 1.0, "health_s": 0.1, "rows": job["batches"]}

    monkeypatch.setattr(common, "run_child", run_child)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- interop:start -->\nold\n<!-- interop:end -->\n")
    interop.main(["--rounds", "2", "--batches", "1", "--tasks", "X", "--write", "--readme", str(readme)])
    assert order == [("X", False), ("X", True), ("X", True), ("X", False)]
    text = readme.read_text()
    assert "| X | 2.0 | 2.0 | 1.000 (1.000–1.000) | 1.000 (1.000–1.000) | 5.0% |" in text
    assert "old" not in text
    assert "Every median is under" in capsys.readouterr().out


def test_without_write_the_readme_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(interop, "run_rounds", lambda *_: {"X": [pair(1.0, 1.0)]})
    readme = tmp_path / "README.md"
    interop.main(["--readme", str(readme)])
    assert not readme.exists()


def test_the_committed_section_has_its_markers():
    text = common.README.read_text(encoding="utf-8")
    assert text.count("<!-- interop:start -->") == text.count("<!-- interop:end -->") == 1


@pytest.mark.slow
def test_a_run_measures_every_batch_with_health_and_none_without():
    pytest.importorskip("stable_baselines3")
    found = [_interop_run.main({"task": "CartPole-v1", "batches": 1, "health": x}) for x in (False, True)]
    assert [one["rows"] for one in found] == [0, 1]
    assert found[0]["health_s"] == 0 < found[1]["health_s"] < found[1]["wall_s"]
