"""A real Chromium for the pages that people look at: one browser for a file of tests, a fresh page for each.
Not one for all: while Playwright is open it holds the thread's event loop, which later tests may want.

Fixtures for the conftest.py of a folder. They skip, and say so, where playwright (the extra `browser`) or Debian's
chromium is missing.
"""

import os
import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest

DESKTOP = {"width": 1280, "height": 900}
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "http://localhost", "ws://127.0.0.1")


@dataclass
class Seen:
    """What went wrong on a page while it was open."""

    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, and exceptions that nobody caught."""
    requests: list[str] = field(default_factory=list)
    """Requests to anywhere but this machine."""

    def watch(self, page):
        page.on("console", lambda message: self._console(message))
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", lambda request: self._request(request.url))
        return page

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _request(self, url):
        if not url.startswith(LOCAL):
            self.requests.append(url)


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium; EV_CHROMIUM names another one than the one on the path."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser (playwright)")
    executable = os.environ.get("EV_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open a page: `page = open_page(url)`, with `viewport=PHONE`, `color_scheme="dark"` and so on.

    The test fails at its end if any page that it opened complained or asked for something beyond this machine.
    """
    contexts, seen = [], Seen()

    def open_one(url: str, **options: Any):
        context = chromium.new_context(**{"viewport": DESKTOP, "color_scheme": "light", **options})
        contexts.append(context)
        page = seen.watch(context.new_page())
        page.set_default_timeout(15_000)
        page.goto(url)
        return page

    open_one.seen = seen
    yield open_one
    for context in contexts:
        context.close()
    assert seen.complaints == []
    assert seen.requests == []


@pytest.fixture
def accessible():
    """Ask axe-core what keeps people out of a page: `accessible(page)` fails with what it found."""
    axe_playwright = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="needs the extra browser"
    )

    def check(page):
        found = axe_playwright.Axe().run(page)
        told = [
            f"{one['id']} ({one['impact']}): {one['help']}: "
            + "; ".join(f"{node['target']} {node['failureSummary']}" for node in one["nodes"][:3])
            for one in found.response["violations"]
        ]
        assert told == []

    return check


@pytest.fixture
def drawn():
    """Wait until every chart of a page has been drawn, also those that nobody has scrolled to."""

    def wait(page):
        page.evaluate("() => evCharts.drawAll()")
        page.wait_for_function("() => evCharts.drawn.size > 0")

    return wait
