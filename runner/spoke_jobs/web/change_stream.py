"""Tell browsers that something may have changed: server-sent events, from one connection that listens for all viewers.

The events say nothing else: the browser then reads its page again, with all checks. A viewer of some organizations gets
them at fixed intervals, so that they do not tell when jobs of others are dispatched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine

from spoke_jobs.ledger.notify import listen
from spoke_jobs.shared.readable_files import readable_of

SOONEST_SECONDS = 3.0
"""The shortest time between two events of a stream."""
LATEST_SECONDS = 15.0
"""The longest time between two events. Not every change is notified, and on SQLite none is."""
STREAM_SECONDS = 300.0
"""How long a stream lasts. The browser then opens another one, as whoever may look by then."""
MOST_STREAMS = 100
"""The most streams at a time, below the limit on requests in progress."""
BEGIN = b"retry: 5000\n\n"
"""After how many milliseconds a browser opens the stream again."""
EVENT = b"event: changed\ndata: 1\n\n"
_PAUSE_SECONDS = 0.5
"""How long the thread pauses after a notification, so that many of them wake the event loop once."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class _Reader:
    """A stream that is open."""

    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event
    ended: asyncio.Event

    def tell(self, event: asyncio.Event) -> None:
        """Set one of its events, from any thread."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self.loop.call_soon_threadsafe(event.set)


class ChangeStream:
    """The streams of all viewers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._readers: set[_Reader] = set()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._wakeup: tuple[socket.socket, socket.socket] | None = None
        """What ends the thread's wait, and the other side of it. Only who has had a viewer needs to be closed."""

    @property
    def is_full(self) -> bool:
        """Whether another stream would be one too many."""
        return len(self._readers) >= MOST_STREAMS

    async def events(self, *, notified: bool) -> AsyncIterator[bytes]:
        """Yield what a stream sends, until it has lasted for :data:`STREAM_SECONDS` or the process ends.

        :param notified: whether a notification sends the next event, so that it does not wait for its interval.
        """
        with self._reader() as reader:
            yield BEGIN
            ends = time.monotonic() + STREAM_SECONDS
            while time.monotonic() < ends and not await _within(SOONEST_SECONDS, reader.ended):
                await _within(LATEST_SECONDS - SOONEST_SECONDS, reader.changed if notified else reader.ended)
                if reader.ended.is_set():
                    return
                reader.changed.clear()
                yield EVENT

    def end(self) -> None:
        """End all streams, and open no more. Safe in a signal handler."""
        self._ended = True
        for reader in tuple(self._readers):
            reader.tell(reader.ended)
            reader.tell(reader.changed)
        if self._wakeup is not None:
            with contextlib.suppress(OSError):
                self._wakeup[1].send(b".")

    def close(self) -> None:
        """End all streams, and the thread."""
        self.end()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        for side in self._wakeup or ():
            side.close()

    @contextmanager
    def _reader(self) -> Iterator[_Reader]:
        reader = _Reader(asyncio.get_running_loop(), asyncio.Event(), asyncio.Event())
        if self._ended:
            reader.ended.set()
        self._start()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def _start(self) -> None:
        """Start to listen, for the first stream."""
        with self._lock:
            if self._thread is None and not self._ended:
                self._wakeup = wakeups, _ = socket.socketpair()
                self._thread = threading.Thread(
                    target=self._listen, args=[wakeups], name="spoke-web-listen", daemon=True
                )
                self._thread.start()

    def _listen(self, wakeups: socket.socket) -> None:
        try:
            notifications = listen(self._engine)
        except Exception:
            logger.exception("no notifications of changes; browsers read pages again at intervals")
            return
        if notifications is None:
            return
        with contextlib.closing(notifications):
            while not self._ended:
                if notifications in readable_of((notifications, wakeups)):
                    notifications.recv(4096)
                    for reader in tuple(self._readers):
                        reader.tell(reader.changed)
                    readable_of((wakeups,), _PAUSE_SECONDS)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event, for so long. Return whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
