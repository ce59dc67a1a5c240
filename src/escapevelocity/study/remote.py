"""A study's store behind an fsspec URL, such as s3://bucket/study: runs are trained in a folder here and copied.

URL/NAME/                     a run, as in a local store (`store.py`), except for its lock
URL/_study/plan.json …        what the study adds
URL/_study/leases/NAME/       who is working on the run (`lease.py`)

`work.do` calls `pull`, `observers` and `push`: the run is fetched, its lease claimed, and while it trains the lease is
renewed and each commit copied as it lands (`_keeper.py`). A machine that dies loses what it computed since its last
commit, and a minute later its lease.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from escapevelocity.errors import UserError
from escapevelocity.runs import Observer
from escapevelocity.runs.atomic import make_folder, write_bytes
from escapevelocity.runs.status import LOCK_FILE, acquire, is_locked
from escapevelocity.study._folders import users_folder
from escapevelocity.study._keeper import Keeper
from escapevelocity.study._mirror import Mirror, write_object
from escapevelocity.study.lease import TERM, Lease, held_now
from escapevelocity.study.progress import PROGRESS_FOLDER
from escapevelocity.study.store import STUDY_FOLDER, Store, StoreMissing, StoreOutOfReach

LEASES = "leases"
_OURS = ("leases/", "logs/", "progress/")  # of _study: what is not copied with the rest of it
_SCRATCH = "escapevelocity-store-"
_PAUSES = (1.0, 4.0, 10.0, 20.0, 30.0)
"""Seconds between attempts to reach the store before a run begins: an outage of a minute costs no run."""
_ABANDONED = 600.0  # seconds after which a scratch folder that nobody holds is removed


class RemoteStore(Store):
    """A store that lies in an object store, or wherever else fsspec reaches.

    Its `path` is a scratch folder of this object alone. Read from it after `refresh` or `pull`; `push` hands over.

    Args:
        url: such as s3://bucket/study, gs://… or memory://…; the package of its file system must be installed.
        create: require that it can be written.
        term: seconds of silence after which whoever works on a run counts as dead.

    Raises:
        UserError: an unknown protocol or a missing package; a store that cannot be reached, read or (with `create`)
            written, or that is not there (without `create`).
    """

    is_remote = True

    def __init__(self, url: str, create: bool = False, term: float = TERM) -> None:
        self._url, self._term = url.rstrip("/"), term
        self._fs, self._root = _file_system(self._url)
        _require_access(self._fs, self._root, self._url, create)
        super().__init__(_scratch())
        # Held as long as we live: the next store here removes the folders of processes that died.
        lock = acquire(self.path)
        self._finalizer = weakref.finalize(self, _discard, self.path, lock)
        self._mirrors: dict[str, Mirror] = {}
        self._keepers: dict[str, Keeper] = {}
        self._marks: dict[str, BaseFileLock] = {}
        self._fetching = threading.Lock()  # Held by whoever writes the files of the study here.

    @property
    def url(self) -> str:
        """What `open_store` makes this store of in another process."""
        return self._url

    @property
    def log_path(self) -> Path:
        """This machine's folder for such things: the scratch folder does not outlive its runs."""
        return users_folder("logs")

    def pull(self, name: str) -> None:
        """Fetch the run `name`, all of it, to `run_path(name)`. While we work on it ourselves, that is the newest.

        Raises:
            StoreOutOfReach: for a minute.
        """
        if name not in self._keepers:
            self._mark(name, None)
            self._patiently(self._mirror(name).pull)

    def push(self, name: str) -> None:
        """Hand over the end of the run that `observers` claimed, give the claim back, and free the disk here.

        Raises:
            UserError: when the claim has been lost: what was computed since then is not handed over, and the run is
                locked here as one that is trained elsewhere.
        """
        keeper = self._keepers.pop(name, None)
        if keeper is None:
            return
        # If it fails, what is here is no longer what this one thinks is there: the next pull reads everything.
        del self._mirrors[name]
        if not keeper.finish():
            self._mark(name, keeper)
            raise UserError(f"{self._url}/{name} is being trained by another process, which took us for dead")
        shutil.rmtree(self.run_path(name), ignore_errors=True)

    def observers(self, name: str) -> Sequence[Observer]:
        """Claim the run `name` and keep it in step with the store until `push`; the observer ends it if that fails.

        Raises:
            UserError: when another process holds it. The run's lock is then held here, as it would be in a local
                store, so that whoever asks sees a run that is being trained.
        """
        self.run_path(name)
        lease = Lease(self._fs, self._lease_folder(name), self._term)
        claimed = self._patiently(lease.claim, "written")
        if not claimed:
            self._mark(name, lease)
            raise UserError(f"{self._url}/{name} is being trained by another process; wait for it or stop it")
        mirror = self._mirror(name)
        keeper = Keeper(lease, mirror, self.run_path(name), lambda: self._push_progress(name))
        try:
            # Again, now that nobody else can change it: who held it may have gone on since the first time.
            self._patiently(mirror.pull)
        except BaseException:
            keeper.abandon()
            raise
        self._keepers[name] = keeper
        keeper.start()
        return (keeper.watch,)

    def refresh(self) -> None:
        """Fetch what the study has recorded and, of every run, all but its arrays; only what has changed is read.

        A run that somebody works on is locked here, so that it reads as running. That goes by the clocks of the
        machines, as it is only for people to look at.

        Raises:
            StoreOutOfReach: what was fetched before stays.
        """
        with self._reaching():
            with self._fetching:
                self._mirror(STUDY_FOLDER).pull(lambda name: not name.startswith(f"{LEASES}/"))
            for name in self.names():
                if name not in self._keepers:
                    held = held_now(self._fs, self._lease_folder(name), self._term)
                    self._mirror(name).pull(lambda file: not file.endswith(".safetensors"))
                    self._mark(name, held)

    def fetch_progress(self, names: Iterable[str]) -> None:
        """Fetch how far some runs are (`progress.read_progress`), and nothing else: one small file each.

        For people to look at, so what cannot be fetched stays as it was. Any thread may call it.

        Args:
            names: the runs; those that train for this very object are left out, as their newest files are here.
        """
        files = [f"{PROGRESS_FOLDER}/{name}.json" for name in names if name not in self._keepers]
        # Each store has its own errors; and the one of a full disk here is for those whose files matter.
        with self._fetching, contextlib.suppress(Exception):
            paths = [f"{self._root}/{STUDY_FOLDER}/{file}" for file in files]
            # All at once, where the file system can.
            found = self._fs.cat(paths, on_error="omit") if paths else {}
            for path, data in found.items():
                if self._finalizer.alive:
                    write_bytes(self.study_path / PROGRESS_FOLDER / path.rpartition("/")[2], data)

    def push_study(self) -> None:
        """Hand over what the study has recorded: its plan, its index and its histories.

        Raises:
            StoreOutOfReach: it cannot be written.
        """
        with self._reaching("written"):
            self._mirror(STUDY_FOLDER).push(lambda name: not name.startswith(_OURS))

    def names(self) -> list[str]:
        """List the runs in the store."""
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            found = [info for info in self._fs.ls(self._root, detail=True) if info["type"] == "directory"]
            names = sorted(info["name"].rstrip("/").rpartition("/")[2] for info in found)
            return [name for name in names if not name.startswith((".", "_"))]
        return []

    @contextlib.contextmanager
    def _reaching(self, what: str = "read") -> Iterator[None]:
        """Say in one line what is wrong: permissions, credentials, networks; each file system has its own errors."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            text = f"store = {self._url!r}: cannot be {what}: {_one_line(error)}"
            raise StoreOutOfReach(text) from error

    def _patiently(self, action: Callable[[], Any], what: str = "read") -> Any:
        """Try once more after a while, and again; not where it is a matter of permissions."""
        for pause in _PAUSES:
            try:
                with self._reaching(what):
                    return action()
            except StoreOutOfReach as error:
                if isinstance(error.__cause__, PermissionError):
                    raise
            time.sleep(pause)
        with self._reaching(what):
            return action()

    def _mirror(self, name: str) -> Mirror:
        if name not in self._mirrors:
            self._mirrors[name] = Mirror(self._fs, f"{self._root}/{name}", self.path / name)
        return self._mirrors[name]

    def _lease_folder(self, name: str) -> str:
        return f"{self._root}/{STUDY_FOLDER}/{LEASES}/{name}"

    def _push_progress(self, name: str) -> None:
        file = f"progress/{name}.json"
        with contextlib.suppress(FileNotFoundError):
            data = (self.study_path / file).read_bytes()
            write_object(self._fs, f"{self._root}/{STUDY_FOLDER}/{file}", data)

    def _mark(self, name: str, holder: object | None) -> None:
        """Hold the lock of a run here that is being worked on elsewhere, and of no other."""
        if holder is None:
            mark = self._marks.pop(name, None)
            if mark is not None:
                mark.release()
        elif name not in self._marks:
            make_folder(self.run_path(name))
            self._marks[name] = acquire(self.run_path(name))


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.partition("://")[0]
    try:
        fs, root = fsspec.core.url_to_fs(
            url, **({"auto_mkdir": True} if protocol in ("file", "local") else {})
        )
    except ImportError as error:
        raise UserError(f"store = {url!r}: {_one_line(error)} (on every machine that trains)") from error
    except Exception as error:  # An unknown protocol, or whatever a file system makes of the rest of the URL.
        raise UserError(
            f"store = {url!r}: must be a folder or a URL of fsspec: {_one_line(error)}"
        ) from error
    return fs, root.rstrip("/")


def _require_access(fs: Any, root: str, url: str, create: bool) -> None:
    probe = f"{root}/{STUDY_FOLDER}/{LEASES}/.probe-{threading.get_native_id()}-{time.time_ns()}"
    try:
        if create:
            write_object(fs, probe, b"")
            fs.rm_file(probe)
        else:
            fs.invalidate_cache()
            fs.ls(root, detail=False)
    except FileNotFoundError as error:
        if not create:
            raise StoreMissing(f"store = {url!r}: there is nothing yet; `ev study run` makes it") from error
        raise UserError(f"store = {url!r}: cannot be written: {_one_line(error)}") from error
    except (
        Exception
    ) as error:  # Permissions, credentials, names, networks: each file system has its own errors.
        what = "written" if create else "read"
        raise UserError(f"store = {url!r}: cannot be {what}: {_one_line(error)}") from error


def _scratch() -> Path:
    """A new folder for one store; those of dead processes are removed."""
    for old in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with contextlib.suppress(OSError):
            idle = time.time() - old.stat().st_mtime > _ABANDONED
            if idle and (old / LOCK_FILE).exists() and not is_locked(old):
                shutil.rmtree(old)
    return Path(tempfile.mkdtemp(prefix=_SCRATCH))


def _discard(path: Path, lock: BaseFileLock) -> None:
    lock.release()
    shutil.rmtree(path, ignore_errors=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
