"""What ``dispatch_task`` hands tasks to under ``kubernetes``: kept here, in memory, until a task server has run them.

A thread delivers in the background (see :mod:`spoke_jobs.tasks.client.delivery`), and one resolves. They start with the
first task, and afresh in a forked child; nothing is started later, since a process that is on its way out starts no
thread. A task server's death loses nothing; this process's loses what it still held.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import itertools
import logging
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spoke_jobs.contract.backoff import Backoff
from spoke_jobs.errors import ConfigurationError, InvalidPayload, TaskBufferFull
from spoke_jobs.payloads import TASK_LIMIT_BYTES
from spoke_jobs.tasks.client.buffer import Buffer, Tally
from spoke_jobs.tasks.client.credentials import Credentials, SharedKey, credentials_of
from spoke_jobs.tasks.client.dispatcher_options import DispatcherOptions, port_of, usable_url
from spoke_jobs.tasks.protocol.messages import NAME_LIMIT, Task, is_task_id

if TYPE_CHECKING:
    from spoke_jobs.tasks.client.delivery import Delivery

__all__ = ["DispatcherOptions", "DispatcherStatistics", "TaskDispatcher", "credentials_of", "resolve_host"]

Resolve = Callable[[str, int], list[str]]
_STOP_SECONDS = 2.0
_ANEW_SECONDS = 1.0
_IMPORT_SECONDS = 5.0
_REST_SECONDS = 1.0
"""How long a fork waits for each of our threads to come to a place where it holds nothing."""
_NAMED_WHEN_LOST = 20
_LOOK_FOR_ROOM = Backoff(base=0.005, maximum=0.1)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DispatcherStatistics:
    """What became of the tasks submitted in this process."""

    submitted: int
    delivered: int
    """Acknowledged as done."""
    failed: int
    """For good."""
    redelivered: int
    """Deliveries beyond each task's first."""
    held: int
    """Neither delivered nor failed yet."""
    waiting: int
    """Held, and not in flight."""


