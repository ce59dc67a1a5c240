"""The lab's benchmark: its contenders compute the same thing, and its tables say what was measured."""

import time

import numpy as np
import pytest
from benchmarks.lab import Measured, Seconds

from benchmarks import _common as common
from benchmarks import _lab_peers as peers
from benchmarks import lab


def test_numpy_written_twice_agrees_with_the_lab():
    starts = peers.starts_of(5)
    ours = peers.lab(starts, 300)
    np.testing.assert_allclose(peers.numpy_usual(starts, 300), ours, rtol=1e-9)
    np.testing.assert_allclose(peers.numpy_fastest(starts, 300), ours, rtol=1e-9)
    assert ours.shape == (10, 5)
    assert abs(ours[:, -1] - starts[:, -1]).max() > 0.1  # something has happened
    np.testing.assert_allclose(ours.sum(axis=0), 1, rtol=1e-12)


def test_a_contender_that_computes_something_else_is_refused_before_it_is_timed(monkeypatch):
    wrong = {"lab": peers.lab, "wrong": lambda starts, steps: peers.lab(starts, steps + 1)}
    monkeypatch.setattr(lab, "CONTENDERS", wrong)
    with pytest.raises(AssertionError, match="Not equal to tolerance rtol=1e-09"):
        lab.require_agreement(peers.starts_of(5))


def test_contenders_take_turns_with_the_sizes_asked_for(monkeypatch):
    calls = []

    def contender(name):
        def run(starts, steps):
            calls.append((name, starts.shape[1], steps))
            return peers.lab(starts, steps)

        return run

    monkeypatch.setattr(lab, "CONTENDERS", {name: contender(name) for name in ("a", "b")})
    monkeypatch.setattr(lab, "ROOMS_STEPS", 1)
    found = lab.measure(5, steps=7, rounds=2, counts=[5])
    timed = [call for call in calls if call[2] == 7]
    assert timed == [("a", 5, 7), ("b", 5, 7)] * 2
    assert {name: len(times) for name, times in found.contenders.items()} == {"a": 2, "b": 2}
    assert [*found.scaling] == [5]
    assert (len(found.scaling[5]), len(found.rooms), len(found.load)) == (2, 2, 2)
    assert all(cost > 0 for cost in [*found.rooms, *found.scaling[5]])


def test_the_report_takes_ratios_within_rounds_and_judges_by_the_usual_numpy():
    found = Measured(
        # On the clock 4, 6 and 5 × the lab; the ratio of the medians would be 400/100 = 4.
        contenders={
            "lab": [Seconds(100e-6, 10e-6), Seconds(50e-6, 10e-6), Seconds(200e-6, 20e-6)],
            "NumPy, usual": [Seconds(400e-6, 70e-6), Seconds(300e-6, 80e-6), Seconds(1000e-6, 180e-6)],
            "NumPy, fastest": [Seconds(200e-6, 20e-6), Seconds(100e-6, 20e-6), Seconds(400e-6, 40e-6)],
        },
        scaling={1: [300e-9] * 3, 100: [10e-9] * 3, 1000: [21e-9] * 3},
        rooms=[2e-4, 1e-4, 3e-4],
        load=[0.5, 1.3],
    )
    lines = lab.report(found, 4096, 100_000).splitlines()
    assert lines[0] == (
        "Medians of 3 interleaved rounds, lowest–highest in brackets; load average before and after: 0.5 and 1.3."
    )
    assert "### Softmax policy gradient, 4,096 starts × 100,000 steps, K = 10, float64" in lines
    usual = next(line for line in lines if line.startswith("| NumPy, usual |"))
    cells = ["400.0 (300.0–1,000.0)", "80.0 (70.0–180.0)", "5.00 (4.00–6.00) ×", "8.00 (7.00–9.00) ×"]
    assert usual == f"| NumPy, usual | {' | '.join(cells)} |"
    assert any(line.endswith("| 2.00 (2.00–2.00) × | 2.00 (2.00–2.00) × |") for line in lines)
    assert "| 1,000 | 21.0 (21.0–21.0) |" in lines
    assert "| usual NumPy / lab, wall time, at least | ≥ 3 × | 5.00 × | yes |" in lines
    assert "| usual NumPy / lab, wall time, aim | ≥ 5 × | 5.00 × | yes |" in lines
    assert "| dearest / cheapest from 100 starts on | flat: ≤ 2 × | 2.10 × | **no** |" in lines
    assert "| four rooms, one exact iteration | < 1 ms | 0.20 ms | yes |" in lines


def test_a_call_is_timed_on_the_clock_and_by_the_work_of_the_processor():
    # Sleeping takes time on the clock and none of the processor's.
    asleep = lab.timed(lambda: time.sleep(0.2), 2)
    assert asleep.wall >= 0.1
    assert asleep.cpu < asleep.wall


def test_a_tiny_run_prints_its_tables_and_writes_them_only_when_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lab, "COUNTS", ())
    monkeypatch.setattr(lab, "ROOMS_STEPS", 1)
    readme, committed = tmp_path / "README.md", common.README.read_bytes()
    empty = "# x\n<!-- lab:start -->\n<!-- lab:end -->\n"
    readme.write_text(empty)
    arguments = ["--starts", "5", "--steps", "3", "--rounds", "1", "--readme", str(readme)]
    lab.main(arguments)
    assert readme.read_text() == empty
    lab.main([*arguments, "--write"])
    printed = capsys.readouterr().out
    written = readme.read_text().split("<!-- lab:start -->\n\n")[1].split("\n\n<!-- lab:end -->")[0]
    assert written in printed
    assert "| four rooms, one exact iteration |" in written
    assert common.README.read_bytes() == committed
