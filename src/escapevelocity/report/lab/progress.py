"""Shows how far a long experiment is: a bar on a terminal, a line per part elsewhere."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")


def track(parts: Sequence[T], name: Callable[[T], str] = str) -> Iterator[T]:
    """Yield the parts and say on standard error which one is being worked on."""
    console = Console(stderr=True)
    if not console.is_terminal:
        for i, part in enumerate(parts):
            print(f"[{i + 1}/{len(parts)}] {name(part)}", file=sys.stderr, flush=True)
            yield part
        return
    columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(parts))
        for part in parts:
            progress.update(task, description=name(part))
            yield part
            progress.advance(task)
