"""sync, with something done to it at a point of its work. Tests run it as a script; ``FAILPOINT`` says what and where:

- ``die before``, ``die after``: the process ends right before its first write, or right after that was answered;
- ``stop before POINT``, ``stop after POINT``: it stops as by SIGSTOP when it first comes to that point, and goes on
  when it is told to.

Points are writes (``api`` or ``sql``, and the action that it is for: ``api Launch``, ``sql FailJob``) and ``list``, the
listing of all SpokeJobs. Each point that is passed is told on standard error.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event

from spoke_jobs.cli import main
from spoke_jobs.cluster.cluster_client import Body, SpokeJobClient
from spoke_jobs.shared.object_fields import Page
from spoke_jobs.sync import sync_process
from spoke_jobs.sync.effects import Effects
from spoke_jobs.sync.leader_loop import Intervals, LeaderLoop
from spoke_jobs.sync.writer import Writer

WROTE = "failpoint_wrote"
call, pages, transaction = SpokeJobClient._call, SpokeJobClient.pages, Writer.transaction
what, when, *where = os.environ["FAILPOINT"].split(maxsplit=2)
doing = [""]
"""The action under way."""


def reached(moment: str, point: str) -> None:
    """Before or after a point."""
    print(f"failpoint: {moment} {point}", file=sys.stderr, flush=True)
    if moment != when or point not in (where or [point]) or (not where and point == "list"):
        return
    if what == "die":
        os._exit(9)
    where[:] = ["nowhere any more"]
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this very thread takes no further step


def calling(self: SpokeJobClient, method: str, *rest: Any, **more: Any) -> Body:
    if method == "GET":
        return call(self, method, *rest, **more)
    reached("before", f"api {doing[-1]}")
    answer = call(self, method, *rest, **more)  # one that is refused was no write
    reached("after", f"api {doing[-1]}")
    return answer


def listing(self: SpokeJobClient) -> Iterator[Page]:
    reached("before", "list")
    yield from pages(self)
    reached("after", "list")


@contextmanager
def committing(self: Writer) -> Iterator[Connection]:
    with transaction(self) as connection:
        connection.info[WROTE] = False
        yield connection
        if wrote := connection.info[WROTE]:
            reached("before", f"sql {doing[-1]}")
    if wrote:
        reached("after", f"sql {doing[-1]}")


@event.listens_for(Engine, "after_cursor_execute")
def note(connection: Connection, cursor: Any, _statement: str, _values: Any, context: Any, _many: bool) -> None:
    if (context.isinsert or context.isupdate or context.isdelete) and cursor.rowcount > 0:
        connection.info[WROTE] = True


def named(name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its writes told under that name."""

    @functools.wraps(function)
    def naming(*arguments: Any) -> Any:
        doing.append(name(*arguments))
        try:
            return function(*arguments)
        finally:
            doing.pop()

    return naming


if __name__ == "__main__":
    SpokeJobClient._call = calling  # type: ignore[method-assign]
    SpokeJobClient.pages = listing  # type: ignore[method-assign]
    Writer.transaction = committing  # type: ignore[method-assign]
    Effects._do = named(lambda _, action: type(action).__name__, Effects._do)  # type: ignore[method-assign]
    LeaderLoop._prune = named(lambda _: "Prune", LeaderLoop._prune)  # type: ignore[method-assign]
    sync_process.Intervals = functools.partial(Intervals, prune=0.5)  # type: ignore[misc, assignment]
    main()
