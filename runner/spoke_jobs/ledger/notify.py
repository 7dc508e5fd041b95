"""Notify workers and sync of new work: PostgreSQL's NOTIFY, on separate connections and after the commit.

A NOTIFY in the caller's transaction would break two-phase commit, and all commits would wait for one lock. Errors here
are ignored, because workers also poll. On SQLite, workers only poll.

A change of a limit is notified in its own transaction (:mod:`spoke_jobs.ledger.limits_and_pauses.limit_rows`): such
changes are rare, and workers must learn of a pause at its commit.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, Engine, TextClause, event, text

from spoke_jobs.ledger.tables import SCHEMA
from spoke_jobs.shared.token_bucket import TokenBucket

logger = logging.getLogger(__name__)

_SUFFIX = f"_{SCHEMA}" if SCHEMA else ""
"""Channels belong to the whole database. An application's notifications wake no other application's processes."""
CHANNEL = f"spoke_jobs{_SUFFIX}"
TASKS_CHANNEL = f"spoke_tasks{_SUFFIX}"
"""The outbox's channel, so that tasks do not wake the workers that wait for jobs."""
LIMITS = "limits"
"""The payload of the notification that a limit or a pause has changed."""
LIMITS_MARK = b"L"
"""What a socket of :func:`listen` then receives. It receives other bytes for other notifications."""
_NO_WAIT = text("SET synchronous_commit = off")
"""A notification is lost if the server crashes, so its commit need not wait for the disk."""
_PAUSE_SECONDS = 1.0
_WAKES_PER_SECOND = 100.0
_WAKES_AT_ONCE = 200.0
"""Bounds on how often notifications wake a process: every role that may connect can send any number of them. Later ones
are passed on together."""


_REQUESTED = "spoke_notify"


def request_notification(connection: Connection) -> None:
    """Ask for a notification once the connection's transaction has ended. After a rollback it is one too many."""
    connection.info[_REQUESTED] = True


def on_request(engine: Engine, notify: Callable[[], None]) -> None:
    """Call ``notify`` after each transaction of the engine that has asked for it. Only the engine's first call counts.

    A connection returns to its pool after the commit, whoever has committed: a ledger, or the session of a job.
    """
    with _LISTENING:
        if engine in _HEARD:  # one notification is enough, and SQLAlchemy's listeners must not change while they run
            return
        _HEARD.add(engine)

    @event.listens_for(engine, "checkin")
    def on_checkin(_connection: Any, record: Any) -> None:
        if record.info.pop(_REQUESTED, False):
            notify()


_HEARD: WeakSet[Engine] = WeakSet()
_LISTENING = threading.Lock()


def send_requested(connection: Connection) -> None:
    """Notify now if a transaction of the connection has asked for it: for a connection that does not return to a pool.

    For PostgreSQL. Call it after the commit; the notification has a transaction of its own.
    """
    if connection.info.pop(_REQUESTED, False):
        with connection.begin():
            connection.execute(_notification(CHANNEL))


def _notification(channel: str) -> TextClause:
    return text(f"SELECT pg_notify('{channel}', '')")  # (a constant)


class Notifier:
    """Coalesces notifications: dispatches during one notification share the next one."""

    def __init__(self, engine: Engine, channel: str = CHANNEL) -> None:
        self._send = _notification(channel)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._available = engine.dialect.name == "postgresql"
        self._requested = threading.Event()
        self._closed = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """Make workers claim jobs. Return immediately."""
        if not self._available:
            return
        self._requested.set()
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._work, name="spoke-notify", daemon=True)
                    # If no thread can be started now, the next call tries again.
                    with contextlib.suppress(RuntimeError):
                        thread.start()
                        self._thread = thread

    def close(self) -> None:
        """Send a pending notification, and stop."""
        self._closed = True
        self._requested.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _work(self) -> None:
        while True:
            self._requested.wait()  # while the database is away, only a pending notification is a reason to connect
            with contextlib.suppress(Exception), self._engine.connect() as connection:
                connection.detach()  # whoever gets it from the pool would not wait for the disk either
                connection.execute(_NO_WAIT)
                while True:
                    self._requested.wait()
                    self._requested.clear()
                    connection.execute(self._send)
                    if self._closed:
                        return
            if self._closed:
                return
            time.sleep(_PAUSE_SECONDS)


def listen(engine: Engine, channel: str = CHANNEL) -> socket.socket | None:
    """Return a socket that becomes readable on each notification; None if the database has no notifications."""
    if engine.dialect.name != "postgresql":
        return None
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    threading.Thread(target=_listen, args=(engine, theirs, channel), name="spoke-listen", daemon=True).start()
    return ours


def _listen(engine: Engine, wake: socket.socket, channel: str) -> None:
    while True:
        with contextlib.suppress(Exception):
            connection = engine.raw_connection()
            driver: Any = connection.driver_connection
            connection.detach()  # a connection that listens must not return to the pool
            with contextlib.closing(driver):
                driver.autocommit = True
                driver.execute(f"LISTEN {channel}")
                pass_on(driver, wake)
                wake.close()
                return
        logger.debug("lost the connection for notifications; polling until it is restored")
        time.sleep(_PAUSE_SECONDS)


def pass_on(
    driver: Any,
    wake: socket.socket,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Wake the reader for the connection's notifications. Return once it has closed its socket.

    Any error of the connection is raised.
    """
    wakes = TokenBucket(_WAKES_PER_SECOND, _WAKES_AT_ONCE, clock)
    limits_changed = True  # notifications may have been lost before the connection was made
    while True:
        try:
            wake.send(LIMITS_MARK if limits_changed else b".")
            owed = None
        except BlockingIOError:  # the reader has not read earlier ones; it must still learn of the limits
            owed = _PAUSE_SECONDS if limits_changed else None
        except BrokenPipeError:
            return
        sleep(wakes.take())
        # All that arrived together: what this does not read is lost.
        payloads = [note.payload for note in driver.notifies(timeout=owed, stop_after=1)]
        limits_changed = LIMITS in payloads or owed is not None
