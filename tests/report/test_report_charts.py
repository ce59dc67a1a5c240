"""Charts of the web pages: thinning that loses no extreme, JSON that no text can break, colours that can be seen."""

import json
import math
import re
from importlib.resources import files

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escapevelocity.errors import UserError
from escapevelocity.health import METRICS
from escapevelocity.report._panels import ASR_PANELS, PANELS
from escapevelocity.report.charts import (
    Chart,
    HeatMap,
    Line,
    Mark,
    chart_json,
    chart_summary,
    embedded,
    healthy_range,
    metric_help,
    thin,
    thinned_line,
)

ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)


@given(values=arrays.arrays(np.float64, st.integers(1, 400), elements=ANY), points=st.integers(2, 60))
def test_thinning_keeps_the_ends_and_the_extremes_and_is_short(values, points):
    kept = thin(values, points=points)
    assert kept[0] == 0
    assert kept[-1] == values.size - 1
    assert (np.diff(kept) > 0).all()
    assert kept.size <= max(values.size if values.size <= points else 0, points + 2)
    finite = values[np.isfinite(values)]
    if finite.size:
        assert values[kept][np.isfinite(values[kept])].min() == finite.min()
        assert values[kept][np.isfinite(values[kept])].max() == finite.max()


@given(peak=st.integers(0, 9_999), low=st.booleans())
def test_a_single_point_that_sticks_out_is_kept_wherever_it_is(peak, low):
    values = np.sin(np.arange(10_000) / 50)
    values[peak] = -3.0 if low else 3.0
    assert peak in thin(values, points=300)


def test_every_stretch_keeps_its_own_peak_and_dip():
    values = np.random.default_rng(0).normal(size=1000)
    kept = set(thin(values, points=20).tolist())
    for start in range(0, 1000, 100):
        stretch = values[start : start + 100]
        assert {start + int(stretch.argmin()), start + int(stretch.argmax())} <= kept


def test_a_gap_stays_a_gap():
    values = np.zeros(1000)
    values[300:700] = np.nan
    kept = thin(values, points=40)
    inside = kept[(kept >= 300) & (kept < 700)]
    assert inside.size > 0
    assert np.isnan(values[inside]).all()


def test_a_band_keeps_its_own_extremes_and_stays_on_its_line():
    x = np.arange(1000.0)
    y, low, high = np.zeros(1000), -np.ones(1000), np.ones(1000)
    low[123], high[777] = -9.0, 9.0
    line = thinned_line(Line("a", 0, x, y, low, high), points=20)
    assert line.low is not None
    assert line.high is not None
    assert dict(zip(line.x, line.low, strict=True))[123.0] == -9.0
    assert dict(zip(line.x, line.high, strict=True))[777.0] == 9.0


def test_fewer_than_two_points_are_refused():
    with pytest.raises(UserError, match="points = 1: must be at least 2"):
        thin(np.zeros(2), points=1)


def test_numbers_that_are_not_finite_become_null_and_others_keep_five_digits():
    line = Line("a", 3, [1.0, 2048.0, 4999168.0], [math.nan, math.inf, 123456.789], thin=True)
    series = chart_json(Chart("r", "Return", "reward", "help", (line,)))["series"][0]
    assert series["x"] == [1, 2048, 4999168]
    assert series["y"] == [None, None, 123460]
    assert (series["name"], series["group"], series["thin"], series["low"]) == ("a", 3, True, None)


def code_of(name):
    """A script without its comments, which name everything."""
    text = (files("escapevelocity.report") / "web" / name).read_text("utf-8")
    return re.sub(r"(^|\s)//[^\n]*", "", text)


