"""The dispatcher of tasks under ``kubernetes``: keep each task in memory until a task server has run it.

Two background threads start with the first task, and again in a forked child. One delivers
(:mod:`spoke_jobs.tasks.client.delivery`), the other resolves the server's name. No thread is started later, because an
exiting process cannot start one. If a task server dies, no task is lost. If this process dies, its kept tasks are lost.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import itertools
import logging
import os
import socket
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spoke_jobs.errors import ConfigurationError, InvalidPayload, TaskBufferFull
from spoke_jobs.payloads import TASK_LIMIT_BYTES
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.tasks.client.buffer import Buffer, Tally
from spoke_jobs.tasks.client.credentials import Credentials, SharedKey, credentials_of
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions, check_ca_file, port_of, usable_url
from spoke_jobs.tasks.protocol.messages import NAME_LIMIT, Task, is_task_id

if TYPE_CHECKING:
    from spoke_jobs.tasks.client.delivery import Delivery

__all__ = ["DispatcherOptions", "DispatcherStatistics", "TaskDispatcher", "credentials_of"]

_STOP_SECONDS = 2.0
_RESTART_SECONDS = 1.0
_IMPORT_SECONDS = 5.0
"""How long a fork waits for the delivery thread to import what it needs."""
_PAUSE_SECONDS = 1.0
"""How long a fork waits for each thread to reach a point where it holds no lock."""
_NAMED_WHEN_LOST = 20
_ROOM_POLL = Backoff(base=0.005, maximum=0.1)
Resolve = Callable[[str, int], list[str]]
"""Returns the addresses of a host and port."""

logger = logging.getLogger(__name__)


def resolve_host(host: str, port: int) -> list[str]:
    """Return every address of a host, by the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Resolver:
    """Resolves a host at the first :meth:`resolve_now`, and every ``seconds`` from then on, in a thread.

    A headless Service has one address for each replica. The delivery loop's own executor cannot be used, because it
    accepts no work while the process exits.

    :param found: called with the addresses, on the resolver's thread.
    """

    def __init__(
        self, host: str, port: int, seconds: float, resolve: Resolve, found: Callable[[list[str]], None]
    ) -> None:
        self._host = host
        self._port = port
        self._seconds = seconds
        self._resolve = resolve
        self._found = found
        self._wake = threading.Event()
        self._stopped = False
        self._busy = threading.Lock()
        """Held during a look-up."""
        self._paused = False

    def start(self) -> None:
        """Start the thread.

        :raises RuntimeError: if no thread can be started.
        """
        threading.Thread(target=self._run, name="spoke-task-resolver", daemon=True).start()

    def resolve_now(self) -> None:
        """Resolve now, and not only after the interval."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread, after a look-up in progress."""
        self._stopped = True
        self._wake.set()

    def pause(self, seconds: float) -> None:
        """Wait up to ``seconds`` for a look-up to end, and start no other until :meth:`resume`."""
        self._paused = self._busy.acquire(timeout=seconds)

    def resume(self) -> None:
        """Allow look-ups again."""
        if self._paused:
            self._paused = False
            self._busy.release()

    def _run(self) -> None:
        wait: float | None = None
        while True:
            self._wake.wait(wait)
            self._wake.clear()
            if self._stopped:
                return
            wait = self._seconds
            try:
                with self._busy:
                    addresses = self._resolve(self._host, self._port)
            except (OSError, UnicodeError) as error:  # UnicodeError: no host can have this name
                logger.error("SPOKE_TASKS_URL: %s can't be resolved (%s); retrying", self._host, error)  # noqa: TRY400
            else:
                self._found(addresses)


@dataclass(frozen=True, slots=True)
class DispatcherStatistics:
    """Counts of the tasks that this process submitted."""

    submitted: int
    delivered: int
    """Acknowledged as done."""
    failed: int
    """Failed for good."""
    redelivered: int
    """Deliveries beyond each task's first."""
    held: int
    """Neither delivered nor failed yet."""
    waiting: int
    """Held, and not in flight."""


