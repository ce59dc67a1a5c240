"""What `ev dashboard` costs over many runs with many viewers: time to the first list, CPU, memory.

`python -m benchmarks.dashboard` makes 1,000 finished runs (as `benchmarks.store` does) and 10 that say they train in a
temporary folder, starts `ev dashboard` on it in a process of its own, asks it as 20 open pages do (every 2 s, with the
ETag of what they have), and prints a table. The files have just been written, so the disk's cache is warm.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from benchmarks import _common as common
from benchmarks.store import make_store
from escapevelocity.runs.status import acquire

EVERY = 2.0
TRAINING = 10


class Page:
    """One viewer's open page."""

    def __init__(self, address: str, path: str) -> None:
        self._url, self._etag = address + path, ""
        self.times: list[float] = []
        self.fresh = 0

    def ask(self) -> bytes:
        """Ask once, as `ev.poll` does."""
        headers = {"Accept-Encoding": "gzip"} | ({"If-None-Match": self._etag} if self._etag else {})
        began = time.perf_counter()
        body = b""
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self._url, headers=headers), timeout=60
            ) as answer:
                body, self._etag = answer.read(), answer.headers["ETag"]
                self.fresh += 1
        except urllib.error.HTTPError as error:
            if error.code != 304:
                raise
        self.times.append(time.perf_counter() - began)
        return body

    def view(self, until: float) -> None:
        """Ask again and again."""
        while time.monotonic() < until:
            began = time.monotonic()
            self.ask()
            time.sleep(max(0.0, EVERY - (time.monotonic() - began)))


def main() -> None:
    """Make the runs, watch them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=common.positive, default=1000)
    parser.add_argument("--viewers", type=common.positive, default=20)
    parser.add_argument("--seconds", type=common.positive, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_store(root, arguments.runs)
        locks = [_pretend(path) for path in sorted(root.iterdir())[:TRAINING]]
        rows = _measure(root, arguments.viewers, arguments.seconds)
        for lock in locks:
            lock.release()
    print(common.machine_line(common.machine()))
    print(f"\n{arguments.runs:,} runs, {TRAINING} of them training, {arguments.viewers} viewers.", end=" ")
    print(f"Load average {os.getloadavg()[0]:.1f} at the end.\n")
    print(common.table(["", ""], rows))


def _pretend(path: Path):
    """Let a run look as if it trained."""
    status = json.loads((path / "status.json").read_text())
    half = {"state": "running", "steps_done": status["steps_total"] // 2, "pid": os.getpid()}
    (path / "status.json").unlink()
    (path / "status.json").write_text(json.dumps(status | half))
    (path / ".lock").unlink()  # The copies share one.
    return acquire(path)


def _measure(root: Path, viewers: int, seconds: int) -> list[list[str]]:
    command = [sys.executable, "-m", "escapevelocity.cli", "dashboard", str(root), "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        started = time.perf_counter() - began
        found = re.search(r"http://\S+", line)
        assert found is not None, line
        first = Page(found[0], "api/runs")
        body = first.ask()
        listed = time.perf_counter() - began
        server = psutil.Process(process.pid)
        spent = sum(server.cpu_times()[:2])
        alone = _watch(server, [first], seconds)
        pages = [Page(found[0], path) for path, _ in zip(_paths(root), range(viewers), strict=False)]
        together = _watch(server, pages, seconds)
        waiting = _waiting(found[0])
        memory = server.memory_info().rss / 2**20
        workers = [child.memory_info().rss / 2**20 for child in server.children()]
        process.terminate()
    times = sorted(one for page in pages for one in page.times[1:])
    return [
        ["from the command to the address (s)", f"{started:.2f}"],
        ["from the command to the whole list (s); asked: 3", f"{listed:.2f}"],
        ["CPU until then (s)", f"{spent:.2f}"],
        ["the list, packed (kB)", f"{len(body) / 1000:.0f}"],
        ["CPU of the server, one viewer (share of a core)", f"{alone:.1%}"],
        [f"CPU of the server, {len(pages)} viewers", f"{together:.1%}"],
        ["answer, median (ms)", f"{1000 * statistics.median(times):.1f}"],
        ["answer, 99 % (ms)", f"{1000 * times[int(0.99 * len(times))]:.1f}"],
        [
            "answers with a body",
            f"{sum(page.fresh for page in pages)} of {sum(len(page.times) for page in pages)}",
        ],
        ["memory of the server (MiB)", f"{memory:.0f}"],
        ["memory of the process that judges (MiB)", f"{sum(workers):.0f}"],
        [f"verdicts still to come after {2 * seconds} s", str(waiting)],
    ]


def _paths(root: Path):
    """What viewers look at: most the list, some a run's curves, alarms or the study."""
    names = sorted(path.name for path in root.iterdir() if path.name[0] != "_")
    while True:
        yield from ("api/runs", "api/runs", f"api/curves?run={names[0]}", "api/alarms", "api/studies?store=")


def _watch(server: psutil.Process, pages: list[Page], seconds: int) -> float:
    """Let pages be open for a while; gives the server's share of a core."""
    before, began = sum(server.cpu_times()[:2]), time.monotonic()
    threads = [threading.Thread(target=page.view, args=(began + seconds,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (sum(server.cpu_times()[:2]) - before) / (time.monotonic() - began)


def _waiting(address: str) -> int:
    with urllib.request.urlopen(f"{address}api/runs", timeout=60) as answer:
        return json.loads(answer.read())["waiting"]


if __name__ == "__main__":
    main()
