"""Where tasks run: threads for ``def`` tasks, an event loop in a thread of its own for ``async def`` tasks."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.tasks.protocol.messages import Acknowledgement, TaskOutcome
from spoke_jobs.tasks.server.task_run import AcceptedTask, run_async, run_def

_TICK_SECONDS = 0.25
_BLOCKED_SECONDS = 1.0
"""An event loop that has not ticked for this long is blocked."""

logger = logging.getLogger(__name__)

Ended = Callable[[AcceptedTask, Acknowledgement], None]
Wanted = Callable[[AcceptedTask], bool]


class _Completions:
    """Passes ended tasks to the server's loop. One wake-up serves all tasks that end before the loop handles it."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended
        self._done: deque[tuple[AcceptedTask, Acknowledgement]] = deque()
        self._notified = False
        self.loop: asyncio.AbstractEventLoop | None = None

    def add(self, entry: AcceptedTask, ack: Acknowledgement) -> None:
        """Pass one task. Safe from any thread: this appends before it checks, and `_collect` clears before it reads."""
        self._done.append((entry, ack))
        if not self._notified and self.loop is not None:
            self._notified = True
            with suppress(RuntimeError):  # the loop is closed: the process is ending, and this task was returned
                self.loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._notified = False
        while self._done:
            self._ended(*self._done.popleft())


class WaitingTasks:
    """Tasks that have not started. Tasks of requests and of the outbox are taken in turns.

    Safe from any thread. If two threads take at the same time, one may get None although a task waits.
    """

    def __init__(self) -> None:
        # of requests, of the outbox
        self._by_source: tuple[deque[AcceptedTask], deque[AcceptedTask]] = (deque(), deque())
        self._turn = 0

    def put(self, entry: AcceptedTask) -> None:
        self._by_source[entry.run.claim is not None].append(entry)

    def take(self) -> AcceptedTask | None:
        """Take the next task; None if there is none."""
        waiting, self._turn = self._by_source, 1 - self._turn
        try:
            return (waiting[self._turn] or waiting[1 - self._turn]).popleft()
        except IndexError:  # it was empty, or another thread has just taken the last task
            return None

    def take_all(self) -> list[AcceptedTask]:
        return list(iter(self.take, None))

    def __len__(self) -> int:
        return len(self._by_source[0]) + len(self._by_source[1])


class _Slots:
    """A bounded number of tasks at once, and those that wait for a slot."""

    def __init__(self, concurrency: int, wanted: Wanted, ended: Ended) -> None:
        self.entries: list[AcceptedTask | None] = [None] * concurrency
        """By slot, the task that runs there."""
        self._wanted = wanted
        self._completions = _Completions(ended)
        self._todo = WaitingTasks()

    @property
    def queued(self) -> int:
        """How many tasks have not started."""
        return len(self._todo)

    def take_all(self) -> list[AcceptedTask]:
        """Take back the tasks that have not started."""
        return self._todo.take_all()


