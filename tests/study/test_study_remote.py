"""A study behind a URL: in memory and on disk, held by others, cut off anywhere."""

import json
import os
import re
from importlib.util import find_spec

import fsspec
import local_counting
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer, read_records, read_status
from escapevelocity.study import _keeper, remote
from escapevelocity.study.remote import RemoteStore
from escapevelocity.study.store import Store, StoreMissing, StoreOutOfReach, open_for_planning, open_store
from escapevelocity.study.watch_view import plain_lines
from escapevelocity.study.watcher import Watcher
from escapevelocity.study.work import do

# Seconds of silence after which a holder counts as dead: short, as the tests wait for it, and longer than the pauses
# of a loaded machine, which would end the lease of a holder that lives (half of it).
TERM = 4.0


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    """An empty place for a store: in memory, where there are no folders, and on disk, where there are."""
    if request.param == "file":
        yield f"file://{tmp_path}/remote"
        return
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def diary(tmp_path):
    (tmp_path / "diary").mkdir()
    return tmp_path / "diary"


def remote_files(url):
    """Names below a URL, without the lease folder's."""
    fs, root = fsspec.core.url_to_fs(url)
    paths = [path.removeprefix(root).lstrip("/") for path in fs.find(root) if "/leases/" not in path]
    return sorted(map(without_checksum, paths))


def without_checksum(path):
    """The name of a run's compact records has a checksum, which the wall time changes."""
    return re.sub("compact-[0-9a-f]*", "compact", path)


def rows(run):
    return read_records(run).drop_columns(["wall_time"]).to_pylist()


def fetched(url, name):
    """A run as another machine would see it."""
    store = RemoteStore(url)
    store.pull(name)
    return store, store.run_path(name)


def test_a_run_trained_through_a_url_is_the_run_of_a_local_store(url, diary, tmp_path):
    order = local_counting.order(diary, 3)
    assert do(order, RemoteStore(url, create=True, term=TERM)).state == "finished"
    assert do(order, Store(tmp_path / "local")).state == "finished"
    _store, run = fetched(url, order.name)
    assert rows(run) == rows(tmp_path / "local" / order.name)
    assert read_status(run).state == "finished"
    local = fsspec.filesystem("file").find(tmp_path / "local")
    expected = [path.removeprefix(f"{tmp_path}/local/") for path in local if not path.endswith(".lock")]
    assert remote_files(url) == sorted(map(without_checksum, expected))


def test_a_finished_run_is_not_trained_again(url, diary):
    order = local_counting.order(diary, 3)
    do(order, RemoteStore(url, create=True, term=TERM))
    assert do(order, RemoteStore(url, create=True, term=TERM)).state == "finished"
    assert len(local_counting.notes(diary, 3)) == 4  # segments


def test_an_interrupted_run_goes_on_on_another_machine_from_its_last_commit(url, diary, tmp_path):
    class StopInThirdSegment(Observer):
        reason = "enough"

        def on_row(self, row):
            return row["segment"] < 2

    order = local_counting.order(diary, 3)
    first = do(order, RemoteStore(url, create=True, term=TERM), [StopInThirdSegment()])
    assert (first.state, first.why) == ("interrupted", "enough")
    assert do(order, RemoteStore(url, create=True, term=TERM)).state == "finished"
    segments = [line.split()[1] for line in local_counting.notes(diary, 3)]
    assert segments == ["0", "1", "2", "2", "3"]
    do(order, Store(tmp_path / "local"))
    _store, run = fetched(url, order.name)
    assert rows(run) == rows(tmp_path / "local" / order.name)


class Network:
    """What lies between us and the store: it notes what is written and removed, and can go down."""

    def __init__(self, monkeypatch):
        self.log, self.writes_left = [], 10**9
        pipe, rm = MemoryFileSystem.pipe_file, MemoryFileSystem.rm_file

        def pipe_file(fs, path, value, mode="overwrite", **kwargs):
            if "/leases/" not in path:
                if self.writes_left <= 0:
                    raise OSError("the network is down")
                self.writes_left -= 1
                self.log.append(path.split("/", 2)[2])
            return pipe(fs, path, value, mode=mode, **kwargs)

        def rm_file(fs, path):
            if "/leases/" not in path:
                self.log.append("removed " + path.split("/", 2)[2])
            return rm(fs, path)

        monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
        monkeypatch.setattr(MemoryFileSystem, "rm_file", rm_file)


@pytest.fixture
def network(monkeypatch):
    return Network(monkeypatch)


@pytest.fixture
def memory_url(tmp_path):
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


