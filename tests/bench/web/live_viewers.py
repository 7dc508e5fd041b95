"""Browsers that wait for changes, and changes: what the streams cost the dashboard, and how soon a viewer is told.

A browser reads its page again after each event. That is a page, which `page_times` measures, and is not done here.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from sqlalchemy import URL
from tests.bench.claims import new_job
from tests.bench.lib.figures import percentile
from tests.bench.lib.processes import BenchError
from tests.bench.web.dashboards import Dashboard
from tests.bench.web.figures import delays
from tests.bench.web.layout import type_name

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.web.change_stream import BEGIN, EVENT

_OPEN_SECONDS = 30.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Streams:
    """What the streams of all viewers cost, and when they were told."""

    viewers: int
    seconds: float
    changes_per_second: float
    """Dispatches that were committed."""
    events_per_viewer: float
    cpu_percent: float
    """Of a core, of the dashboard's process."""
    told_p50: float
    """Seconds from a commit to the next event of a viewer."""
    told_p95: float


@dataclass(slots=True)
class Viewer:
    """What one stream has sent."""

    events: list[float] = field(default_factory=list)
    """When each event came."""
    began: bool = False
    _rest: bytes = b""

    def take(self, data: bytes, now: float) -> None:
        """Count the events in what has arrived.

        :raises BenchError: if it is another answer than a stream.
        """
        self._rest += data
        if not self.began and BEGIN in self._rest:
            if not self._rest.startswith(b"HTTP/1.1 200"):
                raise BenchError(f"no stream, but {self._rest[:100]!r}")
            self.began = True
        count = self._rest.count(EVENT)
        if count:
            self.events += [now] * count
            self._rest = self._rest[self._rest.rindex(EVENT) + len(EVENT) :]


def measure(url: URL, shown: Dashboard, viewers: int, changes: int, seconds: float) -> Streams:
    """Watch the streams while jobs are dispatched."""
    with _watching(shown, viewers) as watched:
        cpu, began = shown.cpu_seconds(), time.monotonic()
        committed = _dispatch(url, changes, seconds)
        taken = time.monotonic() - began
        cpu = shown.cpu_seconds() - cpu
    found = delays(committed, [viewer.events for viewer in watched])
    if not found:
        raise BenchError("no stream got an event about a change")
    return Streams(
        viewers,
        taken,
        len(committed) / taken,
        sum(len(viewer.events) for viewer in watched) / viewers,
        100 * cpu / taken,
        percentile(found, 50),
        percentile(found, 95),
    )


@contextmanager
def _watching(shown: Dashboard, viewers: int) -> Iterator[Sequence[Viewer]]:
    """Open the streams, and read what they send until the block ends. Then close them."""
    watched = [Viewer() for _ in range(viewers)]
    over, problems = threading.Event(), list[BenchError]()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for viewer in watched:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", shown.port)))
            connection.sendall(f"GET /changes HTTP/1.1\r\nHost: 127.0.0.1:{shown.port}\r\n\r\n".encode())
            selector.register(connection, selectors.EVENT_READ, viewer)

        def read() -> None:
            while not over.is_set():
                for key, _ in selector.select(_LOOK_SECONDS):
                    data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                    try:
                        key.data.take(data, time.monotonic())
                    except BenchError as error:
                        problems.append(error)
                    if not data:
                        problems.append(BenchError("the dashboard ended a stream"))
                    if problems:
                        return

        reader = threading.Thread(target=read, name="viewers")
        reader.start()
        try:
            give_up_at = time.monotonic() + _OPEN_SECONDS
            while not all(viewer.began for viewer in watched) and not problems:
                if time.monotonic() > give_up_at:
                    raise BenchError(f"the streams did not begin within {_OPEN_SECONDS:g} s")
                time.sleep(_LOOK_SECONDS)
            yield watched
        finally:
            over.set()
            reader.join()
    if problems:
        raise problems[0]


def _dispatch(url: URL, per_second: int, seconds: float) -> list[float]:
    """Dispatch jobs at a rate, each in a transaction of its own. Return when each was committed."""
    engine = create_engine(url)
    ledger = SqlLedger(engine)
    new, committed = new_job(job_type=type_name(0)), list[float]()
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        due = began + len(committed) / per_second
        if due > now:
            time.sleep(due - now)
        ledger.insert(new)
        committed.append(time.monotonic())
        ledger.notifier.notify()
    ledger.close_notifier()
    engine.dispose()
    return committed
