"""Where tasks run: threads for ``def`` ones, an event loop in a thread of its own for ``async def`` ones."""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from spoke_jobs.contract.causes import TaskCause
from spoke_jobs.tasks.protocol.messages import Acknowledgement, TaskOutcome
from spoke_jobs.tasks.server.task_run import AcceptedTask, run_async, run_def

_TURN_SECONDS = 0.25
_BLOCKED_SECONDS = 1.0
"""An event loop that hasn't come round for so long is blocked."""

logger = logging.getLogger(__name__)

Ended = Callable[[AcceptedTask, Acknowledgement], None]
Wanted = Callable[[AcceptedTask], bool]


class _Back:
    """Hands what has ended to the server's loop: one wake-up serves all that end before it gets there."""

    def __init__(self, ended: Ended) -> None:
        self._ended = ended
        self._done: deque[tuple[AcceptedTask, Acknowledgement]] = deque()
        self._told = False
        self.loop: asyncio.AbstractEventLoop | None = None

    def hand(self, entry: AcceptedTask, ack: Acknowledgement) -> None:
        """From any thread. Appended before looking, cleared before collecting: none is overlooked."""
        self._done.append((entry, ack))
        if not self._told and self.loop is not None:
            self._told = True
            with suppress(RuntimeError):  # the loop is closed: the process is ending, and this task was returned
                self.loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._told = False
        while self._done:
            self._ended(*self._done.popleft())


class WaitingTasks:
    """Entries that have not begun, those of requests and those of the outbox in turns: neither waits for all others.

    Safe from any thread; of several that take at once one may find nothing while another takes the last of a lane.
    """

    def __init__(self) -> None:
        self._lanes: tuple[deque[AcceptedTask], deque[AcceptedTask]] = (deque(), deque())
        self._turn = 0

    def put(self, entry: AcceptedTask) -> None:
        self._lanes[entry.run.claim is not None].append(entry)

    def take(self) -> AcceptedTask | None:
        """The next one; None if there is none."""
        lanes, self._turn = self._lanes, 1 - self._turn
        try:
            return (lanes[self._turn] or lanes[1 - self._turn]).popleft()
        except IndexError:  # both were empty, or have just been taken back
            return None

    def take_all(self) -> list[AcceptedTask]:
        return list(iter(self.take, None))

    def __len__(self) -> int:
        return len(self._lanes[0]) + len(self._lanes[1])


class ThreadSlots:
    """So many threads. One that finds more work than its own wakes the next: quick tasks need few of them."""

    def __init__(self, concurrency: int, wanted: Wanted, ended: Ended) -> None:
        self.entries: list[AcceptedTask | None] = [None] * concurrency
        """What each runs now."""
        # Daemons: a task that hangs must not keep a stopping process from ending.
        self.threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"spoke-task-{slot}", daemon=True)
            for slot in range(concurrency)
        ]
        self._wanted = wanted
        self._back = _Back(ended)
        self._todo = WaitingTasks()
        self._lock = threading.Lock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._sleepers = 0
        self._over = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the threads; ends are told on this loop."""
        self._back.loop = loop
        for thread in self.threads:
            thread.start()

    def put(self, entry: AcceptedTask) -> None:
        """Have it run."""
        self._todo.put(entry)
        self._wake_one()

    @property
    def queued(self) -> int:
        """How many have not begun."""
        return len(self._todo)

    def take_all(self) -> list[AcceptedTask]:
        """Take back what has not begun."""
        with self._lock:
            return self._todo.take_all()

    def stop(self) -> None:
        """Let the threads end, as they come to their ends."""
        self._over = True
        for _ in self.threads:
            self._bell.put(None)

    def _wake_one(self) -> None:
        if not self._sleepers:
            return
        with self._lock:
            if not self._sleepers:
                return
            self._sleepers -= 1
        self._bell.put(None)

    def _work(self, slot: int) -> None:
        while not self._over:
            with self._lock:
                entry = self._todo.take()
                if entry is None:
                    self._sleepers += 1
                    entry = self._todo.take()  # what was put since then has seen no sleeper
                    if entry is not None:
                        self._sleepers -= 1
            if entry is None:
                self._bell.get()
                continue
            if self._todo:
                self._wake_one()
            if not self._wanted(entry):
                continue
            self.entries[slot] = entry
            ack = run_def(entry.run)
            self.entries[slot] = None
            self._back.hand(entry, ack)


class AsyncSlots:
    """So many coroutines at once, on one loop."""

    def __init__(self, concurrency: int, wanted: Wanted, ended: Ended) -> None:
        self.entries: list[AcceptedTask | None] = [None] * concurrency
        """What each runs now."""
        self._free = list(range(concurrency))
        self._wanted = wanted
        self._back = _Back(ended)
        self._todo = WaitingTasks()
        self._told = False
        self._running: dict[asyncio.Future[None], AcceptedTask] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turned_at = 0.0
        self._over = False
        self.thread = threading.Thread(target=self._live, name="spoke-task-loop", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; ends are told on this loop."""
        self._back.loop = loop
        self._loop = asyncio.new_event_loop()
        self.thread.start()

    def put(self, entry: AcceptedTask) -> None:
        """Have it run."""
        self._todo.put(entry)
        if not self._told:
            self._told = True
            self._call(self._look)

    @property
    def queued(self) -> int:
        """How many have not begun."""
        return len(self._todo)

    def take_all(self) -> list[AcceptedTask]:
        """Take back what has not begun."""
        return self._todo.take_all()

    def blocker(self) -> AcceptedTask | None:
        """From any thread: the one that blocks the loop, so that the others can't go on; None if nobody is known to."""
        if self._loop is None or time.monotonic() - self._turned_at < _BLOCKED_SECONDS:
            return None
        current = asyncio.current_task(self._loop)
        return self._running.get(current) if current is not None else None

    def stop(self) -> None:
        """Cancel what runs, and end."""
        self._call(self._cancel)

    def _call(self, function: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(function)

    def _live(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._turn()
        while not self._over:
            try:
                self._loop.run_forever()
            except BaseException:  # sys.exit in a task that a task has started, say: the others go on
                logger.exception("an exception went through the event loop of the async tasks; it goes on")
        self._loop.close()

    def _turn(self) -> None:
        assert self._loop is not None
        self._turned_at = time.monotonic()
        self._loop.call_later(_TURN_SECONDS, self._turn)

    def _look(self) -> None:
        self._told = False
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
            running.add_done_callback(partial(self._leave, slot))

    async def _run(self, slot: int, entry: AcceptedTask) -> None:
        self._end(slot, entry, await run_async(entry.run))

    def _leave(self, slot: int, running: asyncio.Future[None]) -> None:
        entry = self._running.pop(running)
        if self.entries[slot] is entry:  # cancelled before its first step, by a task that cancels all of its loop's
            self._end(slot, entry, Acknowledgement(entry.run.task.id, TaskOutcome.RETURNED, TaskCause.HELD_UP))

    def _end(self, slot: int, entry: AcceptedTask, ack: Acknowledgement) -> None:
        self.entries[slot] = None
        self._free.append(slot)
        self._back.hand(entry, ack)
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


def where_it_is(thread: threading.Thread) -> str:
    """What a thread is doing: the places in its code, innermost last; no value of any variable."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "?"
    places = traceback.extract_stack(frame)[-4:]
    return " > ".join(f"{place.filename}:{place.lineno} in {place.name}" for place in places)
