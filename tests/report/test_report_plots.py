"""Figures: what is in them, read off the Figure itself, and the files they become."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from scripted_runs import BATCH, make_row, make_spec

from escapevelocity.errors import UserError
from escapevelocity.ppo.config import MonitoringConfig
from escapevelocity.report._panels import PANELS, column_panel
from escapevelocity.report.plots import compose, plot_columns, plot_run

TITLES = [
    "Return",
    "Actor feature rank (PCA)",
    "Critic feature rank (PCA)",
    "Actor pre-activation norm",
    "Actor dead neurons",
    "Ratios outside 1 ± ε",
    "Policy entropy",
    "Policy variance",
]


def panels_of(figure):
    return {axes.get_title(): axes for axes in figure.axes}


def text_of(axes):
    return [text.get_text() for text in axes.texts]


def main_line(axes):
    """The first line that is drawn as a line."""
    return next(line for line in axes.lines if line.get_linestyle() != "None")


@pytest.fixture
def two_seeds(run_of):
    rows = [
        make_row(s, b, perf__return_mean=100.0 * s + b, health__actor__preactivation_norm=10.0 ** (b + s))
        for b in range(3)
        for s in (1, 2)
    ]
    return run_of(rows, batches=1000)


def test_the_figure_has_the_papers_panels_with_units(two_seeds):
    panels = panels_of(compose(two_seeds, PANELS))
    assert list(panels) == TITLES
    assert panels["Return"].get_ylabel() == "episode return"
    assert panels["Actor feature rank (PCA)"].get_ylabel() == "rank (of 64)"
    assert panels["Actor dead neurons"].get_ylabel() == "units (of 64)"
    assert panels["Policy entropy"].get_ylabel() == "nats"
    assert [panels[title].get_xlabel() for title in TITLES[4:]] == ["environment steps"] * 4


def test_the_line_is_the_smoothed_mean_and_the_band_the_smoothed_extremes(two_seeds):
    axes = panels_of(compose(two_seeds, PANELS))["Return"]
    # Means 150, 151, 152; smoothed by hand: 150, 150.05, 0.95·150.05 + 0.05·152 = 150.1475.
    np.testing.assert_allclose(main_line(axes).get_ydata(), [150.0, 150.05, 150.1475], rtol=1e-14)
    np.testing.assert_array_equal(main_line(axes).get_xdata(), [BATCH, 2 * BATCH, 3 * BATCH])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == 100.0
    assert band.max() == pytest.approx(200.1475, rel=1e-14)  # 200, 200.05, 200.1475
    assert axes.get_xlim() == (0.0, 3.0 * BATCH)


def test_norm_ratios_and_variance_are_logarithmic_and_the_rest_is_not(two_seeds):
    panels = panels_of(compose(two_seeds, PANELS))
    log = {title for title, axes in panels.items() if axes.get_yscale() == "log"}
    assert log == {"Actor pre-activation norm", "Ratios outside 1 ± ε", "Policy variance"}
    low, high = panels["Actor pre-activation norm"].get_ylim()
    assert low < 10.0 < high  # the smallest smoothed minimum


def test_the_ratio_panel_marks_one_plus_and_minus_epsilon_of_the_run(run_of):
    objective = make_spec().objective.__class__(clip_epsilon=0.1)
    run = run_of([make_row(1, b) for b in range(3)], objective=objective)
    axes = panels_of(compose(run, PANELS))["Ratios outside 1 ± ε"]
    flat = [float(line.get_ydata()[0]) for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert sorted(flat) == pytest.approx([0.9, 1.0, 1.1])
    assert text_of(axes) == ["above 1 + ε", "below 1 − ε"]
    low, high = axes.get_ylim()
    assert low < 0.7
    assert high > 1.4


@pytest.mark.parametrize("ratios", [(1e280, 0.5), (1e303, 0.5), (2.0, 1e-300)])
def test_enormous_ratios_are_a_finding_and_no_fault(run_of, ratios):
    above, below = ratios
    rows = [make_row(1, b, trust__ratio_above_mean=above, trust__ratio_below_mean=below) for b in range(3)]
    figure = compose(run_of(rows), PANELS)
    figure.canvas.draw()
    assert np.isfinite(panels_of(figure)["Ratios outside 1 ± ε"].get_ylim()).all()


def test_ratios_of_nothing_but_zero_are_drawn_with_their_marks_in_the_panel(run_of):
    rows = [
        make_row(1, b, trust__ratio_above_mean=float("nan"), trust__ratio_below_mean=0.0) for b in range(3)
    ]
    figure = compose(run_of(rows), PANELS)
    figure.canvas.draw()
    axes = panels_of(figure)["Ratios outside 1 ± ε"]
    low, high = axes.get_ylim()
    assert axes.get_yscale() == "linear"
    assert low < 0.0
    assert high > 1.2  # 1 + ε


@pytest.mark.parametrize("value", [0.0, -1.0, 5e-324, float("inf"), float("nan")])
def test_a_run_of_one_odd_number_throughout_is_drawn(run_of, value):
    keys = ("seed", "batch", "env_steps", "fault")
    rows = [make_row(1, b) for b in range(3)]
    rows = [{name: old if name in keys else value for name, old in row.items()} for row in rows]
    figure = compose(run_of(rows), PANELS)
    figure.canvas.draw()
    for axes in panels_of(figure).values():
        assert np.isfinite(axes.get_ylim()).all()


def test_a_run_without_health_says_not_measured(run_of):
    health = ("health", "policy", "trust")
    rows = [{k: v for k, v in make_row(1, b).items() if k.split("/")[0] not in health} for b in range(3)]
    panels = panels_of(compose(run_of(rows, monitoring=MonitoringConfig(health_every=0)), PANELS))
    assert [title for title in TITLES if text_of(panels[title]) == ["not measured"]] == TITLES[1:]


def test_a_column_that_is_always_undefined_says_so(run_of):
    run = run_of([make_row(1, b, perf__return_mean=float("nan")) for b in range(3)])
    assert text_of(panels_of(compose(run, PANELS))["Return"]) == ["undefined throughout"]


def test_gaps_are_not_bridged_and_a_lone_point_between_gaps_is_a_dot(run_of):
    values = [1.0, 1.0, float("nan"), 1.0, float("nan")]
    run = run_of([make_row(1, b, perf__return_mean=v) for b, v in enumerate(values)])
    axes = panels_of(compose(run, PANELS))["Return"]
    np.testing.assert_array_equal(np.isnan(main_line(axes).get_ydata()), np.isnan(values))
    dots = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(dots.get_xdata(), [4 * BATCH])


def test_a_run_of_one_row_is_drawn_as_a_dot(run_of, tmp_path):
    run = run_of([make_row()])
    dots = next(line for line in panels_of(compose(run, PANELS))["Return"].lines if line.get_marker() == "o")
    np.testing.assert_array_equal(dots.get_xydata(), [[BATCH, 100.0]])
    assert plot_run(run, tmp_path / "out")[0].exists()


def test_a_collapsed_policy_with_no_variance_at_all_is_still_drawn(run_of):
    run = run_of([make_row(1, b, policy__variance=0.0) for b in range(3)])
    axes = panels_of(compose(run, PANELS))["Policy variance"]
    assert axes.get_yscale() == "linear"
    np.testing.assert_array_equal(main_line(axes).get_ydata(), np.zeros(3))


def test_a_frozen_seed_gets_a_cross_and_the_caption_says_what_it_is(run_of):
    rows = [make_row(s, b) for b in range(4) for s in (1, 2) if s == 1 or b < 2]
    rows[3]["fault"] = "seed 2, batch 1: non-finite loss"
    run = run_of(rows)
    figure = compose(run, PANELS)
    cross = next(line for line in panels_of(figure)["Return"].lines if line.get_marker() == "x")
    np.testing.assert_array_equal(cross.get_xydata(), [[2 * BATCH, 100.0]])
    assert "× marks a seed that was frozen" in figure.texts[0].get_text()


def test_the_caption_says_how_the_curves_were_smoothed(two_seeds):
    caption = " ".join(compose(two_seeds, PANELS).texts[0].get_text().split())
    assert "Hopper-v4, 2 seeds: mean (line) and min–max (band) over seeds" in caption
    assert "Thinned to 0.1 % of the run" in caption
    assert "α = 0.05 per 0.1 %, not bias-adjusted) on each of mean, min and max over seeds" in caption


def test_several_runs_share_the_panels_each_in_its_colour_with_a_legend(run_of):
    a = run_of([make_row(1, b) for b in range(2)], name="without")
    b = run_of([make_row(1, b, perf__return_mean=7.0) for b in range(4)], name="with-pfo")
    figure = compose([a, b], PANELS)
    axes = panels_of(figure)["Return"]
    lines = [line for line in axes.lines if line.get_linestyle() != "None" and len(line.get_xdata())]
    assert [list(line.get_ydata()) for line in lines] == [[100.0] * 2, [7.0] * 4]
    assert len({line.get_color() for line in lines}) == 2
    assert axes.get_xlim() == (0.0, 4.0 * BATCH)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["without", "with-pfo"]


def test_a_dollar_in_a_name_is_no_formula(run_of, tmp_path):
    runs = [run_of([make_row(1, b) for b in range(2)], name=name) for name in ("cost$5 vs $9", "a$_$b")]
    figure = compose(runs, PANELS)
    texts = figure.legends[0].get_texts()
    assert [text.get_text() for text in texts] == ["cost$5 vs $9", "a$_$b"]
    assert not any(text.get_parse_math() for text in [*texts, *figure.texts])
    for run in runs:
        assert plot_run(run, tmp_path / "out", name="figure")


def test_the_same_run_gives_the_same_bytes_whatever_the_users_matplotlib_settings(two_seeds, tmp_path):
    first = [path.read_bytes() for path in plot_run(two_seeds, tmp_path / "a")]
    before = dict(mpl.rcParams)
    with mpl.rc_context({"lines.linewidth": 9.0, "axes.grid": False, "font.size": 20.0}):
        second = [path.read_bytes() for path in plot_run(two_seeds, tmp_path / "b")]
    assert first == second
    assert first[0].startswith(b"\x89PNG\r\n\x1a\n")
    assert first[1].startswith(b"%PDF-")
    assert dict(mpl.rcParams) == before


def test_any_columns_can_be_drawn_with_their_unit_as_label(two_seeds, tmp_path):
    panels = panels_of(compose(two_seeds, [column_panel("trust/kl"), column_panel("perf/return_mean")]))
    assert list(panels) == ["trust/kl", "perf/return_mean"]
    assert panels["trust/kl"].get_ylabel() == "nats"
    path = plot_columns(two_seeds, ["trust/kl", "perf/return_mean"], tmp_path / "new" / "some.png")
    assert path == tmp_path / "new" / "some.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_pyplot_and_its_global_state_are_never_loaded(two_seeds, tmp_path):
    code = (
        "import sys; from escapevelocity.report import plot_run; assert 'matplotlib' not in sys.modules;"
        f"plot_run({str(two_seeds.path)!r}, {str(tmp_path / 'o')!r});"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_run_without_records_cannot_be_drawn(run_of, tmp_path):
    run = run_of([])
    with pytest.raises(UserError, match=r"has no records to draw; `ev resume .*run` computes them"):
        plot_run(run, tmp_path / "out")
    with pytest.raises(UserError, match="has no records to draw"):
        plot_columns(run, ["trust/kl"], tmp_path / "out.png")
    assert not (tmp_path / "out").exists()


def test_mistakes_are_told_in_one_line_and_leave_no_file(two_seeds, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="format = 'gif': must be one of png, pdf, svg"):
        plot_run(two_seeds, out, fmt=("png", "gif"))
    with pytest.raises(UserError, match="format = '': must be one of png, pdf, svg"):
        plot_columns(two_seeds, ["trust/kl"], out / "noending")
    with pytest.raises(
        UserError, match=r"columns = 'trust/kll': must be a numeric column .* such as trust/kl"
    ):
        plot_columns(two_seeds, ["trust/kll"], out / "a.png")
    with pytest.raises(UserError, match="columns = 'fault': must be a numeric column"):
        plot_columns(two_seeds, ["fault"], out / "a.png")
    with pytest.raises(UserError, match=r"columns = \(\): must be one or more columns"):
        plot_columns(two_seeds, [], out / "a.png")
    with pytest.raises(UserError, match=r"run = \(\): must be one or more runs' folders"):
        plot_run([], out)
    with pytest.raises(UserError, match="nowhere is not a folder; give a run's folder"):
        plot_run(tmp_path / "nowhere", out)
    assert not out.exists()