def test_a_chart_has_the_keys_that_the_scripts_read():
    chart = Chart(
        "r", "R", "u", "h", (), (None, 0.02), True, (Mark(5.0, "KL", 1),), heat=HeatMap([1], [2], [[0.5]])
    )
    found = chart_json(chart)
    assert found["healthy"] == [None, 0.02]
    assert found["marks"] == [{"x": 5.0, "label": "KL", "group": 1}]
    assert found["heat"] == {"x": [1], "y": [2], "z": [[0.5]]}
    scripts = "\n".join(map(code_of, ("charts-figure.js", "charts.js", "dashboard-curves.js")))
    for key in found:
        assert re.search(rf"\.{key}\b", scripts), key
    assert set(re.findall(r"\bchart\.(\w+)", scripts)) <= set(found)


@given(text=st.text())
def test_embedded_json_says_the_same_and_cannot_end_its_script(text):
    written = embedded({"name": text + "</script><!--\u2028\u2029&"})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written)["name"] == text + "</script><!--\u2028\u2029&"


def test_embedding_refuses_what_is_no_json():
    with pytest.raises(ValueError, match="Out of range float values"):
        embedded([math.nan])


def test_a_summary_names_lines_marks_and_what_was_not_measured():
    line = Line("sick", 0, [1.0, 2.0], [10.0, 2.0])
    chart = Chart("r", "R", "", "", (line,), marks=(Mark(1024.0, "rank decline"),))
    assert chart_summary(chart) == "sick from 10 to 2, lowest 2, highest 10. Marked: rank decline at 1,024."
    assert chart_summary(Chart("r", "R", "", "", ())) == "Not measured."
    assert chart_summary(Chart("r", "R", "", "", (), heat=HeatMap([], [], []))).startswith("A map")


def test_help_of_every_metric_has_formula_range_and_source():
    for metric in METRICS:
        for column in metric.columns():
            text = metric_help(column)
            for part in (metric.formula, metric.source, column, str(metric.healthy or "no range is known")):
                assert part in text
    assert metric_help("mine/own") == "The column mine/own of the records."


def test_every_drawn_column_is_told_in_plain_words_first():
    for panel in (*PANELS, *ASR_PANELS):
        for column in panel.columns:
            assert not metric_help(column).startswith("Formula"), column


def test_healthy_ranges_are_those_of_the_table():
    assert healthy_range("trust/kl") is not None
    low, high = healthy_range("health/actor/dead_neurons", width=64) or (0, 0)
    assert (low, high) == (None, 32)
    assert healthy_range("health/actor/dead_neurons") is None  # A share of a width that nobody knows.
    assert healthy_range("perf/return_mean") is None
    assert healthy_range("mine/own") is None


def _themes():
    """The tokens of both themes, as (name, {token: colour})."""
    text = (files("escapevelocity.report") / "web" / "base.css").read_text("utf-8")
    blocks = re.findall(r"(:root[^{]*)\{([^}]*--ground[^}]*)\}", text)
    return [
        (name.strip(), dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})\b", body))) for name, body in blocks
    ]


def _contrast(first, second):
    """WCAG 2.2: the ratio of relative luminances."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("name", "tokens"), _themes(), ids=lambda value: str(value)[:40])
def test_text_and_lines_can_be_told_from_their_grounds_in_every_theme(name, tokens):
    for ground in ("ground", "card"):
        for text in ("ink", "soft", "accent", "good", "bad", "unsure"):
            assert _contrast(tokens[text], tokens[ground]) >= 4.5, (text, ground)
        for index in range(8):
            assert _contrast(tokens[f"series-{index}"], tokens[ground]) >= 3, (index, ground)
    for tone in ("good", "bad", "unsure"):
        assert _contrast(tokens[tone], tokens[f"{tone}-ground"]) >= 4.5, tone
    assert _contrast(tokens["on-accent"], tokens["accent"]) >= 4.5


def test_dark_is_the_same_however_it_was_chosen():
    themes = _themes()
    assert len(themes) == 3
    assert themes[1][1] == themes[2][1]
    assert themes[0][1].keys() == themes[1][1].keys()
