"""Shared parts of the benchmarks."""

import json

import numpy as np
import pytest
import scipy.stats

from benchmarks import _common as common

CHILD = """
import json, os, pathlib, sys
if json.loads(sys.argv[1])["fail"]:
    raise SystemExit("said why")
pathlib.Path(sys.argv[2]).write_text(json.dumps(dict(os.environ)))
"""


@pytest.fixture
def child(tmp_path):
    """A module that writes its environment as its result, or fails."""
    (tmp_path / "lonely_child.py").write_text(CHILD)
    return "lonely_child", {"PYTHONPATH": str(tmp_path)}


def test_a_child_gets_its_contenders_threads_and_none_of_the_callers(child, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("XLA_FLAGS", "--nonsense")
    module, path = child
    seen = common.run_child(module, {"fail": False}, path)
    assert "OMP_NUM_THREADS" not in seen
    assert "XLA_FLAGS" not in seen
    assert seen["JAX_PLATFORMS"] == "cpu"
    assert (
        common.run_child(module, {"fail": False}, {**path, "OMP_NUM_THREADS": "1"})["OMP_NUM_THREADS"] == "1"
    )


def test_a_childs_failure_shows_what_it_said(child):
    module, path = child
    with pytest.raises(common.ChildFailed, match="ended with 1:\nsaid why"):
        common.run_child(module, {"fail": True}, path)


def test_memory_of_this_process_grows_by_what_is_allocated():
    before = common.process_memory()
    block = np.ones(64 * 2**20, np.uint8)  # 64 MiB, touched
    after = common.process_memory()
    assert block[-1] == 1
    # Less than the block when the allocator had free pages left: half is far beyond that noise.
    assert after["rss"] - before["rss"] > 32
    assert after["peak"] >= after["rss"] > 0


def test_the_section_between_markers_is_replaced_and_nothing_else(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- x:start -->\nold\n<!-- x:end -->\nb\n<!-- y:start -->\nkeep\n<!-- y:end -->\n")
    common.replace_section(path, "x", "new\n")
    expected = "a\n<!-- x:start -->\n\nnew\n\n<!-- x:end -->\nb\n<!-- y:start -->\nkeep\n<!-- y:end -->\n"
    assert path.read_text() == expected
    common.replace_section(path, "x", "new\n")
    assert path.read_text() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- x:start -->",
        "<!-- x:end --><!-- x:start -->",
        "<!-- x:start --><!-- x:start --><!-- x:end -->",
    ],
)
def test_a_readme_without_its_markers_is_refused_and_left_alone(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(
        ValueError, match="must hold <!-- x:start --> and, after it, <!-- x:end -->, once each"
    ):
        common.replace_section(path, "x", "new")
    assert path.read_text() == text


def test_the_readme_of_the_benchmarks_has_the_markers_of_both_scripts():
    text = common.README.read_text()
    for name in ("speed", "returns"):
        assert text.count(f"<!-- {name}:start -->") == text.count(f"<!-- {name}:end -->") == 1


def test_the_bootstrap_interval_agrees_with_scipy(rng):
    values = rng.normal(size=20)
    low, high = common.interval(common.bootstrap_means(values, np.random.default_rng(1)))
    reference = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    # A 2.5 % quantile of 10,000 draws has a standard error of sqrt(p(1 − p)/n)/density = 0.0267 σ for a normal
    # (density 0.0584/σ at −1.96 σ); two of them differ by less than 5 · √2 · 0.0267 σ, σ = std/√20.
    tolerance = 5 * 2**0.5 * 0.0267 * values.std() / 20**0.5
    assert abs(low - reference.low) < tolerance
    assert abs(high - reference.high) < tolerance


def test_the_bootstrap_resamples_seeds_and_keeps_the_other_axes_together():
    values = np.array([[0.0, 10.0], [1.0, 11.0]])
    samples = common.bootstrap_means(values, np.random.default_rng(0), resamples=500)
    assert samples.shape == (500, 2)
    assert set(samples[:, 0]) == {0.0, 0.5, 1.0}
    np.testing.assert_array_equal(samples[:, 1] - samples[:, 0], 10.0)


def test_a_table_is_markdown_with_numbers_to_the_right():
    assert common.table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "result.json"
    common.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        common.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["result.json"]


def test_the_machine_is_described_with_versions_and_command(monkeypatch):
    monkeypatch.setattr("sys.argv", [str(common.ROOT / "benchmarks" / "speed.py"), "--quick"])
    found = common.machine()
    assert found["versions"]["numpy"] == np.__version__
    line = common.machine_line(found)
    assert "`python -m benchmarks.speed --quick`" in line
    assert f"numpy {np.__version__}" in line
    assert found["date"] in line
