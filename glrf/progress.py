"""Progress bars, always on stderr, so that stdout stays what was asked for."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S: Final = 10.0


class Report(Protocol):
    """Tells how much of how much is done, in whatever unit; a total of `None` is unknown."""

    def __call__(self, done: int, total: int | None) -> None: ...


@contextmanager
def bar(what: str) -> Iterator[Report]:
    """A bar for one task on a terminal; in a log, a line every ten seconds."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def report(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield report


def _lines(what: str, console: Console, clock: Callable[[], float] = time.monotonic) -> Report:
    last_s = clock()

    def report(done: int, total: int | None) -> None:
        nonlocal last_s
        if clock() - last_s >= LINE_EVERY_S:
            last_s = clock()
            of = "" if total is None else f" of {total}"
            console.print(f"{what}: {done}{of}", markup=False, highlight=False, soft_wrap=True)

    return report
