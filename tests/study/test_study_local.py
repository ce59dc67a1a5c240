"""Studies on this machine: workers that are killed, memory that is short, two at one study, Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from local_counting import HereWorker, notes, order

from escapevelocity.errors import UserError
from escapevelocity.runs import open_run, read_records
from escapevelocity.runs.status import acquire, is_locked
from escapevelocity.study import local
from escapevelocity.study.demand import DEFAULT_MEMORY, Demand
from escapevelocity.study.executors import sigterm_as_ctrl_c
from escapevelocity.study.local import LocalExecutor, share_cores
from escapevelocity.study.store import open_store

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let worker processes import the counting kind."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store", create=True)


@pytest.fixture
def events():
    return []


@pytest.fixture
def here(monkeypatch):
    """Train without processes, and without waiting for the disk: what is tested is who is trained when."""
    monkeypatch.setattr(local, "Worker", HereWorker)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def counts(run_path):
    """The counted column, in the records' own order."""
    return read_records(run_path)["count"].to_pylist()


def test_every_order_is_trained_once_and_a_killed_worker_costs_no_more_than_its_segment(
    tmp_path, store, events
):
    orders = [order(tmp_path, number) for number in range(6)]
    orders[3] = order(tmp_path, 3, fault="2:kill-once")
    outcomes = LocalExecutor(workers=2).run(orders, store, events.append)
    assert [(o.name, o.state) for o in outcomes] == [(f"count-{n}", "finished") for n in range(6)]
    for number in range(6):
        # By hand: from `number`, one more with each of 4 × 2 rows of seed 1.
        assert counts(store.run_path(f"count-{number}")) == [number + n for n in range(1, 9)]
    computed = {n: [line.split()[1] for line in notes(tmp_path, n)] for n in range(6)}
    assert computed.pop(3) == ["0", "1", "2", "2", "3"]
    assert all(segments == ["0", "1", "2", "3"] for segments in computed.values())
    retried = [event for event in events if event.kind == "retried"]
    assert [event.name for event in retried] == ["count-3"]
    assert "its process was killed by SIGKILL; see" in retried[0].text
    assert all(outcome.memory > 10e6 for outcome in outcomes)  # A Python with NumPy has more than 10 MB.
    processes = {line.split()[3] for n in range(6) for line in notes(tmp_path, n)}
    assert (
        len(processes) == 3
    )  # Two workers that live through the study, and the one that took the dead one's place.


def test_a_run_that_always_kills_its_worker_is_given_up_with_its_log(tmp_path, store, events):
    orders = [order(tmp_path, 0, fault="1:kill")]
    (outcome,) = LocalExecutor(workers=1, retries=1).run(orders, store, events.append)
    assert outcome.state == "failed"
    assert outcome.why.startswith("lost 2 times; at last its process was killed by SIGKILL; see ")
    assert [line.split()[1] for line in notes(tmp_path, 0)] == ["0", "1", "1"]
    assert "a line of the training's own" in Path(outcome.why.rpartition("see ")[2]).read_text()


def test_a_run_that_fails_by_itself_is_not_tried_again(here, tmp_path, store, capfd):
    orders = [order(tmp_path, 0, fault="1:fail"), order(tmp_path, 1, fault="1:raise"), order(tmp_path, 2)]
    outcomes = LocalExecutor(workers=1).run(orders, store)
    assert [o.state for o in outcomes] == ["failed", "failed", "finished"]
    assert outcomes[0].why == "loss is nan in batch 7"
    assert outcomes[1].why == "ArithmeticError: a bug in the job"
    assert [len(notes(tmp_path, n)) for n in range(3)] == [2, 2, 4]
    assert "in break_down" in capfd.readouterr().err  # A bug keeps its traceback.


def test_a_damaged_run_is_reported_in_one_line_and_the_others_go_on(here, tmp_path, store):
    store.run_path("count-0").mkdir()
    (store.run_path("count-0") / "spec.json").write_text("{")
    outcomes = LocalExecutor(workers=1).run([order(tmp_path, 0), order(tmp_path, 1)], store)
    assert [o.state for o in outcomes] == ["failed", "finished"]
    assert "spec.json is not valid JSON" in outcomes[0].why
    assert "\n" not in outcomes[0].why