def test_arrays_and_shards_are_written_before_the_json_that_commits_them_and_the_status_last(
    network, memory_url, diary, monkeypatch
):
    monkeypatch.setattr(_keeper, "_GLANCE", 0.02)  # So that the copying is under way while the run goes on.
    order = local_counting.order(diary, 3, segments=3, pause=0.05)
    do(order, RemoteStore(memory_url, create=True, term=TERM))
    log = [line.removeprefix(f"{order.name}/") for line in network.log]
    assert log[0] == "spec.json"
    for number in range(4):
        commit = log.index(f"checkpoints/{number:05d}.json")
        assert log.index(f"checkpoints/{number:05d}.safetensors") < commit
        for segment in range(number):
            shard = f"records/{segment:05d}.parquet"
            assert any(line == shard or line.startswith("records/compact") for line in log[:commit])
        assert "status.json" in log[commit:]
    # The shards go when what replaces them is there.
    compact = next(index for index, line in enumerate(log) if line.startswith("records/compact"))
    assert all(log.index(line) > compact for line in log if line.startswith("removed records/"))


# The copy of this run takes 13 writes when it is made at its end.
@pytest.mark.parametrize("writes", [0, 1, 2, 4, 6, 8, 9, 10, 12])
def test_a_copy_that_ends_anywhere_leaves_a_run_that_goes_on_to_the_same_records(
    network, memory_url, diary, tmp_path, writes, monkeypatch
):
    monkeypatch.setattr(_keeper.time, "sleep", lambda seconds: None)
    order = local_counting.order(diary, 3, segments=3)
    network.writes_left = writes
    lost = do(order, RemoteStore(memory_url, create=True, term=TERM))
    assert (lost.state, lost.why) == ("failed", "OSError: the network is down")
    network.writes_left = 10**9
    assert do(order, RemoteStore(memory_url, create=True, term=TERM)).state == "finished"
    do(order, Store(tmp_path / "local"))
    _, run = fetched(memory_url, order.name)
    assert rows(run) == rows(tmp_path / "local" / order.name)


def test_a_run_that_another_process_holds_is_claimed_and_nothing_of_it_is_touched(url, diary):
    order = local_counting.order(diary, 3)
    holder = RemoteStore(url, create=True, term=TERM)
    holder.observers(order.name)
    before = remote_files(url)
    try:
        outcome = do(order, RemoteStore(url, create=True, term=TERM))
        assert (outcome.state, outcome.why) == ("claimed", "another process is training it")
        assert remote_files(url) == before
        assert local_counting.notes(diary, 3) == []
    finally:
        holder.push(order.name)
    assert do(order, RemoteStore(url, create=True, term=TERM)).state == "finished"


def test_a_run_whose_claim_was_taken_is_left_to_whoever_took_it(url, diary):
    fs, root = fsspec.core.url_to_fs(url)

    class Takeover(Observer):
        def on_row(self, row):
            if row["batch"] == 1:  # Another machine counts us as dead and removes our claim.
                for path in fs.find(f"{root}/_study/leases"):
                    fs.rm_file(path)
                self.commits = commits()

    def commits():
        return sum("/checkpoints/" in name and name.endswith(".json") for name in remote_files(url))

    order, takeover = local_counting.order(diary, 3, segments=50, pause=0.1), Takeover()
    outcome = do(order, RemoteStore(url, create=True, term=TERM), [takeover])
    assert (outcome.state, outcome.why) == ("claimed", "another process is training it")
    assert len(local_counting.notes(diary, 3)) < 50
    assert commits() <= takeover.commits + 1  # A copy may have been under way.


def test_refresh_shows_a_run_that_is_trained_elsewhere_as_running_and_fetches_no_arrays(url, diary):
    order = local_counting.order(diary, 3)
    do(order, RemoteStore(url, create=True, term=TERM))
    fs, root = fsspec.core.url_to_fs(url)
    status = json.loads(fs.cat_file(f"{root}/{order.name}/status.json"))
    fs.pipe_file(f"{root}/{order.name}/status.json", json.dumps(status | {"state": "running"}).encode())
    holder = RemoteStore(url, create=True, term=TERM)
    holder.observers(order.name)
    reader = RemoteStore(url)
    reader.refresh()
    run = reader.run_path(order.name)
    assert read_status(run).state == "running"
    assert not list(run.rglob("*.safetensors"))
    assert list(run.rglob("checkpoints/*.json"))
    holder.push(order.name)
    reader.refresh()
    assert read_status(run).state == "interrupted"  # as of any run whose process was killed


def test_what_the_study_records_reaches_the_others(url):
    writer = RemoteStore(url, create=True)
    writer.study_path.mkdir()
    (writer.study_path / "plan.json").write_text("{}")
    writer.push_study()
    reader = RemoteStore(url)
    reader.refresh()
    assert (reader.study_path / "plan.json").read_text() == "{}"


def test_scratch_folders_go_with_their_store(url):
    store = RemoteStore(url, create=True)
    path = store.path
    assert path.exists()
    del store
    assert not path.exists()


def test_open_store_takes_a_url():
    assert isinstance(open_store("memory://any", create=True), RemoteStore)