class ThreadSlots(_Slots):
    """Threads for ``def`` tasks. A thread wakes the next if more tasks wait. So quick tasks need few threads."""

    def __init__(self, concurrency: int, wanted: Wanted, ended: Ended) -> None:
        super().__init__(concurrency, wanted, ended)
        # Daemon threads: a task that hangs must not keep the process from ending.
        self.threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"spoke-task-{slot}", daemon=True)
            for slot in range(concurrency)
        ]
        self._lock = threading.Lock()
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._sleepers = 0
        self._over = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads; ends are reported on this loop."""
        self._completions.loop = loop
        for thread in self.threads:
            thread.start()

    def put(self, entry: AcceptedTask) -> None:
        """Queue a task, to be run when a slot is free."""
        self._todo.put(entry)
        self._wake_one()

    def take_all(self) -> list[AcceptedTask]:
        """Take back the tasks that have not started."""
        with self._lock:
            return super().take_all()

    def stop(self) -> None:
        """End each thread after its current task."""
        self._over = True
        for _ in self.threads:
            self._wakeups.put(None)

    def _wake_one(self) -> None:
        if not self._sleepers:
            return
        with self._lock:
            if not self._sleepers:
                return
            self._sleepers -= 1
        self._wakeups.put(None)

    def _work(self, slot: int) -> None:
        while not self._over:
            with self._lock:
                entry = self._todo.take()
                if entry is None:
                    self._sleepers += 1
                    entry = self._todo.take()  # a task that was put before that line woke no thread
                    if entry is not None:
                        self._sleepers -= 1
            if entry is None:
                self._wakeups.get()
                continue
            if self._todo:
                self._wake_one()
            if not self._wanted(entry):
                continue
            self.entries[slot] = entry
            ack = run_def(entry.run)
            self.entries[slot] = None
            self._completions.add(entry, ack)


class AsyncSlots(_Slots):
    """An event loop that runs a bounded number of ``async def`` tasks at once."""

    def __init__(self, concurrency: int, wanted: Wanted, ended: Ended) -> None:
        super().__init__(concurrency, wanted, ended)
        self._free = list(range(concurrency))
        self._notified = False
        self._running: dict[asyncio.Future[None], AcceptedTask] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticked_at = 0.0
        self._over = False
        self.thread = threading.Thread(target=self._run_loop, name="spoke-task-loop", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; ends are reported on this loop."""
        self._completions.loop = loop
        self._loop = asyncio.new_event_loop()
        self.thread.start()

    def put(self, entry: AcceptedTask) -> None:
        """Queue a task, to be run when a slot is free."""
        self._todo.put(entry)
        if not self._notified:
            self._notified = True
            self._call(self._wake)

    def blocker(self) -> AcceptedTask | None:
        """Return the task that blocks the loop; None if no task blocks it. Safe from any thread."""
        if self._loop is None or time.monotonic() - self._ticked_at < _BLOCKED_SECONDS:
            return None
        current = asyncio.current_task(self._loop)
        return self._running.get(current) if current is not None else None

    def stop(self) -> None:
        """Cancel running tasks, and end the thread."""
        self._call(self._cancel)

    def _call(self, function: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(function)

    def _run_loop(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._tick()
        while not self._over:
            try:
                self._loop.run_forever()
            except BaseException:  # for example sys.exit in an asyncio task that a task started
                logger.exception("an exception left the event loop of the async tasks; continuing")
        self._loop.close()

    def _tick(self) -> None:
        assert self._loop is not None
        self._ticked_at = time.monotonic()
        self._loop.call_later(_TICK_SECONDS, self._tick)

    def _wake(self) -> None:
        self._notified = False
        self._begin()

    def _begin(self) -> None:
        while self._free:
            entry = self._todo.take()
            if entry is None:
                return
            if not self._wanted(entry):
                continue
            slot = self._free.pop()
            self.entries[slot] = entry
            running = asyncio.ensure_future(self._run(slot, entry))
            self._running[running] = entry
            running.add_done_callback(partial(self._run_ended, slot))

    async def _run(self, slot: int, entry: AcceptedTask) -> None:
        self._end(slot, entry, await run_async(entry.run))

    def _run_ended(self, slot: int, running: asyncio.Future[None]) -> None:
        entry = self._running.pop(running)
        if self.entries[slot] is entry:  # another task cancelled all of the loop's, this one before its first step
            self._end(slot, entry, Acknowledgement(entry.run.task.id, TaskOutcome.RETURNED, TaskCause.HELD_UP))

    def _end(self, slot: int, entry: AcceptedTask, ack: Acknowledgement) -> None:
        self.entries[slot] = None
        self._free.append(slot)
        self._completions.add(entry, ack)
        self._begin()

    def _cancel(self) -> None:
        for running in self._running:
            running.cancel()
        self._stopping = asyncio.ensure_future(self._stop())

    async def _stop(self) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=1.0)
        self._over = True
        asyncio.get_running_loop().stop()
