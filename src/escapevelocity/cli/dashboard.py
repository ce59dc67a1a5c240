"""`ev dashboard`: runs and studies in the browser, while they train."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from escapevelocity.cli._parse import parse

_PORT = 8420


@dataclasses.dataclass(frozen=True)
class Dashboard:
    """Show a folder of runs and studies in the browser, up to date while they train, until Ctrl-C.

    A list of all runs with state, speed and verdict; the curves of one; several side by side; the grid of a study; and
    what the early warning says. It only reads, and answers only this machine unless --host says otherwise.
    """

    dir: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")] = Path("runs")
    """The folder that holds runs, of `ev train` or of studies, at any depth."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets everybody in the network look on, without a password."""
    port: int | None = None
    """Port to listen on, 0 for any; by default 8420, or the next that is free."""
    open: tyro.conf.FlagCreatePairsOff[bool] = False
    """Open it in a browser."""
    allow_host: tuple[str, ...] = ()
    """Host names to answer besides localhost and numeric addresses, such as that of a proxy."""


def main(argv: Sequence[str]) -> int:
    """Run `ev dashboard`; returns the exit code."""
    command = parse(Dashboard, argv, "ev dashboard")
    from escapevelocity.report.live_server import address_of, is_local, open_socket, serve
    from escapevelocity.study import dashboard

    shown = dashboard.Dashboard(command.dir)
    listening = open_socket(command.host, command.port, _PORT)
    address = address_of(listening)
    if not is_local(listening):
        print(
            f"warning: everybody who reaches {command.host} can read these runs: there is no password",
            file=sys.stderr,
        )

    def ready() -> None:
        print(f"{command.dir} at {address} (Ctrl-C ends it)", flush=True)
        if command.open:
            import webbrowser

            webbrowser.open(address)

    names = (*command.allow_host, command.host)
    serve(dashboard.make_app(shown, names), listening, ready)
    return 0