class TaskDispatcher:
    """Delivers tasks to the task deployment. One for a process; any thread may submit.

    :param url: where the deployment listens; tasks are balanced over all addresses of its host.
    :param credentials: the credentials for the deployment; a string is the shared key.
    :param resolve: returns the addresses of a host and port; by default the system's resolver.
    :raises ConfigurationError: if the URL, its CA file or the credentials cannot be used, or httpx is not installed.
    """

    def __init__(
        self,
        url: str,
        credentials: str | Credentials,
        *,
        options: DispatcherOptions | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._url = usable_url(url)
        self._credentials = SharedKey(credentials) if isinstance(credentials, str) else credentials
        self._options = options or DispatcherOptions()
        check_ca_file(self._url, self._options.ca_file)
        self._resolve = resolve or resolve_host
        if importlib.util.find_spec("httpx") is None:
            raise ConfigurationError(
                "sending tasks needs the Python package httpx: pip install 'spoke-jobs[kubernetes]'"
            )
        self._reset()
        _all.add(self)
        atexit.register(self.close)

    def submit(
        self,
        name: str,
        payload: str,
        task_id: str | None = None,
        *,
        wait_seconds: float | None = None,
        traceparent: str = "",
    ) -> None:
        """Submit a task. Return at once, unless the buffer is full.

        :param payload: JSON text of at most 100 kB.
        :param task_id: identifies the task at every delivery; generated by default.
        :param wait_seconds: how long to wait for room in a full buffer; by default the options' ``full_wait_seconds``.
        :param traceparent: a valid trace context; empty if there is none.
        :raises TaskBufferFull: if there is no room in time.
        :raises InvalidPayload: if the payload is over 100 kB, or the name or id cannot be sent.
        :raises RuntimeError: if the dispatcher is closed, or no thread can be started.
        """
        if self._closed:
            raise RuntimeError("the task dispatcher is closed")
        size = len(payload) if payload.isascii() else len(payload.encode("utf-8", "surrogatepass"))
        if size > TASK_LIMIT_BYTES:
            raise InvalidPayload(
                f"the payload of {name!r} takes {size:,} bytes; {TASK_LIMIT_BYTES:,} is a task's limit"
            )
        if not 0 < len(name) <= NAME_LIMIT:
            raise InvalidPayload(f"a task's name must have 1 to {NAME_LIMIT} characters; this one has {len(name)}")
        if task_id is None:
            task_id = f"{self._prefix}{next(self._numbers)}"
        elif not is_task_id(task_id):
            raise InvalidPayload(f"{task_id!r} can't be a task's id: use up to 100 letters, digits or ._:-")
        if self._thread is None:
            self._start()
        wait = self._options.full_wait_seconds if wait_seconds is None else wait_seconds
        self._buffer.put(Task(task_id, name, payload, traceparent=traceparent), size, wait)

    async def asubmit(self, name: str, payload: str, *, traceparent: str = "") -> None:
        """:meth:`submit` for callers on an event loop, which a full buffer does not block.

        It polls. A waiting thread would occupy one of the few threads that the loop also needs, for DNS for example.
        """
        polls, wait = 0, self._options.full_wait_seconds
        give_up = time.monotonic() + wait
        while True:
            try:
                return self.submit(name, payload, wait_seconds=0, traceparent=traceparent)
            except TaskBufferFull:
                if (left := give_up - time.monotonic()) <= 0:
                    raise self._buffer.full(name, wait) from None
            polls += 1
            await asyncio.sleep(min(_ROOM_POLL.after(polls), left))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every task is acknowledged; return whether that happened within ``timeout`` seconds."""
        return self._buffer.wait_empty(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Flush, then stop. Log the tasks that could not be delivered: they are lost. Return True if there are none.

        :param timeout: in seconds; by default the options' ``exit_seconds``.
        """
        self._closed = True
        atexit.unregister(self.close)
        self.flush(self._options.exit_seconds if timeout is None else timeout)
        self._stopped.set()
        self._resolver.stop()
        if self._delivery is not None:
            self._delivery.stop()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
        lost = self._buffer.kept()
        if lost:
            logger.error(
                "%d tasks could not be delivered to %s and are lost: %s%s",
                len(lost),
                self._url.netloc,
                ", ".join(f"{task.id} ({task.name})" for task in lost[:_NAMED_WHEN_LOST]),
                ", ..." if len(lost) > _NAMED_WHEN_LOST else "",
            )
        return not lost

    def statistics(self) -> DispatcherStatistics:
        """Return the counts so far."""
        kept, waiting = self._buffer.counts()
        tally = self._tally
        submitted = kept + tally.delivered + tally.failed
        return DispatcherStatistics(submitted, tally.delivered, tally.failed, tally.redelivered, kept, waiting)

    def _reset(self) -> None:
        """Reset to the state before the first task."""
        self._buffer = Buffer(self._options.buffer_tasks, self._options.buffer_bytes, self._wake)
        self._tally = Tally()
        self._prefix = f"{uuid.uuid4().hex}-"
        self._numbers = itertools.count(1)
        self._closed = False
        self._starting = threading.Lock()
        self._stopped = threading.Event()
        self._imported = threading.Event()
        self._resume = threading.Event()
        self._thread: threading.Thread | None = None
        self._delivery: Delivery | None = None
        self._resolver = Resolver(
            self._url.hostname or "", port_of(self._url), self._options.resolve_seconds, self._resolve, self._resolved
        )
        self._resolver_started = False

    def _start(self) -> None:
        with self._starting:
            if not self._resolver_started:
                self._resolver.start()
                self._resolver_started = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._deliver, name="spoke-task-delivery", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # there are too many threads: the next task tries again
                    self._thread = None
                    raise
                _at_multiprocessing_exit(self.close)

    def _wake(self) -> None:
        if self._delivery is not None:  # else the delivery finds the task when it starts
            self._delivery.wake()

    def _resolved(self, addresses: list[str]) -> None:
        if self._delivery is not None:
            self._delivery.addresses(addresses)

    def _deliver(self) -> None:
        """Run the delivery. After an unexpected error run it again, so that no task waits forever."""
        while not self._stopped.is_set():
            try:
                asyncio.run(self._run_delivery())
            except Exception:
                logger.exception("unexpected error; restarting the delivery of tasks to %s", self._url.netloc)
                self._imported.set()
                self._stopped.wait(_RESTART_SECONDS)

    async def _run_delivery(self) -> None:
        from spoke_jobs.tasks.client.delivery import Delivery

        self._buffer.requeue_all()
        delivery = Delivery(self._url, self._credentials, self._buffer, self._tally, self._options)
        self._delivery = delivery
        if self._stopped.is_set():  # `close` found no delivery to stop
            delivery.stop()
        self._resolver.resolve_now()
        await delivery.run(self._imported)

    def _before_fork(self) -> None:
        # A child inherits the locks that our threads hold now, for example of half-imported modules or of the system's
        # resolver, and has no thread to release them. So our threads pause during a fork.
        if self._thread is None:
            return
        if delivers := not self._stopped.is_set():
            self._imported.wait(_IMPORT_SECONDS)
        self._resolver.pause(_PAUSE_SECONDS)
        self._resume.clear()
        if delivers and self._delivery is not None:
            paused = threading.Event()
            self._delivery.pause(paused, self._resume, 2 * _PAUSE_SECONDS)
            paused.wait(_PAUSE_SECONDS)

    def _after_fork_in_parent(self) -> None:
        self._resume.set()
        self._resolver.resume()

    def _after_fork_in_child(self) -> None:
        # The parent delivers the tasks that it keeps. The parent's loop and connections exist here, too, with the same
        # sockets. Keep references to them: closing them here would disturb the parent.
        _inherited.append((self._delivery, self._buffer, self._thread))
        self._reset()


def _at_multiprocessing_exit(function: Callable[[], object]) -> None:
    """Call a function when this process ends, if it is a forked child of multiprocessing: it runs no other handlers."""
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, function, exitpriority=0)


_all: weakref.WeakSet[TaskDispatcher] = weakref.WeakSet()
_inherited: list[object] = []
_forking = threading.Lock()
"""Held during a fork, so that two threads do not fork at the same time."""


def _before_fork() -> None:
    _forking.acquire()
    for dispatcher in list(_all):
        dispatcher._before_fork()


def _after_fork_in_parent() -> None:
    for dispatcher in list(_all):
        dispatcher._after_fork_in_parent()
    _forking.release()


def _after_fork_in_child() -> None:
    for dispatcher in list(_all):
        dispatcher._after_fork_in_child()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
