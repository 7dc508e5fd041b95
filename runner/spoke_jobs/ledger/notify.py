"""Telling workers that there is work: PostgreSQL's NOTIFY, on connections of our own and after the commit.

Inside the caller's transaction it would break two-phase commit and make every commit wait for one lock. It only saves
time: polling stands behind it, so that what goes wrong here is let go. On SQLite there is polling alone.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from typing import Any

from sqlalchemy import Engine, text

logger = logging.getLogger(__name__)

CHANNEL = "spoke_jobs"
TASKS_CHANNEL = "spoke_tasks"
"""For the outbox: whoever waits for jobs isn't woken by tasks."""
_NO_WAIT = text("SET synchronous_commit = off")
"""A notification is lost with the server anyway: its commit need not wait for the disk."""
_PAUSE_SECONDS = 1.0


class Notifier:
    """Rings for many dispatches at once: those that come while a notification is under way share the next one."""

    def __init__(self, engine: Engine, channel: str = CHANNEL) -> None:
        self._send = text(f"SELECT pg_notify('{channel}', '')")  # (a constant)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._speaks = engine.dialect.name == "postgresql"
        self._requested = threading.Event()
        self._closed = False
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """Have workers look for work. Returns at once."""
        if not self._speaks:
            return
        self._requested.set()
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(target=self._work, name="spoke-notify", daemon=True)
                    # Where there is none to be had now, the next ring tries again.
                    with contextlib.suppress(RuntimeError):
                        thread.start()
                        self._thread = thread

    def close(self) -> None:
        """Send what is due, and end."""
        self._closed = True
        self._requested.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def _work(self) -> None:
        while True:
            with contextlib.suppress(Exception), self._engine.connect() as connection:
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
    """A socket that becomes readable whenever somebody has rung; None where there is only polling."""
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
            connection.detach()  # it stays in this state, and must not go back to the pool with it
            with contextlib.closing(driver):
                driver.autocommit = True
                driver.execute(f"LISTEN {channel}")
                while True:
                    # After a reconnection once without being rung: who rang meanwhile was not heard.
                    with contextlib.suppress(BlockingIOError):
                        wake.send(b".")
                    next(driver.notifies())
        logger.debug("not listening for work; polling alone finds it meanwhile")
        time.sleep(_PAUSE_SECONDS)
