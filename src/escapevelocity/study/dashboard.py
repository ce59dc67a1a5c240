"""`ev dashboard`: a web application over a folder of runs, which it only reads.

Pages are shells; what they show comes as JSON that they ask for again and again with the ETag of what they have. So a
viewer holds no connection, a tab that is not seen asks nothing, and all viewers share one look at the disk per
interval. The list of runs is there at once; verdicts follow as a process of low priority works them out.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from escapevelocity.errors import UserError
from escapevelocity.report._shown import shown
from escapevelocity.report.live import Guard, Shared, Told, answer, told
from escapevelocity.report.live_files import page, web_file
from escapevelocity.study.dashboard_records import Records
from escapevelocity.study.dashboard_run import charts_json, require_known, require_whole, run_json
from escapevelocity.study.dashboard_scan import Scan, Scanner, is_study
from escapevelocity.study.dashboard_verdicts import AGAIN, Ask, Verdicts, WorkerProcess
from escapevelocity.study.dashboard_views import (
    alarms_json,
    grid_json,
    list_json,
    progress_of,
    rows_json,
    studies_json,
)

EVERY = 2.0
"""Least seconds between two looks at the disk."""
_KEPT = 32  # Answers about single runs that are kept.
_FOREVER = "public, max-age=31536000, immutable"
_PAGES = {"/": "runs", "/run": "run", "/compare": "compare", "/studies": "studies", "/alarms": "alarms"}


class _Answer:
    """A ready answer, and the state that it depends on."""

    def __init__(self) -> None:
        self.making = threading.Lock()
        self.state: Hashable = None
        self.ready: Told | None = None


class Dashboard:
    """What all viewers share: one look at the disk per interval, records, verdicts and ready answers.

    Args:
        root: the folder.
        ask: judges one run; by default a process of its own does.
        every: least seconds between two looks at the disk.
        again: a run whose records change is judged again after this many times what its last verdict took.

    Raises:
        UserError: `root` is not a folder.
    """

    def __init__(
        self, root: str | Path, ask: Ask | None = None, every: float = EVERY, again: float = AGAIN
    ) -> None:
        self.scanner = Scanner(root)
        self.records = Records(self.scanner.root)
        self._worker = WorkerProcess(self.scanner.root)
        self.verdicts = Verdicts(ask or self._worker.ask, again)
        self.looks = Shared(self._look, every)
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def title(self) -> str:
        """What the folder is called."""
        return shown(self.scanner.root.resolve().name or self.scanner.root)

    def start(self) -> None:
        """Begin to look and to judge, before anybody asks."""
        self.verdicts.start()
        threading.Thread(target=self._first_look, name="first-look", daemon=True).start()

    def stop(self) -> None:
        """End what works in the background."""
        self.verdicts.stop()
        self._worker.close()

    def _first_look(self) -> None:
        with contextlib.suppress(UserError):  # Who asks is told.
            self.looks.get()

    def _look(self) -> Scan:
        scan = self.scanner.scan()
        self.verdicts.want(scan.entries.values())
        return scan

    def ready(self, what: Hashable, state: Hashable, make: Callable[[], Any]) -> Told:
        """Give the answer to a question, made anew only when the state has changed that it depends on."""
        with self._lock:
            kept = self._answers.setdefault(what, _Answer())
            self._answers.move_to_end(what)
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
        with kept.making:  # Who asks the same meanwhile waits for it.
            if kept.ready is None or kept.state != state:
                kept.ready, kept.state = told(make()), state
            return kept.ready

    # ---- what is asked for ---------------------------------------------------------------------------------------

    def runs(self, query: Mapping[str, list[str]]) -> Told:
        """The list of runs."""
        scan, version = self.looks.get(), self.verdicts.version
        return self.ready("runs", (scan.number, version), lambda: list_json(scan, self.verdicts))

    def alarms(self, query: Mapping[str, list[str]]) -> Told:
        """All alarms."""
        scan, version = self.looks.get(), self.verdicts.version
        return self.ready("alarms", (scan.number, version), lambda: alarms_json(scan, self.verdicts))

    def studies(self, query: Mapping[str, list[str]]) -> Told:
        """Folders of runs; with `store`, the grid of one."""
        scan, version = self.looks.get(), self.verdicts.version
        if "store" not in query:
            made = [store for store in scan.stores if is_study(self.scanner.root, store)]
            return self.ready("studies", scan.number, lambda: studies_json(scan, made))
        store = query["store"][0]
        if store not in scan.stores:
            raise UserError(f"store = {shown(store)!r}: must be a folder of runs below the dashboard's")
        return self.ready(
            ("grid", store), (scan.number, version), lambda: grid_json(scan, self.verdicts, store)
        )

    def run(self, query: Mapping[str, list[str]]) -> Told:
        """All about one run but its curves."""
        scan = self.looks.get()
        (entry,) = require_known(query.get("run", [])[:1], scan.entries)
        self.verdicts.first(entry.name)
        # What a run of a study tells of its progress comes between its records.
        told_so_far = progress_of(entry, scan), self.verdicts.version_of(entry)
        state = entry.fingerprint, scan.states[entry.name], told_so_far
        return self.ready(("run", entry.name), state, lambda: self._tell(entry.name, scan))

    def _tell(self, name: str, scan: Scan) -> dict[str, Any]:
        entry = scan.entries[name]
        (row,) = rows_json([name], scan, self.verdicts)
        return {"row": row, "judged": self.verdicts.of(entry), **run_json(entry, self.records, scan.entries)}

    def curves(self, query: Mapping[str, list[str]]) -> Told:
        """Curves of one run, or of several side by side."""
        scan = self.looks.get()
        entries = require_known(query.get("run", []), scan.entries)
        require_whole(entries)
        columns = tuple(column for column in query.get("column", []) if column)
        verdicts = [self.verdicts.of(entry) for entry in entries]
        state = tuple(entry.fingerprint for entry in entries), tuple(map(self.verdicts.version_of, entries))
        what = ("curves", *(entry.name for entry in entries), columns)
        return self.ready(what, state, lambda: charts_json(entries, self.records, columns, verdicts))


def make_app(dashboard: Dashboard, names: Collection[str] = ()) -> ASGIApp:
    """Make the application.

    Args:
        dashboard: what it shows; it is started and stopped with the application.
        names: host names that are answered besides localhost and numeric addresses.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        dashboard.start()
        try:
            yield
        finally:
            dashboard.stop()

    questions = {
        "runs": dashboard.runs,
        "run": dashboard.run,
        "curves": dashboard.curves,
        "studies": dashboard.studies,
        "alarms": dashboard.alarms,
    }
    routes = [
        *(Route(path, _shell(name, dashboard)) for path, name in _PAGES.items()),
        *(Route(f"/api/{name}", _api(ask)) for name, ask in questions.items()),
        Route("/static/{name}", _static),
    ]
    return Guard(Starlette(routes=routes, lifespan=lifespan, exception_handlers={500: _failed}), names)


def _shell(name: str, dashboard: Dashboard) -> Callable[[Request], Any]:
    async def show(request: Request) -> Response:
        text = page(f"dashboard-{name}.html", {"here": name, "root": dashboard.title})
        return HTMLResponse(text, headers={"Cache-Control": "no-cache"})

    return show


def _api(ask: Callable[[Mapping[str, list[str]]], Told]) -> Callable[[Request], Any]:
    async def reply(request: Request) -> Response:
        query = {name: request.query_params.getlist(name) for name in request.query_params}
        try:
            ready = await run_in_threadpool(ask, query)
        except UserError as error:
            ready = told({"error": shown(error)})
            return Response(ready.body, 404, media_type=ready.kind)
        return answer(request, ready)

    return reply


async def _static(request: Request) -> Response:
    try:
        ready = await run_in_threadpool(web_file, request.path_params["name"])
    except UserError:
        return PlainTextResponse("There is no such file.\n", 404)
    return answer(request, ready, _FOREVER if request.url.query else "no-cache")


async def _failed(request: Request, error: Exception) -> Response:
    return Response(
        told({"error": f"the dashboard failed: {type(error).__name__}"}).body,
        500,
        media_type="application/json",
    )
