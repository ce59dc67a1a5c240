"""Copies to a store that take longer than a lease lasts, and leases that end in the middle of a copy.

The tests set the clock by which leases run out; threads meet at events, so that nothing depends on how fast they are.
"""

import functools
import os
import threading

import fsspec
import local_counting
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from escapevelocity.runs import checkpoint, read_records, read_status
from escapevelocity.study import _keeper, remote
from escapevelocity.study._mirror import Mirror
from escapevelocity.study.lease import Lease, LeaseLost
from escapevelocity.study.remote import RemoteStore
from escapevelocity.study.store import Store, StoreOutOfReach
from escapevelocity.study.work import do

TERM = 0.06  # seconds by the tests' clock; in real ones, the time between two renewals is a sixth of it
PATIENCE = 60.0  # seconds until a test that waits for a thread gives up, rather than hang


class Clock:
    """Seconds that pass when a test says so, and while somebody waits for a lease: a clock that stood still then would
    let him wait for ever for one that its holder's last renewal had written once more.
    """

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class SlowStore:
    """The store in memory as one sees it through a network: it calls `before` with what it is about to do."""

    def __init__(self, monkeypatch):
        self.before = lambda act, path: None
        self.beat = threading.Condition()
        self.beats, self.missed = 0, False
        for act in ("pipe_file", "cat_file", "rm_file"):
            monkeypatch.setattr(MemoryFileSystem, act, self._through(act, getattr(MemoryFileSystem, act)))

    def _through(self, act, plain):
        def through(fs, path, *args, **kwargs):
            if "/leases/" not in path:
                self.before(act, path)
            answer = plain(fs, path, *args, **kwargs)
            if act == "pipe_file" and "/leases/" in path:
                with self.beat:
                    self.beats += 1
                    self.beat.notify_all()
            return answer

        return through

    def wait_for_renewals(self, count):
        with self.beat:
            until = self.beats + count
            self.missed = not self.beat.wait_for(lambda: self.beats >= until, PATIENCE) or self.missed


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def slow(monkeypatch):
    return SlowStore(monkeypatch)


@pytest.fixture
def clock(monkeypatch):
    """The clock of the leases that are made from now on."""
    clock = Clock()
    monkeypatch.setattr(remote, "Lease", functools.partial(Lease, clock=clock, sleep=clock.sleep))
    monkeypatch.setattr(_keeper, "_GLANCE", 0.01)
    return clock


@pytest.fixture
def url(tmp_path):
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def order(tmp_path):
    (tmp_path / "diary").mkdir()
    # Slow enough that the first checkpoints are copied while it trains.
    return local_counting.order(tmp_path / "diary", 3, segments=6, pause=0.02)


def files(url):
    fs, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root): fs.cat_file(path) for path in fs.find(root)}


def rows(run):
    return read_records(run).drop_columns(["wall_time"]).to_pylist()


def take_two_terms(slow, clock):
    """What a slow copy does: it takes longer than a lease lasts, with the renewals that belong to it."""
    for _ in range(6):
        clock.now += TERM / 3
        if not slow.missed:
            slow.wait_for_renewals(2)  # The first may have been under way.


@pytest.mark.parametrize("file", ["checkpoints/00001.safetensors", "checkpoints/00006.json"])
def test_a_run_is_kept_through_an_upload_that_takes_longer_than_a_lease(slow, clock, url, order, file):
    """While it trains, and when its end is handed over."""
    slept = []

    def before(act, path):
        if act == "pipe_file" and path.endswith(file) and not slept:
            slept.append(path)
            take_two_terms(slow, clock)

    slow.before = before
    outcome = do(order, RemoteStore(url, create=True, term=TERM))
    assert (outcome.state, outcome.why, len(slept)) == ("finished", "", 1)
    assert not slow.missed
    reader = RemoteStore(url)
    reader.pull(order.name)
    assert read_status(reader.run_path(order.name)).state == "finished"
    assert not [name for name in files(url) if "/leases/" in name]


def test_a_run_is_kept_through_a_download_that_takes_longer_than_a_lease(slow, clock, url, order):
    do(order, RemoteStore(url, create=True, term=TERM))
    store, slept = RemoteStore(url, create=True, term=TERM), []

    def before(act, path):
        if act == "cat_file" and path.endswith("spec.json") and not slept:
            slept.append(path)
            take_two_terms(slow, clock)

    slow.before = before
    (watch,) = store.observers(order.name)
    assert watch.on_row({})
    assert (len(slept), slow.missed) == (1, False)
    store.push(order.name)


