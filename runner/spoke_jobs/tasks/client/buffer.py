"""The tasks that a dispatcher keeps: those that wait to be sent, and those sent and not yet acknowledged."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from time import monotonic

from spoke_jobs.errors import TaskBufferFull
from spoke_jobs.tasks.client.foreign_answers import Refusals
from spoke_jobs.tasks.protocol.messages import Task


@dataclass(slots=True, eq=False)
class BufferedTask:
    """A task whose end is not known yet."""

    task: Task
    size: int
    """Approximate bytes of the task's payload."""
    since: float
    """When it was dispatched, by the monotonic clock."""
    deliveries: int = 0
    losses: int = 0
    """How many replicas died after they had accepted the task."""
    refusals: Refusals | None = None
    """The refusals of something in front of the server since the server last had the task."""

    def next_attempt(self) -> None:
        """Count a failed run."""
        self.task = replace(self.task, attempt=self.task.attempt + 1)


@dataclass(slots=True)
class Tally:
    """Counts of the tasks sent so far. Only the delivery thread writes them."""

    delivered: int = 0
    failed: int = 0
    redelivered: int = 0


class Buffer:
    """A buffer bounded by number and by bytes. A task counts until it is removed. Safe from any thread.

    :param on_waiting: called when a task arrives after :meth:`take` found none, unless the taker polls. The call must
        be quick.
    """

    def __init__(self, limit: int, limit_bytes: int, on_waiting: Callable[[], None]) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._on_waiting = on_waiting
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._empty = threading.Condition(self._lock)
        self._waiting: deque[BufferedTask] = deque()
        self._kept: dict[BufferedTask, None] = {}  # in the order of their dispatch
        self._bytes = 0
        self._taker_sleeps = True

    def put(self, task: Task, size: int, wait_seconds: float) -> None:
        """Add a task.

        :raises TaskBufferFull: if there is no room within ``wait_seconds``.
        """
        item = BufferedTask(task, size, monotonic())
        with self._lock:
            if not self._fits(size) and not self._room.wait_for(lambda: self._fits(size), wait_seconds):
                raise self.full(task.name, wait_seconds)
            self._kept[item] = None
            self._bytes += size
            self._waiting.append(item)
            if not self._taker_sleeps:
                return
            self._taker_sleeps = False
        self._on_waiting()

    def full(self, name: str, wait_seconds: float) -> TaskBufferFull:
        """Make the error for a task that found no room within ``wait_seconds``."""
        return TaskBufferFull(
            f"the buffer is full: {len(self._kept):,} tasks ({self._bytes:,} bytes) wait to be delivered, and no room "
            f"came within {wait_seconds:g} s. Task {name!r} was not dispatched. Check that the task deployment is up "
            "(SPOKE_TASKS_URL) and has enough replicas"
        )

    def take(self, limit: int, limit_bytes: int, *, polls: bool = False) -> list[BufferedTask]:
        """Take the oldest waiting tasks: at most ``limit``, and at most ``limit_bytes`` unless the first is larger.

        :param polls: whether the taker calls again soon if there is none, so that it needs no wake-up.
        """
        taken: list[BufferedTask] = []
        with self._lock:
            while self._waiting and len(taken) < limit:
                limit_bytes -= self._waiting[0].size
                if taken and limit_bytes < 0:
                    break
                taken.append(self._waiting.popleft())
            self._taker_sleeps = not taken and not polls
        return taken

    def requeue(self, tasks: Iterable[BufferedTask]) -> None:
        """Put tasks back in front of all others. Do not wake the taker, which calls this itself."""
        with self._lock:
            self._waiting.extendleft(reversed(list(tasks)))

    def requeue_all(self) -> None:
        """Put all kept tasks back, because the former taker has ended."""
        with self._lock:
            self._waiting = deque(self._kept)

    def remove(self, tasks: Iterable[BufferedTask]) -> None:
        """Forget tasks whose end is known."""
        with self._lock:
            for item in tasks:
                if item in self._kept:
                    del self._kept[item]
                    self._bytes -= item.size
            self._room.notify_all()
            if not self._kept:
                self._empty.notify_all()

    def wait_empty(self, timeout: float | None) -> bool:
        """Wait until every task is removed; return whether that happened within ``timeout`` seconds."""
        with self._lock:
            return self._empty.wait_for(lambda: not self._kept, timeout)

    def kept(self) -> list[Task]:
        """Return every task that is not removed yet."""
        with self._lock:
            return [item.task for item in self._kept]

    def counts(self) -> tuple[int, int]:
        """Return how many tasks are kept, and how many of them wait to be sent."""
        with self._lock:
            return len(self._kept), len(self._waiting)

    def _fits(self, size: int) -> bool:
        return len(self._kept) < self._limit and (not self._kept or self._bytes + size <= self._limit_bytes)
