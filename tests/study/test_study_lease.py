"""Who may work on a run of an object store: on a clock of the tests, and once with threads that race."""

import threading
import time

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from escapevelocity.study._keeper import LeaseWatch
from escapevelocity.study.lease import Lease, LeaseLost


class Clock:
    """Time that passes when somebody sleeps; at given moments something happens."""

    def __init__(self):
        self.now = 0.0
        self.due = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        until = self.now + seconds
        while self.due and self.due[0][0] <= until:
            self.now, act = self.due.pop(0)
            act()
        self.now = until


@pytest.fixture
def lease():
    """Makes leases of one run, 60 s long, on a clock of their own."""
    fs, clock = MemoryFileSystem(), Clock()
    folder = "/lease-test"

    def make():
        return Lease(fs, folder, term=60.0, clock=clock, sleep=clock.sleep)

    make.clock, make.folder, make.fs = clock, folder, fs
    yield make
    if fs.exists(folder):
        fs.rm(folder, recursive=True)


def test_a_dead_holder_loses_its_lease_after_its_term_and_not_before(lease):
    assert lease().claim()  # and never renews it
    assert lease().claim()
    # The claimant looks every 5 s: it has seen no change for 60 s at its 13th look.
    assert 60 <= lease.clock.now <= 65


def test_a_holder_that_renews_keeps_its_lease(lease):
    holder = lease()
    assert holder.claim()
    lease.clock.due = [(9.0, holder.renew)]
    assert not lease().claim()
    assert holder.renew()
    assert len(lease.fs.ls(lease.folder)) == 1  # the other one has withdrawn


def test_a_lease_that_was_given_back_is_free_at_once(lease):
    holder = lease()
    assert holder.claim()
    holder.release()
    assert lease().claim()
    assert lease.clock.now == 0


def test_a_holder_that_could_not_renew_for_half_the_term_gives_up_before_another_takes_over(lease):
    holder = lease()
    assert holder.claim()
    watch = LeaseWatch(holder)
    lease.clock.now = 29.0
    assert watch.on_row({})
    lease.clock.now = 31.0
    assert not watch.on_row({})


def test_a_holder_taken_for_dead_learns_of_it_when_it_comes_back(lease):
    sleeper = lease()
    assert sleeper.claim()
    assert lease().claim()
    assert not sleeper.renew()
    assert len(lease.fs.ls(lease.folder)) == 1


def test_a_lease_that_ran_out_does_not_come_back_to_life(lease):
    sleeper = lease()
    assert sleeper.claim()
    before = {path: lease.fs.cat_file(path) for path in lease.fs.ls(lease.folder, detail=False)}
    lease.clock.now = 31.0  # Half of its term has passed: whoever watches it may be about to remove it.
    assert not sleeper.renew()
    assert {path: lease.fs.cat_file(path) for path in lease.fs.ls(lease.folder, detail=False)} == before
    lease.clock.now = 29.0  # Not even by a clock that goes wrong.
    assert not sleeper.renew()
    with pytest.raises(LeaseLost):
        sleeper.check()


def test_a_lease_that_was_given_back_allows_no_more_changes(lease):
    holder = lease()
    assert holder.claim()
    holder.check()
    holder.release()
    with pytest.raises(LeaseLost):
        holder.check()


def test_of_many_claimants_at_once_never_two_hold_a_run():
    fs, folder = MemoryFileSystem(), "/lease-race"
    held, most, won = 0, 0, 0
    lock = threading.Lock()

    def contend():
        nonlocal held, most, won
        lease = Lease(fs, folder, term=1.2)
        if lease.claim():
            with lock:
                held, won = held + 1, won + 1
                most = max(most, held)
            time.sleep(0.05)
            with lock:
                held -= 1
            lease.release()

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, won >= 1) == (1, True)
