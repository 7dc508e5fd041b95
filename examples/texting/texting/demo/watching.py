"""Wait and show progress: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

POLL_SECONDS = 0.1
STALL_SECONDS = 120.0
"""How long a wait may see no change before it fails."""
_LINE_PERCENT = 20


class Stalled(Exception):
    """The wait saw no change for too long."""


class Runs(Protocol):
    """A process that must run during a wait."""

    def check(self) -> None:
        """Raise if it has exited."""


@dataclass(frozen=True, slots=True)
class Waited:
    """The progress of a wait."""

    over: bool
    percent: int = 0
    words: str = ""


def wait_for(
    poll: Callable[[], Waited],
    *,
    what: str,
    alive: Sequence[Runs] = (),
    show: Callable[[Waited], None] = lambda _: None,
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Call ``poll`` until the wait is over.

    :param alive: the processes that it depends on, checked at each poll.
    :raises Stalled: if nothing has changed for ``stall_seconds``.
    """
    last, changed = None, time.monotonic()
    while not (now := poll()).over:
        for each in alive:
            each.check()
        if now != last:
            last, changed = now, time.monotonic()
            show(now)
        elif time.monotonic() - changed > stall_seconds:
            raise Stalled(f"nothing has happened for {stall_seconds:.0f} s while waiting for {what} ({now.words})")
        time.sleep(POLL_SECONDS)
    show(now)


@contextmanager
def progress_of(console: Console, title: str) -> Iterator[Callable[[Waited], None]]:
    """Show the progress of one step, and its duration."""
    if not console.is_terminal:
        yield _Lines(console, title)
        return
    columns = (
        TextColumn("  [bold]{task.description:<9}"),
        BarColumn(bar_width=22),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[words]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=100, words="")
        yield lambda now: bar.update(task, completed=100 if now.over else now.percent, words=now.words)


class _Lines:
    """Print a line for each twenty percent. Used where there is no terminal."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._printed = -_LINE_PERCENT
        self._begun = time.monotonic()

    def __call__(self, now: Waited) -> None:
        percent = 100 if now.over else now.percent
        if now.over or percent >= self._printed + _LINE_PERCENT:
            self._printed = percent
            took = time.monotonic() - self._begun
            self._console.print(f"  {self._title:<9} {percent:>3}%  {took:5.1f} s  {now.words}", highlight=False)