class TaskDispatcher:
    """Delivers tasks to the task deployment. One for a process; any thread may submit.

    :param url: where the deployment listens; a name that resolves to several addresses is balanced over.
    :param credentials: what is shown to it; a string is the shared key.
    :param resolve: host and port to addresses; the system's resolver by default.
    :raises ConfigurationError: if either can't be used, or httpx isn't installed.
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
        self._resolve = resolve or resolve_host
        if importlib.util.find_spec("httpx") is None:
            raise ConfigurationError(
                "sending tasks needs the Python package httpx: pip install 'spoke-jobs[kubernetes]'"
            )
        self._begin()
        _all.add(self)
        atexit.register(self._at_exit)

    def submit(self, name: str, payload: str, task_id: str | None = None, *, wait_seconds: float | None = None) -> None:
        """Have a task run; returns at once unless the buffer is full.

        :param payload: JSON text of at most 100 kB.
        :param task_id: its id, the same at every delivery; made up if none is given.
        :param wait_seconds: for room in a full buffer; ``full_wait_seconds`` of the options by default.
        :raises TaskBufferFull: if no room comes.
        :raises InvalidPayload: over 100 kB, or with a name or id that can't be sent.
        :raises RuntimeError: if the dispatcher is closed.
        """
        if self._closed:
            raise RuntimeError("the task dispatcher is closed")
        size = len(payload) if payload.isascii() else len(payload.encode("utf-8", "surrogatepass"))
        if size > TASK_LIMIT_BYTES:
            raise InvalidPayload(
                f"the payload of {name!r} takes {size:,} bytes; {TASK_LIMIT_BYTES:,} is a task's limit"
            )
        if not 0 < len(name) <= NAME_LIMIT:
            raise InvalidPayload(f"a task's name has 1 to {NAME_LIMIT} characters")
        if task_id is None:
            task_id = f"{self._prefix}{next(self._numbers)}"
        elif not is_task_id(task_id):
            raise InvalidPayload(f"{task_id!r} can't be a task's id: use up to 100 letters, digits or ._:-")
        if self._thread is None:
            self._start()
        wait = self._options.full_wait_seconds if wait_seconds is None else wait_seconds
        self._buffer.put(Task(task_id, name, payload), size, wait)

    async def asubmit(self, name: str, payload: str) -> None:
        """:meth:`submit` on an event loop, which goes on while there is no room. No thread waits for it, either.

        The loop has but a few that all its callers share, for looking up names among others.
        """
        looks, wait = 0, self._options.full_wait_seconds
        give_up = time.monotonic() + wait
        while True:
            try:
                return self.submit(name, payload, wait_seconds=0)
            except TaskBufferFull:
                if (left := give_up - time.monotonic()) <= 0:
                    raise self._buffer.full(name, wait) from None
            looks += 1
            await asyncio.sleep(min(_LOOK_FOR_ROOM.after(looks), left))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every task is acknowledged; whether that came about within ``timeout`` seconds."""
        return self._buffer.wait_empty(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Flush, then stop. What could not be delivered is logged, and lost; whether there was nothing of it.

        :param timeout: seconds; ``exit_seconds`` of the options by default.
        """
        self._closed = True
        atexit.unregister(self._at_exit)
        self.flush(self._options.exit_seconds if timeout is None else timeout)
        self._stopped.set()
        self._resolve_now.set()
        if self._delivery is not None:
            self._delivery.stop()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
        lost = self._buffer.held()
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
        """How things stand."""
        held, waiting = self._buffer.counts()
        tally = self._tally
        submitted = held + tally.delivered + tally.failed
        return DispatcherStatistics(submitted, tally.delivered, tally.failed, tally.redelivered, held, waiting)

    def _begin(self) -> None:
        """The state of a process in which nothing has been submitted."""
        self._buffer = Buffer(self._options.buffer_tasks, self._options.buffer_bytes, self._wake)
        self._tally = Tally()
        self._prefix = f"{uuid.uuid4().hex}-"
        self._numbers = itertools.count(1)
        self._closed = False
        self._starting = threading.Lock()
        self._stopped = threading.Event()
        self._resolve_now = threading.Event()
        self._imported = threading.Event()
        self._looks_up = threading.Lock()  # held while the system's resolver is at work
        self._keeps_from_looking_up = False
        self._go_on = threading.Event()
        self._thread: threading.Thread | None = None
        self._resolver: threading.Thread | None = None
        self._delivery: Delivery | None = None

    def _before_fork(self) -> None:
        # A child inherits the locks that our threads hold at this moment, those of modules that are half imported and
        # of the system's resolver among them, and nobody there lets go of them. So our threads stand still meanwhile.
        if self._thread is None:
            return
        if delivers := not self._stopped.is_set():
            self._imported.wait(_IMPORT_SECONDS)
        self._keeps_from_looking_up = self._looks_up.acquire(timeout=_REST_SECONDS)
        self._go_on.clear()
        if delivers and self._delivery is not None:
            at_rest = threading.Event()
            self._delivery.rest(at_rest, self._go_on, 2 * _REST_SECONDS)
            at_rest.wait(_REST_SECONDS)

    def _after_fork_in_parent(self) -> None:
        self._go_on.set()
        if self._keeps_from_looking_up:
            self._keeps_from_looking_up = False
            self._looks_up.release()

    def _after_fork(self) -> None:
        # The parent delivers what it holds. Its loop and connections share file descriptors with ours: they are kept
        # from being collected, because closing them here would disturb the parent's.
        _inherited.append((self._delivery, self._buffer, self._thread))
        self._begin()

    def _start(self) -> None:
        with self._starting:
            if self._resolver is None:
                resolver = threading.Thread(target=self._keep_resolving, name="spoke-task-resolver", daemon=True)
                resolver.start()
                self._resolver = resolver
            if self._thread is None:
                self._thread = threading.Thread(target=self._deliver, name="spoke-task-delivery", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # there are too many: the next task tries again
                    self._thread = None
                    raise

    def _wake(self) -> None:
        if self._delivery is not None:  # if not, it looks by itself when it begins
            self._delivery.wake()

    def _deliver(self) -> None:
        """The delivering thread's life: a fault of ours must not leave tasks waiting for nobody."""
        while not self._stopped.is_set():
            try:
                asyncio.run(self._delivering())
            except Exception:
                logger.exception("the delivery of tasks to %s failed; it begins anew", self._url.netloc)
                self._imported.set()
                self._stopped.wait(_ANEW_SECONDS)

    async def _delivering(self) -> None:
        from spoke_jobs.tasks.client.delivery import Delivery

        self._buffer.begin_anew()
        delivery = Delivery(self._url, self._credentials, self._buffer, self._tally, self._options)
        self._delivery = delivery
        if self._stopped.is_set():  # close() came before there was anything to stop
            delivery.stop()
        self._resolve_now.set()
        await delivery.run(self._imported)

    def _keep_resolving(self) -> None:
        """The resolving thread's life. (The loop's own executor for look-ups takes no work once the process exits.)"""
        host = self._url.hostname or ""
        wait: float | None = None  # until there is a delivery
        while True:
            self._resolve_now.wait(wait)
            self._resolve_now.clear()
            if self._stopped.is_set():
                return
            wait = self._options.resolve_seconds
            try:
                with self._looks_up:
                    found = self._resolve(host, port_of(self._url))
            except (OSError, UnicodeError) as error:  # the latter: it can't be a host's name at all
                logger.error("SPOKE_TASKS_URL: %s can't be resolved (%s); tried again", host, error)  # noqa: TRY400
            else:
                if self._delivery is not None:
                    self._delivery.addresses(found)

    def _at_exit(self) -> None:
        self.close()


_all: weakref.WeakSet[TaskDispatcher] = weakref.WeakSet()
_inherited: list[object] = []


_forking = threading.Lock()
"""Held from before a fork until after it: of two threads that fork, one waits for the other."""


def _before_fork() -> None:
    _forking.acquire()
    for dispatcher in list(_all):
        dispatcher._before_fork()


def _after_fork_in_parent() -> None:
    for dispatcher in list(_all):
        dispatcher._after_fork_in_parent()
    _forking.release()


def _after_fork() -> None:
    for dispatcher in list(_all):
        dispatcher._after_fork()
    _forking.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)


def resolve_host(host: str, port: int) -> list[str]:
    """Every address of a host: a headless service's name has one for each replica."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
