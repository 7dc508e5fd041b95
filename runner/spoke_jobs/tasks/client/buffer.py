"""The tasks that a dispatcher holds: those that wait to be sent, and those that were sent and aren't acknowledged."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from time import monotonic

from spoke_jobs.errors import TaskBufferFull
from spoke_jobs.tasks.protocol.messages import Task


@dataclass(slots=True, eq=False)
class BufferedTask:
    """A task in the dispatcher's keeping."""

    task: Task
    size: int
    """Of its payload, about, in bytes."""
    since: float
    """When it was dispatched, by the monotonic clock."""
    deliveries: int = 0
    losses: int = 0
    """How many replicas died that had accepted it."""

    def next_attempt(self) -> None:
        """Count a run that failed."""
        self.task = replace(self.task, attempt=self.task.attempt + 1)


@dataclass(slots=True)
class Tally:
    """What became of the tasks so far. Written by the delivering thread only."""

    delivered: int = 0
    failed: int = 0
    redelivered: int = 0


class Buffer:
    """Bounded by number and by bytes, counting every task until it is let go. Safe from any thread.

    :param on_waiting: called when a task comes to wait after :meth:`take` has found none, unless it stays awake;
        must be quick.
    """

    def __init__(self, limit: int, limit_bytes: int, on_waiting: Callable[[], None]) -> None:
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._on_waiting = on_waiting
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._empty = threading.Condition(self._lock)
        self._waiting: deque[BufferedTask] = deque()
        self._held: dict[BufferedTask, None] = {}  # in the order in which they came
        self._bytes = 0
        self._taker_sleeps = True

    def put(self, task: Task, size: int, wait_seconds: float) -> None:
        """Hold a task.

        :raises TaskBufferFull: if there is no room within ``wait_seconds``.
        """
        held = BufferedTask(task, size, monotonic())
        with self._lock:
            if not self._fits(size) and not self._room.wait_for(lambda: self._fits(size), wait_seconds):
                raise self.full(task.name, wait_seconds)
            self._held[held] = None
            self._bytes += size
            self._waiting.append(held)
            if not self._taker_sleeps:
                return
            self._taker_sleeps = False
        self._on_waiting()

    def full(self, name: str, wait_seconds: float) -> TaskBufferFull:
        """What says that a task has waited so long for room, and none came."""
        return TaskBufferFull(
            f"{len(self._held):,} tasks ({self._bytes:,} bytes) wait to be delivered, and no room came within "
            f"{wait_seconds:g} s: task {name!r} was not dispatched. Is the task deployment up (SPOKE_TASKS_URL), and "
            "large enough?"
        )

    def take(self, limit: int, limit_bytes: int, *, stays_awake: bool = False) -> list[BufferedTask]:
        """The oldest waiting tasks: at most ``limit``, and of ``limit_bytes`` unless the first alone is larger.

        :param stays_awake: the taker looks again by itself where there is none.
        """
        taken: list[BufferedTask] = []
        with self._lock:
            while self._waiting and len(taken) < limit:
                limit_bytes -= self._waiting[0].size
                if taken and limit_bytes < 0:
                    break
                taken.append(self._waiting.popleft())
            self._taker_sleeps = not taken and not stays_awake
        return taken

    def begin_anew(self) -> None:
        """Let everything wait that is held: whoever had taken it is gone."""
        with self._lock:
            self._waiting = deque(self._held)

    def give_back(self, tasks: Iterable[BufferedTask]) -> None:
        """Let tasks wait again, before all others. For the taker, which must look again by itself."""
        with self._lock:
            self._waiting.extendleft(reversed(list(tasks)))

    def let_go(self, tasks: Iterable[BufferedTask]) -> None:
        """Forget tasks whose end is known."""
        with self._lock:
            for held in tasks:
                if held in self._held:
                    del self._held[held]
                    self._bytes -= held.size
            self._room.notify_all()
            if not self._held:
                self._empty.notify_all()

    def wait_empty(self, timeout: float | None) -> bool:
        """Wait until nothing is held; whether that came about in time (seconds)."""
        with self._lock:
            return self._empty.wait_for(lambda: not self._held, timeout)

    def held(self) -> list[Task]:
        """Everything that is held."""
        with self._lock:
            return [held.task for held in self._held]

    def counts(self) -> tuple[int, int]:
        """How many tasks are held, and how many of them wait to be sent."""
        with self._lock:
            return len(self._held), len(self._waiting)

    def _fits(self, size: int) -> bool:
        return len(self._held) < self._limit and (not self._held or self._bytes + size <= self._limit_bytes)