@pytest.mark.parametrize(
    ("url", "create", "said"),
    [
        ("nosuch://bucket/x", False, "must be a folder or a URL of fsspec: Protocol not known: nosuch"),
        ("memory://is-not-there", False, "there is nothing yet; `ev study run` makes it"),
        ("file:///proc/study", True, "cannot be written"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_clear_line(url, create, said):
    with pytest.raises(UserError, match=said) as caught:
        RemoteStore(url, create=create)
    assert str(caught.value).startswith("store = ")
    assert "\n" not in str(caught.value)


class Folders(LocalFileSystem):
    """As SFTP or HDFS: folders are real, and nobody makes them unasked."""

    protocol = "folders"
    auto_mkdir = False

    def __init__(self, **options):
        super().__init__(**options | {"auto_mkdir": False})

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("folders://"))


def test_a_file_system_whose_folders_must_be_made_is_a_store(tmp_path, diary):
    fsspec.register_implementation("folders", Folders, clobber=True)
    store = RemoteStore(f"folders://{tmp_path}/remote", create=True, term=TERM)
    order = local_counting.order(diary, 3)
    assert do(order, store).state == "finished"
    assert (tmp_path / "remote" / order.name / "status.json").exists()


def test_a_user_without_a_name_has_folders_too(monkeypatch):
    def unknown():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", unknown)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert RemoteStore("memory://any", create=True).log_path.name == "escapevelocity-logs-12345"


def test_a_missing_package_of_a_file_system_is_named():
    if find_spec("adlfs") is not None:
        pytest.skip("adlfs is installed")
    with pytest.raises(UserError, match=r"adlfs.*on every machine that trains"):
        RemoteStore("abfs://container/study")


class Reads:
    """What reading a store in memory runs into."""

    def __init__(self, monkeypatch):
        self.errors, self.tries = [], 0
        find = MemoryFileSystem.find

        def failing(fs, path, *given, **how):
            self.tries += 1
            if self.errors:
                raise self.errors.pop(0)
            return find(fs, path, *given, **how)

        monkeypatch.setattr(MemoryFileSystem, "find", failing)


@pytest.fixture
def reads(monkeypatch):
    return Reads(monkeypatch)


def test_a_short_outage_before_a_run_begins_costs_only_time(reads, memory_url, diary, monkeypatch):
    pauses = []
    monkeypatch.setattr(remote.time, "sleep", pauses.append)
    order = local_counting.order(diary, 3)
    store = RemoteStore(memory_url, create=True, term=TERM)
    reads.errors = [ConnectionError("the network\nis down")] * 3
    assert do(order, store).state == "finished"
    assert pauses[:3] == list(remote._PAUSES[:3])
    reads.errors = [ConnectionError("the network\nis down")] * 6
    lost = do(local_counting.order(diary, 4), store)
    assert (lost.state, lost.why) == (
        "failed",
        f"store = {memory_url!r}: cannot be read: the network is down",
    )


def test_what_may_not_be_read_is_not_tried_again_and_said_in_one_line(reads, memory_url, diary):
    store = RemoteStore(memory_url, create=True, term=TERM)
    reads.errors = [PermissionError("access denied")]
    lost = do(local_counting.order(diary, 3), store)
    assert (lost.state, lost.why) == ("failed", f"store = {memory_url!r}: cannot be read: access denied")
    reads.errors = [PermissionError("access denied")]
    with pytest.raises(StoreOutOfReach, match="cannot be read: access denied"):
        store.refresh()


def test_who_watches_sees_the_last_look_while_the_store_is_out_of_reach(reads, memory_url, diary):
    do(local_counting.order(diary, 3), RemoteStore(memory_url, create=True, term=TERM))
    clock = [0.0]
    watch = Watcher(memory_url, clock=lambda: clock[0])
    assert (watch.look().counts["finished"], watch.look().out_of_reach) == (1, "")
    clock[0], reads.errors = 20.0, [ConnectionError("the network is down")]
    overview = watch.look()
    assert overview.counts["finished"] == 1
    assert overview.out_of_reach in plain_lines(overview)
    assert overview.out_of_reach.endswith("cannot be read: the network is down")
    clock[0] = 25.0
    assert watch.look().out_of_reach  # Not asked again so soon.
    clock[0] = 40.0
    assert watch.look().out_of_reach == ""
    reads.errors = [ConnectionError("the network is down")]
    with pytest.raises(StoreOutOfReach, match="the network is down"):
        Watcher(memory_url, clock=lambda: clock[0]).look()


def test_a_store_that_may_only_be_read_is_planned_as_it_stands(memory_url, network):
    with pytest.raises(StoreMissing, match="there is nothing yet"):
        open_store(memory_url)
    fsspec.filesystem("memory").pipe_file(f"{memory_url}/a/spec.json", b"{}")
    writes = len(network.log)
    network.writes_left = 0
    assert open_for_planning(memory_url).names() == ["a"]
    assert len(network.log) == writes
