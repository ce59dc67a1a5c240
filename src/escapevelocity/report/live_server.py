"""Run a web application on this machine until Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable

from starlette.types import ASGIApp

from escapevelocity.errors import UserError, require

_MOST_PORT = 65_535
_NEXT = 20  # Ports that are tried behind the usual one.
_GRACE = 1  # Seconds that open answers have when the server ends.


def open_socket(host: str, port: int | None, usual: int) -> socket.socket:
    """Listen on an address.

    Args:
        host: an address or name of this machine.
        port: the port, 0 for any; None for the usual one, or the next that is free.
        usual: that one.

    Raises:
        UserError: the port is taken, or the host is not this machine's.
    """
    require(port is None or 0 <= port <= _MOST_PORT, "port", port, f"from 0 (any) to {_MOST_PORT}")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"host = {host!r}: must be an address of this machine, such as 127.0.0.1") from error
    wanted = [port] if port is not None else range(usual, min(usual + _NEXT, _MOST_PORT + 1))
    for one in wanted:
        found = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name != "nt":  # There it would take the port from whoever has it.
                found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind((address[0], one, *address[2:]))
            found.listen()
            return found
        except OSError as error:
            found.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise UserError(
                f"host = {host!r}: must be an address of this machine ({error.strerror})"
            ) from error
    if port is None:
        raise UserError(f"ports {usual} to {wanted[-1]} of {host} are taken; --port 0 takes any that is free")
    raise UserError(
        f"port = {port}: must be free, it is taken or reserved; leave --port out for the next free one"
    )


def address_of(listening: socket.socket) -> str:
    """Give the URL under which a browser on this machine finds it."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_local(listening: socket.socket) -> bool:
    """Say whether only this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def serve(app: ASGIApp, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Answer requests until Ctrl-C or SIGTERM.

    Args:
        app: the application.
        listening: where (`open_socket`); it is closed at the end.
        ready: called when the first request could be answered.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                ready()

    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `Host` is what the browser sent.
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_GRACE,
    )
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how one ends it.
        Server(config).run(sockets=[listening])
