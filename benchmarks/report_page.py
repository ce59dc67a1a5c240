"""How long the report page of 5 runs × 5 seeds × 1,000 records takes to open in a headless Chromium, and its size.

python -m benchmarks.report_page                # prints a table
python -m benchmarks.report_page --repeat 3

Asked: under two seconds. Times are the browser's own (performance.now(), from the start of the navigation), a fresh
browser process each time, nothing cached: until the verdict is painted, until the page is loaded, scripts and all, and
until the last chart is drawn, when all are asked for at once, which a reader who scrolls does not wait for. Needs the
extra `browser` and Debian's chromium. The last column is processor time of the page's main thread until then: on a
machine with other work the clock tells of the others, and this is what an idle core would take.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks._common import machine, machine_line, positive, table

ASKED = 2.0
RUNS, SEEDS, RECORDS = 5, 5, 1000
_HEADER = (
    "repetition",
    "verdict painted (s)",
    "loaded (s)",
    "last chart drawn (s)",
    "main thread, CPU (s)",
    "load before",
)
_FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_BATCH = 2048
# Every chart as soon as the page is there, not only those near to what is seen.
_WATCH = """
window.evTimes = [];
document.addEventListener("ev-drawn", () => window.evTimes.push(performance.now()));
addEventListener("load", async () => {
  window.evLoaded = performance.now();
  await evCharts.drawAll();
  window.evDone = true;
});
"""


class WrittenJob:
    """Emits rows that are there already, so that the real engine writes the run."""

    name = "ppo"

    def __init__(self, rows):
        self.rows = rows

    def segments(self, spec):
        return 1

    def step(self, spec, k):
        return k * spec.num_batches * spec.batch_size

    def initial_state(self, spec):
        return {"x": np.zeros(1)}

    def segment(self, spec, state, k, emit):
        for row in self.rows:
            emit(row)
        return state


def make_runs(folder: Path, runs: int = RUNS, seeds: int = SEEDS, records: int = RECORDS) -> list[Path]:
    """Write runs with noisy curves of the usual columns: every second one falls ill half way."""
    from escapevelocity.ppo.config import PPOSpec
    from escapevelocity.runs import start

    paths = []
    for run in range(runs):
        generator = np.random.default_rng(run)
        columns = {seed: _columns(generator, records, run % 2 == 1) for seed in range(seeds)}
        rows = [
            {"seed": seed, "batch": batch, "env_steps": (batch + 1) * _BATCH, "fault": ""}
            | {name: float(values[batch]) for name, values in columns[seed].items()}
            for batch in range(records)
            for seed in range(seeds)
        ]
        spec = PPOSpec(steps=records * _BATCH, seeds=tuple(range(seeds)))
        start(WrittenJob(rows), spec, folder / f"run-{run}", [])
        paths.append(folder / f"run-{run}")
    return paths


def _columns(generator: np.random.Generator, records: int, ill: bool) -> dict[str, np.ndarray]:
    done = np.linspace(0, 1, records)
    fall = np.clip((done - 0.5) * 4, 0, 1) if ill else np.zeros(records)

    def noisy(values: np.ndarray, share: float) -> np.ndarray:
        return values * np.exp(share * generator.normal(size=records))

    return {
        "perf/return_mean": noisy(3000 * (1 - np.exp(-8 * done)) * (1 - 0.8 * fall) + 10, 0.25),
        "perf/length_mean": noisy(200 + 600 * done, 0.2),
        "policy/entropy": 2 - 3 * done + 0.1 * generator.normal(size=records),
        "policy/variance": noisy(0.25 + done, 0.1),
        "trust/kl": noisy(0.02 + 2 * fall, 0.3),
        "trust/clip_fraction": noisy(0.15 + 0.3 * fall, 0.1),
        "trust/ratio_min": noisy(0.3 - 0.25 * fall, 0.1),
        "trust/ratio_above_mean": noisy(1.3 + fall, 0.03),
        "trust/ratio_below_mean": noisy(0.72 - 0.45 * fall, 0.03),
        "health/actor/feature_rank_pca": np.round(noisy(10 + 25 * done - 30 * fall * done, 0.08)),
        "health/critic/feature_rank_pca": np.round(noisy(20 - 5 * done, 0.08)),
        "health/actor/dead_neurons": np.round(noisy(1 + 45 * fall, 0.1)),
        "health/actor/preactivation_norm": noisy(2 + 8 * done + 200 * fall, 0.05),
    }


def opened(page: Path) -> tuple[float, float, float, float]:
    """Open the page in a fresh browser: seconds until the verdict is painted, all is loaded, all is drawn; and CPU."""
    from playwright.sync_api import sync_playwright

    executable = os.environ.get("EV_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.add_init_script(_WATCH)
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable")
        tab.goto(page.as_uri())
        tab.wait_for_function("() => window.evDone")
        painted, loaded, last = tab.evaluate(
            "() => [performance.getEntriesByName('first-contentful-paint')[0].startTime, window.evLoaded,"
            " Math.max(...window.evTimes)]"
        )
        metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
        browser.close()
    return painted / 1000, loaded / 1000, last / 1000, metrics["ThreadTime"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report_page", description=__doc__)
    parser.add_argument("--repeat", type=positive, default=5)
    arguments = parser.parse_args(argv)
    from escapevelocity.report.page import render
    from escapevelocity.runs.atomic import write_bytes
    from escapevelocity.study.report_page import runs_page

    with tempfile.TemporaryDirectory() as folder:
        paths = make_runs(Path(folder))
        began = time.perf_counter()
        html = render(runs_page(paths, lambda run, diagnosis: [], "")).encode()
        made = time.perf_counter() - began
        page = Path(folder) / "report.html"
        write_bytes(page, html)
        rows, times = [], []
        for repetition in range(arguments.repeat):
            load = os.getloadavg()[0]
            times.append(opened(page))
            rows.append([str(repetition + 1), *(f"{seconds:.2f}" for seconds in times[-1]), f"{load:.1f}"])
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    print(table(_HEADER, [*rows, ["median", *(f"{seconds:.2f}" for seconds in medians), ""]]))
    print(
        f"\n{RUNS} runs × {SEEDS} seeds × {RECORDS} records: {len(html) / 1e6:.2f} MB, made in {made:.1f} s"
    )
    verdicts = ["reached" if seconds < ASKED else "missed" for seconds in medians[2:]]
    print(f"asked: under {ASKED:.0f} s; by the clock {verdicts[0]}, by processor time {verdicts[1]}.")
    print(machine_line(machine()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