def test_a_run_that_cannot_be_fetched_is_given_back(slow, clock, url, order, monkeypatch):
    monkeypatch.setattr(remote, "_PAUSES", (0.0, 0.0))
    do(order, RemoteStore(url, create=True, term=TERM))
    store = RemoteStore(url, create=True, term=TERM)

    def before(act, path):
        if act == "cat_file":
            raise OSError("the network is down")

    slow.before = before
    with pytest.raises(StoreOutOfReach, match="cannot be read: the network is down"):
        store.observers(order.name)
    assert order.name not in " ".join(thread.name for thread in threading.enumerate())
    assert not [name for name in fsspec.filesystem("memory").store if "/leases/" in name]


# What is on its way when the lease ends: arrays, a commit, a status.
@pytest.mark.parametrize("file", ["00002.safetensors", "00002.json", "status.json"])
def test_whoever_was_taken_for_dead_changes_nothing_more_than_the_file_on_its_way(
    slow, clock, url, order, file, monkeypatch, tmp_path
):
    seen = {}

    def before(act, path):
        name = path.rpartition("/")[2]
        if act != "pipe_file" or name != file or "heir" in seen:
            return
        seen["heir"], seen["path"] = None, path
        # It hangs for so long that we count as dead; another process takes the run over, and finishes it.
        clock.now += TERM
        heirs = Clock()
        monkeypatch.setattr(remote, "Lease", functools.partial(Lease, clock=heirs, sleep=heirs.sleep))
        fs = MemoryFileSystem()
        for lease in fs.find("/" + url.removeprefix("memory://") + "/_study/leases"):
            fs.rm_file(lease)
        seen["heir"] = do(order, RemoteStore(url, create=True, term=TERM))
        seen["files"] = files(url)

    slow.before = before
    outcome = do(order, RemoteStore(url, create=True, term=TERM))
    assert seen["heir"].state == "finished"
    assert (outcome.state, outcome.why) == ("claimed", "another process is training it")
    after = files(url)
    changed = {name for name in seen["files"] | after if seen["files"].get(name) != after.get(name)}
    assert changed <= {seen["path"].removeprefix("/" + url.removeprefix("memory://"))}
    # And that one is harmless: whoever looks at the run next ends up with the same records.
    slow.before = lambda act, path: None
    assert do(order, RemoteStore(url, create=True, term=TERM)).state == "finished"
    do(order, Store(tmp_path / "local"))
    reader = RemoteStore(url)
    reader.pull(order.name)
    assert rows(reader.run_path(order.name)) == rows(tmp_path / "local" / order.name)
    number, _ = checkpoint.latest_good(reader.run_path(order.name) / "checkpoints")
    assert number == 6


@pytest.mark.parametrize("allowed", range(6))
def test_a_copy_asks_before_each_file_that_it_writes_or_drops(slow, tmp_path, allowed):
    """Three files are replaced: an array, a commit and the status; one of each of the first two has gone."""
    local, changes, left = tmp_path / "run", [], [10**9]
    fs = MemoryFileSystem()

    def check():
        if left[0] == 0:
            raise LeaseLost
        left[0] -= 1

    def write(name, text):
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_text(text)

    mirror = Mirror(fs, f"/{tmp_path.name}/run", local)
    for name in ("checkpoints/00000", "checkpoints/00001"):
        write(f"{name}.safetensors", "old")
        write(f"{name}.json", "old")
    write("status.json", "old")
    mirror.push()
    for ending in ("safetensors", "json"):
        (local / f"checkpoints/00000.{ending}").unlink()
        write(f"checkpoints/00001.{ending}", "replaced")
    write("status.json", "replaced")
    slow.before = lambda act, path: changes.append(act) if act != "cat_file" else None
    left[0] = allowed
    with pytest.raises(LeaseLost):
        mirror.push(check=check)
    assert len(changes) == allowed
    left[0] = 10**9
    mirror.push(check=check)
    assert {path.rpartition("run/")[2]: fs.cat_file(path) for path in fs.find(f"/{tmp_path.name}/run")} == {
        "checkpoints/00001.json": b"replaced",
        "checkpoints/00001.safetensors": b"replaced",
        "status.json": b"replaced",
    }
    fs.rm(f"/{tmp_path.name}", recursive=True)
