"""The study benchmark's arithmetic; what it measures is trained elsewhere."""

import os
import time

from benchmarks.study import Measured, _idle


def test_the_row_of_a_study_holds_its_shares():
    measured = Measured(
        runs=40,
        steps=10_240,
        workers=2,
        wall=50.0,
        busy=0.953,
        occupied=0.961,
        workers_cpu=94.05,
        scheduler_cpu=0.95,
        start_cpu=3.2,
        load=(0.1, 2.0),
    )
    assert measured.scheduler_share == 0.01  # By hand: 0.95 of 95 s.
    assert measured.row()[1:] == ["50.0", "95.3%", "96.1%", "94.0", "0.95", "1.00%", "3.2", "0.1, 2.0"]


def test_idle_time_of_a_core_never_runs_faster_than_the_clock():
    core = min(os.sched_getaffinity(0))
    began, idle = time.monotonic(), _idle([core])
    time.sleep(0.1)
    # The kernel counts in ticks of 10 ms.
    assert 0 <= _idle([core]) - idle <= time.monotonic() - began + 0.02
