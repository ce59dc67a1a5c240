"""The dashboard in a real Chromium: it loads, draws, follows a run, filters, takes no harm, and keeps nobody out."""

import contextlib
import os
import re
import threading
from urllib.parse import quote

import pytest
import uvicorn

from dashboard_stores import BATCH, HOSTILE, add_shard, hostile_store, set_status, write_run
from escapevelocity.report.live_server import address_of, open_socket
from escapevelocity.study.dashboard import Dashboard, make_app
from escapevelocity.study.dashboard_records import Records
from escapevelocity.study.dashboard_worker import answer
from escapevelocity.study.grid import Study
from escapevelocity.study.plan import plan

PHONE = {"width": 360, "height": 740}
LIVE = "() => document.getElementById('fresh').textContent === 'live'"


@contextlib.contextmanager
def served(root):
    """Serve a folder in a thread; gives the address."""
    records = Records(root)
    dashboard = Dashboard(root, lambda path: answer(path, records), every=0.2)
    listening = open_socket("127.0.0.1", 0, 0)
    config = uvicorn.Config(make_app(dashboard), log_level="error", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield address_of(listening)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module", autouse=True)
def no_fsync():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A study with a sound run, a sick one and one that was cut short; and a run beside it."""
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "study" / "sound", epochs=10)
    write_run(root / "study" / "sick", dead=60.0, epochs=20)
    write_run(
        root / "study" / "cut", batches=10, total=30, state="interrupted", why="stopped by SIGINT", epochs=30
    )
    write_run(root / "alone", task="CartPole-v1")
    # A fourth that has not begun; it differs from the others in its epochs alone.
    base = {"task": "Hopper-v4", "steps": 30 * BATCH}
    plan(Study("study", base, {"epochs": (40,)}, seeds=(1, 2)), root / "study")
    return root


@pytest.fixture(scope="module")
def address(root):
    with served(root) as found:
        yield found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    hostile_store(root)
    with served(root) as found:
        yield found


def wait(page, text):
    page.wait_for_function("(text) => document.querySelector('main').textContent.includes(text)", arg=text)


def names(page):
    return page.locator("#runs tbody td.run a").all_inner_texts()


def judged(page):
    page.wait_for_function(
        "() => { const s = document.getElementById('summary').textContent; return s && !s.includes('to come'); }"
    )


def test_the_list_filters_sorts_and_keeps_that_in_its_address(open_page, address):
    page = open_page(address)
    judged(page)
    assert sorted(names(page)) == ["alone", "cut", "sick", "sound"]
    page.keyboard.press("/")
    page.keyboard.type("hopper study")
    assert sorted(names(page)) == ["cut", "sick", "sound"]
    page.select_option("#verdict", "representation collapse")
    assert names(page) == ["sick"]
    assert "1 of 4 runs" in page.inner_text("#summary")
    page.reload()
    judged(page)
    assert names(page) == ["sick"]
    assert page.input_value("#q") == "hopper study"
    page.focus("#q")
    page.keyboard.press("Escape")
    page.click("th[data-key=alarms] button")
    assert names(page)[0] == "sick"
    assert page.get_attribute("th[data-key=alarms]", "aria-sort") == "descending"
    page.click("th[data-key=name] button")
    assert names(page) == ["alone", "cut", "sick", "sound"]
    assert "sort=name" in page.url


def test_the_table_is_gone_through_with_the_keyboard(open_page, address):
    page = open_page(address + "?sort=name")
    judged(page)
    page.focus("#box")
    for key in ("ArrowDown", "ArrowDown", "x", "ArrowDown", "ArrowDown", "x"):
        page.keyboard.press(key)
    assert page.inner_text("#compare") == "Compare 2"
    page.keyboard.press("c")
    page.wait_for_url("**/compare?*")
    wait(page, "Actor dead neurons")
    assert page.locator("#table tbody th a").all_inner_texts() == ["study/cut", "study/sound"]


def test_the_focus_stays_with_its_run_when_the_list_sorts_itself_anew(open_page, tmp_path):
    """The list is by the last change at first, so that what trains comes up: rows change places under the reader."""
    folders = [write_run(tmp_path / name, state="interrupted", why="stopped") for name in ("a", "b", "c")]
    focused = "() => document.activeElement.closest('tr')?.querySelector('td.run a').textContent"
    for moment, folder in enumerate(folders):
        os.utime(folder / "status.json", (1000 - moment, 1000 - moment))
    with served(tmp_path) as address:
        page = open_page(address)
        judged(page)
        assert names(page) == ["a", "b", "c"]
        for one, order in (("b", ["b", "a", "c"]), ("c", ["c", "b", "a"])):
            page.locator(f"td.run a:text-is('{one}')").focus()
            set_status(tmp_path / one, "interrupted", "stopped")
            page.wait_for_function(
                "(order) => [...document.querySelectorAll('td.run a')].map((a) => a.textContent).join() === order",
                arg=",".join(order),
            )
            assert page.evaluate(focused) == one
            assert page.evaluate("() => document.activeElement.tagName") == "A"
        # Its row is pushed down by another's.
        set_status(tmp_path / "a", "interrupted", "stopped again")
        page.wait_for_function("() => document.querySelector('td.run a').textContent === 'a'")
        assert page.evaluate(focused) == "c"
        page.close()


def test_runs_without_a_common_chart_are_told_what_to_do_and_columns_are_offered(open_page, tmp_path):
    write_run(tmp_path / "sick", dead=60.0)
    other = write_run(tmp_path / "other") / "spec.json"
    other.write_text(other.read_text().replace('"job": "ppo"', '"job": "mine"'))
    with served(tmp_path) as address:
        page = open_page(f"{address}compare")
        for name in ("sick", "other"):
            page.wait_for_function(
                "(name) => [...document.querySelectorAll('#names option')].some((o) => o.value === name)",
                arg=name,
            )
            page.fill("#run", name)
            page.keyboard.press("Enter")
        page.wait_for_selector("#columns option[value='trust/kl']", state="attached")
        wait(page, "These runs have no chart in common: add a column.")
        page.fill("#column", "trust/kl")
        page.keyboard.press("Enter")
        page.wait_for_selector(".chart-card")
        assert "no chart in common" not in page.inner_text("#curves")
        page.close()


def test_a_run_is_drawn_and_judged(open_page, drawn, address):
    page = open_page(f"{address}run?run=study/sick")
    wait(page, "Actor dead neurons")
    drawn(page)
    page.wait_for_function("() => document.querySelectorAll('.chart .trace').length > 8")
    wait(page, "60 of 64 neurons dead")
    assert "the representation has collapsed" in page.inner_text("#verdict").lower()
    assert page.locator("#signs tbody tr").all_inner_texts()[0].startswith("1\t2,048")
    page.fill("#column", "trust/kl")
    page.keyboard.press("Enter")
    wait(page, "trust/kl")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.chart-card h3')].some((h) => h.textContent === 'trust/kl')"
    )
    assert "column=trust" in page.url
    page.click("#added button")
    page.wait_for_function(
        "() => ![...document.querySelectorAll('.chart-card h3')].some((h) => h.textContent === 'trust/kl')"
    )


def test_a_shard_that_is_added_moves_the_curves_while_the_page_is_open(open_page, drawn, tmp_path):
    run = write_run(tmp_path / "runs" / "growing", batches=10, total=30, state="interrupted", why="stopped")
    last = """() => {
        const { data } = document.querySelector(".chart");
        return data ? Math.max(...data.flatMap((trace) => trace.x)) : 0;
    }"""
    with served(tmp_path / "runs") as address:
        page = open_page(f"{address}run?run=growing")
        wait(page, "Return")
        drawn(page)
        page.wait_for_function(f"() => ({last})() === {10 * BATCH}")
        add_shard(run, 1, dead=60.0)
        set_status(run, "interrupted", "stopped", batches=20)
        page.wait_for_function(f"() => ({last})() === {20 * BATCH}")
        wait(page, "66 %")
        listed = open_page(address)
        judged(listed)
        write_run(tmp_path / "runs" / "new")
        listed.wait_for_function("() => document.querySelectorAll('#runs tbody tr').length === 2")
        for one in (page, listed):  # Before the server goes, which they would complain of.
            one.close()


def test_a_study_is_a_grid_whose_cells_lead_to_their_runs(open_page, address):
    page = open_page(f"{address}studies")
    wait(page, "study of 4 runs")
    page.click("#stores a:text-is('study')")
    wait(page, "Cells of the grid")
    heads = page.locator("#grid thead th").all_inner_texts()
    assert heads[:5] == ["epochs", "seeds", "finished", "interrupted", "planned"]
    page.wait_for_function(
        "() => document.querySelector('#grid').textContent.includes('representation collapse')"
    )
    assert page.locator("#grid tbody tr:nth-child(4) a").count() == 0  # Nothing to open there yet.
    page.click("#grid tbody tr:nth-child(2) a")
    page.wait_for_url("**/run?run=study%2Fsick")


def test_alarms_are_listed_and_filtered(open_page, address):
    page = open_page(f"{address}alarms")
    wait(page, "1 alarm in 1 run")
    assert page.locator("#alarms tbody td").nth(2).inner_text() == "1 2"
    page.check("#running")
    wait(page, "No alarm fits.")
    assert "running=1" in page.url


def test_a_name_that_is_a_script_does_no_harm(open_page, hostile, drawn):
    page = open_page(hostile)
    judged(page)
    evil = HOSTILE.replace("/", "\u2215")
    assert evil in names(page)
    assert page.locator("#runs tbody tr").count() == 8
    for path in (
        "",
        f"run?run={quote(evil)}",
        f"compare?run={quote(evil)}&run=torn-records",
        "studies",
        "studies?store=",
        "alarms",
    ):
        page.goto(hostile + path)
        page.wait_for_function(LIVE)
        page.wait_for_timeout(300)
        assert page.locator("main img, main script, main b:text-is('task'), main i").count() == 0
        assert page.evaluate("() => window.hacked") is None
    page.goto(f"{hostile}run?run={quote(evil)}")
    wait(page, "Return")
    drawn(page)
    assert "<b>task</b>" in page.inner_text("#state")


def test_a_damaged_run_has_a_page_that_says_so(open_page, hostile):
    page = open_page(f"{hostile}run?run=torn-records")
    page.wait_for_function(LIVE)
    wait(page, "records/00000.parquet cannot be read")


@pytest.mark.parametrize(
    ("path", "scheme"),
    [
        ("", "light"),
        ("", "dark"),
        ("run?run=study/sick", "light"),
        ("run?run=study/sick", "dark"),
        ("compare?run=study/sick&run=study/sound", "dark"),
        ("studies", "light"),
        ("studies?store=study", "dark"),
        ("alarms", "light"),
    ],
)
def test_pages_keep_nobody_out(open_page, accessible, drawn, address, path, scheme):
    page = open_page(address + path, color_scheme=scheme)
    page.wait_for_function(LIVE)
    if "run=" in path:
        wait(page, "Actor dead neurons")
        drawn(page)
    accessible(page)


@pytest.mark.parametrize(
    "path",
    ["", "run?run=study/sick", "compare?run=study/sick&run=study/sound", "studies?store=study", "alarms"],
)
def test_pages_fit_a_phone(open_page, address, path):
    page = open_page(address + path, viewport=PHONE)
    page.wait_for_function(LIVE)
    page.wait_for_timeout(300)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_lost_connection_is_told_and_found_again(open_page, address):
    page = open_page(address)
    judged(page)
    page.route(re.compile("/api/"), lambda route: route.abort())
    page.wait_for_function("() => document.getElementById('fresh').classList.contains('lost')")
    open_page.seen.complaints.clear()  # The browser says that requests failed, and they did.
    page.unroute(re.compile("/api/"))
    page.wait_for_function(LIVE)
    open_page.seen.complaints.clear()