def test_a_run_that_another_process_trains_is_passed_over_and_taken_over_when_that_has_died(
    here, tmp_path, store, events
):
    for name in ("count-0", "count-1"):
        store.run_path(name).mkdir()
    kept, lost = acquire(store.run_path("count-0")), acquire(store.run_path("count-1"))

    def tell(event):
        events.append(event)
        if event.kind == "finished":  # The other process dies while we train something else.
            lost.release()

    orders = [order(tmp_path, number) for number in range(3)]
    outcomes = LocalExecutor(workers=1).run(orders, store, tell)
    kept.release()
    assert [o.state for o in outcomes] == ["claimed", "finished", "finished"]
    assert outcomes[0].why == "another process is training it"
    assert [event.name for event in events if event.kind == "finished"] == ["count-2", "count-1"]


def test_two_executors_share_one_study_and_compute_each_segment_once(tmp_path, store):
    orders = [order(tmp_path, number, pause=0.02) for number in range(6)]
    found = {}

    def train(which):
        found[which] = LocalExecutor(workers=1).run(orders, store)

    threads = [threading.Thread(target=train, args=(which,)) for which in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        assert [line.split()[1] for line in notes(tmp_path, number)] == ["0", "1", "2", "3"]
        assert open_run(store.run_path(f"count-{number}")).status.state == "finished"
    states = [{a.state, b.state} for a, b in zip(found["a"], found["b"], strict=True)]
    assert all("finished" in both and both <= {"finished", "claimed"} for both in states)


@pytest.fixture
def sigint_is_heard():
    """A shell starts what it runs in the background with SIGINT ignored; then Python has no handler for it either."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_is_heard")
def test_ctrl_c_leaves_every_run_in_order_and_the_next_call_goes_on(request, tmp_path, store, events):
    # Six seconds each: Ctrl-C comes long before the end, also on a busy machine.
    orders = [order(tmp_path, number, segments=60, rows=5, pause=0.02) for number in range(3)]
    main = threading.main_thread().ident

    def press():
        until = time.monotonic() + 60
        while not over.is_set() and time.monotonic() < until:
            if len(notes(tmp_path, 0)) == 2:
                return signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.01)

    over = threading.Event()
    threading.Thread(target=press).start()
    try:
        outcomes = LocalExecutor(workers=2).run(orders, store, events.append)
    finally:
        over.set()
    assert [o.state for o in outcomes] == ["interrupted", "interrupted", "waiting"]
    status = open_run(store.run_path("count-0")).status
    assert (status.state, status.why) == ("interrupted", "stopped by SIGINT")
    assert status.segments_done >= 1
    assert not store.run_path("count-2").exists()
    request.getfixturevalue("here")
    again = [order(tmp_path, number, segments=60, rows=5) for number in range(3)]
    assert [o.state for o in LocalExecutor(workers=2).run(again, store)] == ["finished"] * 3
    for number in range(3):
        assert counts(store.run_path(f"count-{number}")) == [number + n for n in range(1, 301)]
        assert len(notes(tmp_path, number)) <= 61  # One segment at most was computed twice.


PARENT = """
import sys
from pathlib import Path
from local_counting import order
from escapevelocity.study.executors import sigterm_as_ctrl_c
from escapevelocity.study.local import LocalExecutor
from escapevelocity.study.store import open_store
diary = Path(sys.argv[1])
LocalExecutor(workers=1).run([order(diary, 0, segments=200, pause=0.05)], open_store(diary / "store", create=True))
"""


def test_workers_end_by_themselves_when_their_parent_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    until = time.monotonic() + 60
    while not notes(tmp_path, 0) and time.monotonic() < until:
        time.sleep(0.02)
    worker = int(notes(tmp_path, 0)[0].split()[3])
    parent.kill()
    parent.wait()
    run = tmp_path / "store" / "count-0"
    # The last of its threads may still hold the run's lock when the process is already gone.
    while (alive(worker) or is_locked(run)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(worker)
    assert open_run(run).status.state == "interrupted"


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which nobody has waited for, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_orders_beyond_memory_wait_until_those_before_them_are_done(here, tmp_path, store, events):
    orders = [order(tmp_path, number) for number in range(4)]
    # Room for one of them by the default expectation; two would need twice that.
    executor = LocalExecutor(workers=2, memory=int(1.5 * DEFAULT_MEMORY))
    running, most = set(), []

    def tell(event):
        events.append(event)
        running.add(event.name) if event.kind == "started" else running.discard(event.name)
        most.append(len(running))

    states = [o.state for o in executor.run(orders, store, tell)]
    assert states == ["finished"] * 4
    # What is known after the first run is far less than the default, so from then on both cores work.
    first_end = next(i for i, event in enumerate(events) if event.kind == "finished")
    assert max(most[:first_end]) == 1
    told = [event.text for event in events if event.kind == "message"]
    assert told == ["count-1 needs about 1.0 GiB of memory; a core is free, but it waits for the memory"]


def test_an_order_that_fits_nowhere_is_trained_alone(here, tmp_path, store, events, monkeypatch):
    monkeypatch.setattr(local, "available_memory", lambda: 0)
    outcomes = LocalExecutor(workers=2).run(
        [order(tmp_path, number) for number in range(2)], store, events.append
    )
    assert [o.state for o in outcomes] == ["finished", "finished"]
    sequence = [(event.kind, event.name) for event in events if event.kind != "message"]
    assert sequence == [
        ("started", "count-0"),
        ("finished", "count-0"),
        ("started", "count-1"),
        ("finished", "count-1"),
    ]
    assert "more than there is: it is trained alone" in events[0].text


def test_expected_memory_is_that_of_the_runs_most_alike(tmp_path):
    demand = Demand()
    # Names tell orders apart.
    small, wide, three = order(tmp_path, 1), order(tmp_path, 4, rows=9), order(tmp_path, 5, seeds=(1, 2, 3))
    assert demand.expect(small) == DEFAULT_MEMORY
    demand.learn(order(tmp_path, 2), 300)
    demand.learn(order(tmp_path, 3), 400)
    demand.learn(order(tmp_path, 6, rows=9), 7000)
    assert demand.expect(small) == 400  # Two differ by `start` alone; the one that needed most counts.
    assert demand.expect(wide) == 7000
    assert demand.expect(three) == 1200  # Three seeds by what one needs.


def test_the_longest_run_begins_first(here, tmp_path, store, events):
    orders = [order(tmp_path, 0, rows=1), order(tmp_path, 1, rows=3), order(tmp_path, 2, seeds=(1, 2, 3, 4))]
    LocalExecutor(workers=1).run(orders, store, events.append)
    # Steps of all seeds, by hand: 40, 120, 320.
    assert [event.name for event in events if event.kind == "started"] == ["count-2", "count-1", "count-0"]


def test_cores_are_shared_out_evenly_and_reused_by_more_workers_than_cores():
    assert share_cores([4, 5, 6, 7, 8], None) == [[4], [5], [6], [7], [8]]
    assert share_cores([4, 5, 6, 7, 8], 2) == [[4, 6, 8], [5, 7]]
    assert share_cores([4, 5], 3) == [[4], [5], [4]]


def test_the_end_of_a_batch_job_stops_a_study_as_ctrl_c_does():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_impossible_numbers_are_refused_by_name():
    with pytest.raises(UserError, match="workers = 0: must be at least 1"):
        LocalExecutor(workers=0)
    with pytest.raises(UserError, match="memory = 0: must be above 0 bytes"):
        LocalExecutor(memory=0)
    with pytest.raises(UserError, match="retries = -1: must be at least 0"):
        LocalExecutor(retries=-1)
