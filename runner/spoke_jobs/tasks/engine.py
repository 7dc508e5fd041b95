"""What runs the tasks that a server has accepted: a bounded number at a time, each once, each answered.

``def`` tasks run in threads of ours, ``async def`` ones on the event loop. All state belongs to the loop's thread; the
other threads take tasks from a queue and hand back acknowledgements. It knows nothing of HTTP: whoever accepts a task
(a request today) gives a listener and is told how it ended.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from spoke_jobs.payloads import TASK_LIMIT_BYTES
from spoke_jobs.registry import Definition, Registry
from spoke_jobs.tasks.memory import Ended, Memory, fingerprint
from spoke_jobs.tasks.running import run_async, run_def
from spoke_jobs.tasks.wire import Acknowledgement, Outcome, Task, TaskCause

Listener = Callable[[Acknowledgement], None]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What the engine has done so far."""

    accepted: int = 0
    joined: int = 0
    """Redeliveries of a task that was still here."""
    recalled: int = 0
    """Redeliveries of a task that had ended here."""
    refused: int = 0
    """Failed for good without being run."""
    ended: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))


@dataclass(slots=True, eq=False)
class _Entry:
    """An accepted task, until it has ended."""

    task: Task
    definition: Definition
    listeners: list[Listener]


class Engine:
    """See the module.

    :param concurrency: so many ``def`` tasks at once, and so many ``async def`` ones.
    :param limit: accepted tasks that have not ended, running ones included.
    """

    def __init__(self, registry: Registry, *, concurrency: int, limit: int, memory: Memory | None = None) -> None:
        self.counts = Counts()
        self._registry = registry
        self._concurrency = concurrency
        self._limit = limit
        self._memory = memory or Memory(time.monotonic)
        self._unfinished: dict[str, _Entry] = {}
        self._for_threads: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._for_loop: deque[_Entry] = deque()
        self._on_loop: set[asyncio.Task[None]] = set()
        self._from_threads: deque[tuple[_Entry, Acknowledgement]] = deque()
        self._told_loop = False
        self._finished = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def start(self) -> None:
        """Start the threads. Call it on the event loop that is to run the ``async def`` tasks."""
        self._loop = asyncio.get_running_loop()
        for number in range(self._concurrency):
            # Daemons: a task that hangs must not keep a stopping process from ending.
            threading.Thread(target=self._work, name=f"spoke-task-{number}", daemon=True).start()

    @property
    def room(self) -> int:
        """How many more tasks can be accepted now."""
        return max(0, self._limit - len(self._unfinished))

    @property
    def unfinished(self) -> int:
        """How many accepted tasks have not ended."""
        return len(self._unfinished)

    def knows(self, task: Task) -> bool:
        """Whether the task takes no room: it is here, or its outcome is remembered."""
        return task.id in self._unfinished or _answers(self._memory.recall(task.id), task)

    def accept(self, task: Task, listener: Listener) -> None:
        """Take a task over; ``listener`` is called once, on the loop, perhaps before this returns."""
        if self._finished:
            listener(Acknowledgement(task.id, Outcome.RETURNED, TaskCause.DRAINING))
            return
        answer = self._answer_at_once(task)
        if answer is not None:
            listener(answer)
            return
        here = self._unfinished.get(task.id)
        if here is not None:
            self.counts.joined += 1
            here.listeners.append(listener)
            return
        definition = self._registry.tasks.get(task.name)
        entry = _Entry(task, definition, [listener])
        self._unfinished[task.id] = entry
        self._empty.clear()
        self.counts.accepted += 1
        if definition.is_async:
            self._for_loop.append(entry)
            self._start_on_loop()
        else:
            self._for_threads.put(entry)

    async def finish(self, grace_seconds: float) -> int:
        """Wait for what was accepted; what then still isn't done is returned to its sender. Returns how many those are.

        ``async def`` tasks that still run are cancelled. A thread can't be: it ends with the process.
        """
        try:
            async with asyncio.timeout(grace_seconds):
                await self._empty.wait()
        except TimeoutError:
            pass
        self._finished = True
        left = list(self._unfinished.values())
        self._for_loop.clear()
        for running in self._on_loop:
            running.cancel()
        for entry in left:
            self._end(entry, Acknowledgement(entry.task.id, Outcome.RETURNED, TaskCause.DRAINING))
        for _ in range(self._concurrency):
            self._for_threads.put(None)
        return len(left)

    def _answer_at_once(self, task: Task) -> Acknowledgement | None:
        """The answer to a task that needn't be run, or must not be; None for one that is to run or to be joined."""
        here = self._unfinished.get(task.id)
        ended = self._memory.recall(task.id) if here is None else None
        if (here is not None and fingerprint(here.task) != fingerprint(task)) or (
            ended is not None and ended.fingerprint != fingerprint(task)
        ):
            return self._refuse(task, TaskCause.ID_REUSED, "another task was sent under this id")
        if here is not None:
            return None
        if ended is not None and _answers(ended, task):
            self.counts.recalled += 1
            return ended.ack
        if task.name not in self._registry.tasks:
            return self._refuse(task, TaskCause.UNKNOWN_TASK, f"no task is registered as {task.name!r}")
        if len(task.payload.encode("utf-8", "surrogatepass")) > TASK_LIMIT_BYTES:
            return self._refuse(task, TaskCause.PAYLOAD_TOO_LARGE, f"over {TASK_LIMIT_BYTES:,} bytes")
        return None

    def _refuse(self, task: Task, cause: TaskCause, why: str) -> Acknowledgement:
        self.counts.refused += 1
        logger.error("task %s failed for good, and was not run: %s, %s", task.id, cause, why)
        return Acknowledgement(task.id, Outcome.FAILED_FOR_GOOD, cause)

    def _start_on_loop(self) -> None:
        while self._for_loop and len(self._on_loop) < self._concurrency:
            running = asyncio.ensure_future(self._run_on_loop(self._for_loop.popleft()))
            self._on_loop.add(running)
            running.add_done_callback(self._left_loop)

    async def _run_on_loop(self, entry: _Entry) -> None:
        self._end(entry, await run_async(entry.definition, entry.task))

    def _left_loop(self, running: asyncio.Task[None]) -> None:
        self._on_loop.discard(running)
        self._start_on_loop()

    def _work(self) -> None:
        """A thread's life: take a task, run it, hand its acknowledgement to the loop."""
        while (entry := self._for_threads.get()) is not None:
            if self._unfinished.get(entry.task.id) is not entry:
                continue  # returned to its sender while it waited
            self._from_threads.append((entry, run_def(entry.definition, entry.task)))
            # One wake-up of the loop serves all that end before it gets there. Appended before looking, cleared before
            # collecting: none is overlooked.
            if not self._told_loop and self._loop is not None:
                self._told_loop = True
                with suppress(RuntimeError):  # the loop is closed: the process is ending, and this task was returned
                    self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        self._told_loop = False
        while self._from_threads:
            self._end(*self._from_threads.popleft())

    def _end(self, entry: _Entry, ack: Acknowledgement) -> None:
        if self._unfinished.get(entry.task.id) is not entry:
            return  # it was returned before
        del self._unfinished[entry.task.id]
        self.counts.ended[ack.outcome] += 1
        if ack.outcome is not Outcome.RETURNED:
            self._memory.remember(entry.task, ack)
        for listener in entry.listeners:
            listener(ack)
        if not self._unfinished:
            self._empty.set()


def _answers(ended: Ended | None, task: Task) -> bool:
    """Whether a remembered ending is the answer to ``task``; it isn't to the next attempt after a failure."""
    return ended is not None and not (ended.ack.outcome is Outcome.FAILED and task.attempt > ended.attempt)
