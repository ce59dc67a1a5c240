"""The pictures of the README: pages as a browser shows them, over the runs of `make demo`. By `make pictures`."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs"
_WIDTH = 1400
# The report's picture ends under the first row of curves: verdicts and curves are what it is about.
_BOTTOM = (
    "() => document.querySelector('figure.charted').getBoundingClientRect().bottom + window.scrollY + 12"
)
_DRAWN = "() => document.querySelectorAll('.js-plotly-plot .scatterlayer .trace').length > 0"


def main() -> int:
    """Take both pictures; returns the exit code."""
    report = RUNS / "demo" / "report.html"
    if not report.exists():
        print("pictures: runs/demo/report.html: missing; `make demo` writes it", file=sys.stderr)
        return 2
    executable = os.environ.get("EV_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": _WIDTH, "height": 1800}, color_scheme="light")
        page.goto(report.as_uri())
        _shoot(page, "report", _BOTTOM)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(Path(sys.executable).parent / "ev"), "dashboard", str(RUNS), "--port", str(port)]
        served = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, served)
            page.set_viewport_size({"width": _WIDTH, "height": 900})
            page.goto(f"{address}/compare?run=demo-healthy&run=demo-sick")
            _shoot(page, "dashboard", "() => 900")
        finally:
            served.terminate()
            served.wait()
        browser.close()
    return 0


def _shoot(page: Any, name: str, bottom: str) -> None:
    page.wait_for_function(_DRAWN)
    page.wait_for_timeout(1000)  # Curves further down follow one by one, and move nothing any more.
    clip = {"x": 0, "y": 0, "width": _WIDTH, "height": page.evaluate(bottom)}
    path = ROOT / "docs" / f"{name}.png"
    page.screenshot(path=path, clip=clip, full_page=True)
    print(path.relative_to(ROOT))


def _wait_for(address: str, served: subprocess.Popen[bytes]) -> None:
    while served.poll() is None:
        try:
            urllib.request.urlopen(address).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{address}: the dashboard ended with exit code {served.returncode}")


if __name__ == "__main__":
    raise SystemExit(main())
