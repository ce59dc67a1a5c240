"""What a local web server needs to be safe and quick: a guard around it, and answers that are made once for all.

The guard lets nobody write, answers only to names that are this machine's, and forbids the pages whatever they do not
need. Nothing here knows what is shown.
"""

from __future__ import annotations

import gzip
import hashlib
import ipaddress
import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        # plotly.js writes style attributes into its drawings; styles cannot run anything.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""The Content-Security-Policy of every answer."""
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_METHODS = ("GET", "HEAD")
_SMALL = 512  # Bytes below which packing gains nothing.


class Guard:
    """Stands before an application: GET and HEAD only, known hosts only, and strict headers on every answer.

    A page elsewhere can have a name of its own resolve to 127.0.0.1 and would then be taken by the browser for this
    server's own (DNS rebinding). Its requests still carry that name in `Host`, so only `localhost`, numeric addresses
    and `names` are answered.

    Args:
        app: the application.
        names: further host names, without ports.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = frozenset(name.lower().rstrip(".") for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["method"] not in _METHODS:
            text = "This page only shows runs: GET and HEAD, nothing else.\n"
            return PlainTextResponse(text, 405, {"Allow": ", ".join(_METHODS)})
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not is_answered(hosts[0], self._names):
            text = "This host name is not answered; `ev dashboard --allow-host NAME` allows one.\n"
            return PlainTextResponse(text, 421)
        return None


def is_answered(host: str, names: Collection[str] = ()) -> bool:
    """Say whether a `Host` header names this machine: localhost, a numeric address, or one of `names`.

    Example:
        >>> [is_answered(host) for host in ("localhost:8420", "[::1]:80", "10.0.0.7", "evil.example")]
        [True, True, True, False]
    """
    host = host.strip().lower()
    if host.startswith("["):
        name, closed, rest = host[1:].partition("]")
        port = rest.removeprefix(":") if rest.startswith(":") else rest
        if not closed:
            return False
    else:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return False
    name = name.rstrip(".")
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Told(NamedTuple):
    """An answer that is made once and given to everybody who asks."""

    body: bytes
    packed: bytes
    """The same, gzipped; empty where that gains nothing."""
    etag: str
    kind: str = "application/json"


def told(value: Any) -> Told:
    """Make an answer of JSON values.

    Raises:
        ValueError: a number that is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return told_bytes(text.encode("utf-8", "replace"), "application/json")


def told_bytes(body: bytes, kind: str, level: int = 5) -> Told:
    """Make an answer of bytes; `kind` is its media type."""
    packed = gzip.compress(body, level, mtime=0) if len(body) >= _SMALL else b""
    return Told(body, packed, f'"{hashlib.sha256(body).hexdigest()[:24]}"', kind)


def answer(
    request: Request, ready: Told, caching: str = "no-cache", extra: Mapping[str, str] | None = None
) -> Response:
    """Send an answer: nothing but 304 to whoever has it already, packed to whoever takes that.

    Args:
        request: who asks.
        ready: the answer.
        caching: how long it may be kept without asking again (`Cache-Control`).
        extra: further headers.
    """
    headers = {"ETag": ready.etag, "Cache-Control": caching, "Vary": "Accept-Encoding", **(extra or {})}
    asked = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if ready.etag in asked:
        return Response(status_code=304, headers=headers)
    body = ready.body
    if ready.packed and "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = ready.packed, "gzip"
    return Response(body, media_type=ready.kind, headers=headers)


class Shared(Generic[T]):
    """Something that is made anew at most once per interval, however many ask; those who come meanwhile wait for it.

    Args:
        make: makes it.
        every: seconds between two makings; 0 makes it for everybody anew. One that takes long is made more rarely, so
            that it never takes more than `share` of the time.
        share: the greatest share of time that making may take.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        make: Callable[[], T],
        every: float,
        share: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._every, self._share, self._clock = make, every, share, clock
        self._lock = threading.Lock()
        self._made: T | None = None
        self._until = -float("inf")
        self.times = 0
        """How often it was made."""

    def get(self) -> T:
        """Give it, made anew if it is old; what making raises is raised to all who ask until it works again."""
        with self._lock:
            now = self._clock()
            if self._made is None or now >= self._until:
                self._made = self._make()
                self.times += 1
                ended = self._clock()
                rest = max(self._every, (ended - now) / self._share) if self._every > 0 else 0.0
                self._until = ended + rest
            return self._made
