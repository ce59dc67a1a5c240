"""The report page in a real Chromium: it draws, explains, switches themes, prints, and keeps nobody out."""

import os

import pytest

from dashboard_stores import HOSTILE, IMAGE, write_run
from escapevelocity.report.page import render
from escapevelocity.study.report_page import runs_page
from escapevelocity.study.report_study import gathered, study_page

PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module", autouse=True)
def no_fsync():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Addresses of pages: of a sick run with a hostile name, of two runs, and of a study."""
    root = tmp_path_factory.mktemp("pages")
    store = root / "store"
    sound = write_run(store / "sound", batches=250, seeds=(1, 2, 3))
    sick = write_run(store / HOSTILE.replace("/", "\u2215"), dead=60.0, state="failed", why=IMAGE, epochs=20)

    def advice(run, diagnosis):
        return [("pfo", f"ev branch {run.path.name}"), ("anneal", f"ev train {run.path.name}")]

    written = {
        "one": runs_page([sick], advice, "0"),
        "two": runs_page([sound, sick], advice, "0"),
        "study": study_page(gathered(str(store)), advice, "0"),
    }
    addresses = {}
    for name, page in written.items():
        file = root / f"{name}.html"
        file.write_text(render(page), encoding="utf-8")
        addresses[name] = file.as_uri()
    return addresses


def drawn_ids(page):
    return page.evaluate("() => [...evCharts.drawn.keys()].map((element) => element.id)")


def test_the_verdict_comes_first_metrics_are_explained_and_a_hostile_name_does_no_harm(open_page, pages):
    page = open_page(pages["one"])
    assert page.locator("h1").count() == 1
    assert page.locator("h1").inner_text() == HOSTILE.replace("/", "\u2215")
    answer = page.locator(".answer")
    assert answer.inner_text() == "✗ No: the representation has collapsed"
    assert answer.bounding_box()["y"] < 400  # Seen without scrolling.
    assert page.get_by_text("60 of 64 neurons dead").first.is_visible()
    assert IMAGE in page.locator("dd", has_text="The run is failed").inner_text()
    figure = page.locator("figure", has_text="Actor dead neurons")
    assert "Formula" in figure.locator("abbr").get_attribute("title")
    figure.locator("summary").click()
    assert figure.get_by_text("Healthy: ≤ 0.5·D").is_visible()
    assert page.evaluate("() => window.hacked === undefined")


def test_a_link_to_a_folded_section_unfolds_it(open_page, pages):
    page = open_page(pages["one"])
    assert page.locator("#values table").is_hidden()
    page.click("nav a:text-is('Every metric')")
    page.locator("#values table").wait_for(state="visible")


def test_charts_are_drawn_as_they_come_into_view_and_all_of_them_on_paper(open_page, pages):
    page = open_page(pages["two"], color_scheme="dark")
    page.wait_for_function("() => evCharts.drawn.size > 0")
    total = page.locator(".chart").count()
    assert len(drawn_ids(page)) < total
    seen = page.evaluate(
        """async () => {
            dispatchEvent(new Event("beforeprint"));
            const during = { theme: document.documentElement.dataset.theme,
                             tries: document.querySelectorAll(".verdict details:not([open])").length,
                             folded: document.querySelectorAll("details.part:not([open])").length > 0 };
            await new Promise((done) => setTimeout(done, 0));
            during.waiting = [...document.querySelectorAll(".chart")].filter(
                (one) => !one.querySelector(".main-svg") && !one.classList.contains("unmeasured")).length;
            dispatchEvent(new Event("afterprint"));
            return { ...during, after: document.documentElement.dataset.theme ?? "system" };
        }"""
    )
    # What to try is unfolded; the long tables are not, unless somebody has opened them.
    assert seen == {"theme": "light", "tries": 0, "folded": True, "waiting": 0, "after": "system"}
    assert page.locator(".verdict details:not([open])").count() > 0
    assert page.locator(".chart:not(.unmeasured) .main-svg").count() > 0
    # Those that were not measured say so instead.
    assert len(drawn_ids(page)) + page.locator(".chart.unmeasured").count() == total
    assert page.locator("#chart-perf-return_mean .scatterlayer .trace").count() > 0
    assert page.locator("#chart-health-actor-dead_neurons .annotation").text_content() == "dead neurons"


def test_mouse_and_keyboard_are_told_a_curve_s_numbers(open_page, pages, drawn):
    page = open_page(pages["one"])
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the verdict"
    drawn(page)
    chart = page.locator("#chart-perf-return_mean")
    chart.scroll_into_view_if_needed()
    chart.locator(".nsewdrag").hover()
    page.wait_for_selector("#chart-perf-return_mean .hoverlayer .legend")
    assert "mean : 239 [" in page.locator("#chart-perf-return_mean .hoverlayer").text_content()
    page.locator("#chart-perf-return_mean").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.getElementById('ev-live')?.textContent.match(/: mean [\\d.]+$/)")
    page.locator("[data-copy]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => ['Copied', 'Selected'].includes(document.querySelector('[data-copy]').textContent)"
    )


def test_runs_can_be_hidden_seeds_shown_as_recorded_and_the_theme_changed(open_page, pages, drawn):
    page = open_page(pages["two"], color_scheme="dark")
    drawn(page)
    traces = "#chart-perf-return_mean .scatterlayer .trace"
    before = page.locator(traces).count()
    page.locator("[data-show='1']").first.uncheck()
    page.wait_for_function(f"() => document.querySelectorAll('{traces}').length < {before}")
    page.locator("[data-raw]").first.check()
    raw = "() => document.getElementById('chart-perf-return_mean').data.some((one) => one.x.length > 240)"
    page.wait_for_function(raw)
    ground = "() => getComputedStyle(document.body).backgroundColor"
    line = "() => document.getElementById('chart-perf-return_mean').data.at(-1).line.color"
    dark, dark_line = page.evaluate(ground), page.evaluate(line)
    page.get_by_role("button", name="Theme").click()  # system → light
    page.wait_for_function(f"() => ({line})() !== '{dark_line}'")
    assert page.evaluate(ground) != dark
    assert page.get_by_role("button", name="Theme: light").is_visible()


@pytest.mark.parametrize(("name", "scheme"), [("two", "light"), ("study", "dark")])
def test_pages_keep_nobody_out_and_fit_a_phone(open_page, pages, drawn, accessible, name, scheme):
    page = open_page(pages[name], color_scheme=scheme)
    drawn(page)
    # All but the longest table, which is like the others and would take axe seconds.
    page.evaluate(
        "() => { for (const one of document.querySelectorAll('details:not(#values)')) one.open = true; }"
    )
    accessible(page)
    page.set_viewport_size(PHONE)
    page.wait_for_function(f"() => document.documentElement.scrollWidth <= {PHONE['width']}")
    if name == "study":
        page.locator("#cells a").first.click()
        page.wait_for_function("() => location.hash.startsWith('#group-')")
        assert page.locator("#group-0 .main-svg").count() > 0


VIEW = "{ hidden: new Set(hidden), raw: false, printing: false, height: 270 }"


@pytest.fixture
def figure_of(open_page, pages):
    """What plotly is given for a chart: `figure_of(series=[…], hidden=[…], log=True)`."""
    page = open_page(pages["one"])

    def make(series=(), hidden=(), **changes):
        lines = [
            {"name": "a", "group": 0, "low": None, "high": None, "thin": False, "raw": None} | given
            for given in series
        ]
        chart = {"id": "x", "title": "", "unit": "", "x_title": "", "help": "", "summary": "", "healthy": None,
                 "log": True, "legend": True, "series": lines, "marks": [], "heat": None} | changes  # fmt: skip
        return page.evaluate(
            f"([chart, hidden]) => JSON.parse(JSON.stringify(evFigure.figure(chart, {VIEW})))",
            [chart, list(hidden)],
        )

    return make


def test_nothing_but_zero_is_drawn_on_a_linear_axis(figure_of):
    figure = figure_of([{"x": [1, 2, 3], "y": [0, 0, 0]}])
    assert figure["layout"]["yaxis"]["type"] == "linear"
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < 0 < high
    assert figure["data"][0]["y"] == [0, 0, 0]
    assert figure_of([{"x": [1, 2], "y": [0, 2]}])["layout"]["yaxis"]["type"] == "log"


def test_a_band_that_reaches_zero_goes_to_the_foot_of_a_logarithmic_chart(figure_of):
    series = {"x": [1, 2, 3], "y": [1, 0.01, 0.02], "low": [0.5, 0, 0], "high": [2, 1, 1]}
    band, line = figure_of([series])["data"]
    # Along the upper end and back along the lower one; 0.01 is the least positive value.
    assert band["y"][:6] == [2, 1, 1, 0.01, 0.01, 0.5]
    assert line["customdata"][1] == "[0, 1]"  # What is told is what is.


def test_a_hidden_run_does_not_set_the_axis(figure_of):
    series = [{"x": [1, 2], "y": [1, 2]}, {"x": [1, 2], "y": [1000, 9000], "group": 1}]
    both, one = (figure_of(series, hidden, log=False)["layout"]["yaxis"]["range"] for hidden in ((), (1,)))
    assert both[1] > 9000
    assert one == pytest.approx([0.95, 2.1])  # 5 % below and 10 % above.


def test_a_share_of_zero_is_told_as_zero(figure_of):
    heat = {"x": [1, 2], "y": [0.5], "z": [[0, 0.25]]}
    (trace,) = figure_of(heat=heat, log=False)["data"]
    assert trace["customdata"] == [[0, 0.25]]
    assert "%{customdata" in trace["hovertemplate"]
    assert "%{z" not in trace["hovertemplate"]


def test_a_hidden_run_is_not_read_out(open_page, pages, drawn):
    page = open_page(pages["two"])
    drawn(page)
    chart = page.locator("#chart-perf-return_mean")
    told = "(text) => document.getElementById('ev-live')?.textContent.includes(text)"
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(told, arg="sound")
    page.locator("[data-show='0']").first.uncheck()
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => !document.getElementById('ev-live').textContent.includes('sound')")
    assert "script" in page.inner_text("#ev-live")  # The other one's hostile name.
