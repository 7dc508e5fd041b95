"""Run accepted tasks, a bounded number at a time. Each runs once, and each is acknowledged.

``def`` tasks run in threads, ``async def`` tasks on an event loop in a thread of its own. So the server's own loop
answers even if a task blocks. All state belongs to the server's loop. The threads take tasks from a queue, and pass
acknowledgements to the loop. The executor does not depend on HTTP or the outbox: both pass a listener with each task,
and the executor calls it with the acknowledgement.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from spoke_jobs.contract.metrics.metric_catalogue import buckets_of
from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.errors import UnknownName
from spoke_jobs.ledger.outbox.task_replicas import SlotUse
from spoke_jobs.ledger.port import SessionFactory
from spoke_jobs.payloads import TASK_LIMIT_BYTES
from spoke_jobs.registry import Registry
from spoke_jobs.shared.histogram import Histogram
from spoke_jobs.shared.thread_stacks import stack_of
from spoke_jobs.tasks.protocol.messages import Acknowledgement, Task, TaskOutcome
from spoke_jobs.tasks.server.slots import AsyncSlots, ThreadSlots
from spoke_jobs.tasks.server.task_run import AcceptedTask, Listener, OutboxClaim, TaskRun, timed_out

REFUSALS = (TaskCause.ID_REUSED, TaskCause.MALFORMED_TASK, TaskCause.PAYLOAD_TOO_LARGE, TaskCause.UNKNOWN_TASK)
_CHECK_SECONDS = 0.25
_CANCEL_SECONDS = 1.0
"""How long an ``async def`` task may take to end once its timeout has cancelled it."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ExecutorCounts:
    """Counts since the start of the process."""

    accepted: int = 0
    joined: int = 0
    """Redeliveries of a task that had not ended yet."""
    recalled: int = 0
    """Redeliveries of a task that had ended in this replica."""
    refused: dict[TaskCause, int] = field(default_factory=lambda: dict.fromkeys(REFUSALS, 0))
    """Tasks that failed for good without being run."""
    timed_out: int = 0
    ended: dict[TaskOutcome, int] = field(default_factory=lambda: dict.fromkeys(TaskOutcome, 0))
    waited: Histogram = field(default_factory=partial(Histogram, buckets_of("spoke_tasks_wait_seconds")))
    """Seconds from dispatch to start."""
    ran: Histogram = field(default_factory=partial(Histogram, buckets_of("spoke_tasks_run_seconds")))
    """Seconds from start to end."""


@dataclass(frozen=True, slots=True)
class RememberedOutcome:
    """How a task ended in this replica."""

    fingerprint: int
    attempt: int
    ack: Acknowledgement
    at: float


class OutcomeCache:
    """The newest outcomes by the task's id, so that a redelivery is answered and not run again.

    They are bounded in number and age. cachetools' TTLCache takes 3.6 us a task more, and half as much memory again
    (docs/architecture/tasks.md).
    """

    def __init__(self, clock: Callable[[], float], *, limit: int = 100_000, seconds: float = 900.0) -> None:
        self._clock = clock
        self._limit = limit
        self._seconds = seconds
        self._ended: OrderedDict[str, RememberedOutcome] = OrderedDict()

    def recall(self, task_id: str) -> RememberedOutcome | None:
        """Return how the task ended; None if its outcome is not in the cache."""
        found = self._ended.get(task_id)
        if found is not None and self._clock() - found.at > self._seconds:
            del self._ended[task_id]
            return None
        return found

    def remember(self, task: Task, ack: Acknowledgement) -> None:
        """Add an outcome. Remove outcomes that are too old, and the oldest ones beyond the limit."""
        now = self._clock()
        self._ended.pop(task.id, None)
        self._ended[task.id] = RememberedOutcome(fingerprint(task), task.attempt, ack, now)
        while len(self._ended) > self._limit or now - next(iter(self._ended.values())).at > self._seconds:
            self._ended.popitem(last=False)

    def __len__(self) -> int:
        return len(self._ended)


def fingerprint(task: Task) -> int:
    """Hash a task's name and payload, to distinguish tasks with the same id. Valid in this process only."""
    return hash((task.name, task.payload))


class TaskExecutor:
    """The executor.

    :param concurrency: how many ``def`` tasks run at once. As many ``async def`` tasks may run, too.
    :param limit: how many accepted tasks may be unfinished, running ones included.
    :param reserved: how much of ``limit`` is reserved for tasks of the outbox. The same amount is reserved for tasks of
        requests. So neither kind can keep the other from running.
    :param sessions: makes ``ctx.session``.
    :param hung_seconds: how long a task may keep its slot beyond its timeout.
    :param on_stuck: called once, on the loop, if the process should restart because tasks hang in its slots. The
        argument describes them.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        concurrency: int,
        limit: int,
        reserved: int = 0,
        outcomes: OutcomeCache | None = None,
        sessions: SessionFactory | None = None,
        hung_seconds: float = 60.0,
        on_stuck: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self.counts = ExecutorCounts()
        self._registry = registry
        self._concurrency = concurrency
        self._limit = limit
        self._reserved = reserved
        self._claimed = 0
        self._outcomes = outcomes or OutcomeCache(time.monotonic)
        self._sessions = sessions
        self._hung_seconds = hung_seconds
        self._on_stuck = on_stuck
        self._stuck = False
        self._unfinished: dict[str, AcceptedTask] = {}
        self._threads = ThreadSlots(concurrency, self._is_wanted, self._end)
        self._coroutines = AsyncSlots(concurrency, self._is_wanted, self._end)
        self._finished = False
        self._empty = asyncio.Event()
        self._empty.set()

    def start(self) -> None:
        """Start the threads. Call this on the server's event loop."""
        loop = asyncio.get_running_loop()
        self._threads.start(loop)
        self._coroutines.start(loop)
        loop.call_later(_CHECK_SECONDS, self._check_for_hung, loop)

    @property
    def room(self) -> int:
        """How many more tasks of requests can be accepted."""
        unfinished = len(self._unfinished)
        return max(0, self._limit - max(unfinished, unfinished - self._claimed + self._reserved))

    @property
    def room_for_claims(self) -> int:
        """How many more tasks of the outbox can be accepted."""
        return max(0, self._limit - max(len(self._unfinished), self._claimed + self._reserved))

    @property
    def unfinished(self) -> int:
        """How many accepted tasks have not ended."""
        return len(self._unfinished)

    @property
    def queued(self) -> int:
        """How many accepted tasks have not started."""
        return self._threads.queued + self._coroutines.queued

    @property
    def running(self) -> int:
        """How many slots are in use."""
        return sum(entry is not None for entry in self._slots())

    @property
    def slot_use(self) -> SlotUse:
        """The slots, and how many are in use. Safe from any thread."""
        of_threads, of_coroutines = (
            sum(entry is not None for entry in list(slots.entries)) for slots in (self._threads, self._coroutines)
        )
        return SlotUse(len(self._threads.entries), of_threads, of_coroutines)

    @property
    def hung(self) -> int:
        """How many slots are in use by tasks that were acknowledged before they ended."""
        return sum(entry is not None and entry.run.given_up for entry in self._slots())

    def knows(self, task: Task) -> bool:
        """Return whether the task needs no room, because it was accepted before or its outcome is cached."""
        return task.id in self._unfinished or _answers(self._outcomes.recall(task.id), task)

    def accept(self, task: Task, listener: Listener, claim: OutboxClaim | None = None) -> None:
        """Accept a task, or refuse it. ``listener`` is called once, on the loop, perhaps before this returns.

        :param claim: the task's claim, if it comes from the outbox.
        """
        if self._finished:
            listener(Acknowledgement(task.id, TaskOutcome.RETURNED, TaskCause.DRAINING))
            return
        if self._is_known(task, listener, claim):
            return
        if _is_too_large(task):
            listener(self._refuse(task, TaskCause.PAYLOAD_TOO_LARGE, f"over {TASK_LIMIT_BYTES:,} bytes"))
            return
        try:
            definition = self._registry.tasks.get(task.name)
        except UnknownName:
            listener(self._refuse(task, TaskCause.UNKNOWN_TASK, f"no task is registered as {task.name!r}"))
            return
        entry = AcceptedTask(TaskRun(task, definition, self._sessions, claim), [listener])
        self._unfinished[task.id] = entry
        self._claimed += claim is not None
        self._empty.clear()
        self.counts.accepted += 1
        (self._coroutines if definition.is_async else self._threads).put(entry)

    async def finish(self, grace_seconds: float, *, running_only: bool = False) -> int:
        """Wait for accepted tasks to end, then return the unfinished ones to their senders.

        ``async def`` tasks that still run are cancelled. A thread cannot be cancelled: it ends with the process.

        :param running_only: first return the tasks that have not started.
        :returns: how many tasks were returned to their senders.
        """
        not_started = 0
        if running_only:
            self._finished = True
            for entry in [*self._threads.take_all(), *self._coroutines.take_all()]:
                self._return(entry, TaskCause.DRAINING)
                not_started += 1
        try:
            async with asyncio.timeout(grace_seconds):
                await self._empty.wait()
        except TimeoutError:
            pass
        self._finished = True
        left = list(self._unfinished.values())
        self._threads.take_all()
        self._coroutines.take_all()
        for entry in left:
            entry.run.given_up = True
            self._return(entry, TaskCause.DRAINING)
        self._threads.stop()
        self._coroutines.stop()
        return len(left) + not_started

    def _is_known(self, task: Task, listener: Listener, claim: OutboxClaim | None) -> bool:
        """Answer a redelivery, or another task with a known id. Return False if the task is new."""
        here = self._unfinished.get(task.id)
        ended = self._outcomes.recall(task.id) if here is None else None
        if claim is not None and ended is not None and ended.ack.outcome is not TaskOutcome.DONE:
            ended = None  # somebody has reset the task's row, perhaps with another payload: run it again
        if (here is not None and fingerprint(here.run.task) != fingerprint(task)) or (
            claim is None and ended is not None and ended.fingerprint != fingerprint(task)
        ):
            listener(self._refuse(task, TaskCause.ID_REUSED, "another task was sent under this id"))
        elif here is not None:
            self.counts.joined += 1
            here.listeners.append(listener)
        elif ended is not None and _answers(ended, task):
            self.counts.recalled += 1
            listener(ended.ack)
        else:
            return False
        return True

    def _slots(self) -> list[AcceptedTask | None]:
        return [*self._threads.entries, *self._coroutines.entries]

    def _is_wanted(self, entry: AcceptedTask) -> bool:
        """Return whether the task must still run: it may have been returned while it waited. Safe from any thread."""
        return self._unfinished.get(entry.run.task.id) is entry

    def _refuse(self, task: Task, cause: TaskCause, why: str) -> Acknowledgement:
        self.counts.refused[cause] += 1
        fields = {"task_id": task.id, "task": task.name, "cause": cause.value}
        logger.error("task %s failed for good without being run: %s, %s", task.id, cause, why, extra=fields)
        return Acknowledgement(task.id, TaskOutcome.FAILED_FOR_GOOD, cause)

    def _return(self, entry: AcceptedTask, cause: TaskCause) -> None:
        """Return a task to its sender, to be delivered again."""
        self._end(entry, Acknowledgement(entry.run.task.id, TaskOutcome.RETURNED, cause))

    def _end(self, entry: AcceptedTask, ack: Acknowledgement) -> None:
        run = entry.run
        if self._unfinished.get(run.task.id) is not entry:
            return  # it was acknowledged before
        del self._unfinished[run.task.id]
        self._claimed -= run.claim is not None
        self.counts.ended[ack.outcome] += 1
        if run.started_at:
            trace_id = run.trace_id
            self.counts.waited.observe(run.task.waited + run.started_at - run.accepted_at, trace_id)
            self.counts.ran.observe(time.monotonic() - run.started_at, trace_id)
        if ack.outcome is not TaskOutcome.RETURNED:
            self._outcomes.remember(run.task, ack)
        for listener in entry.listeners:
            listener(ack)
        if not self._unfinished:
            self._empty.set()

    def _check_for_hung(self, loop: asyncio.AbstractEventLoop) -> None:
        """Acknowledge tasks that do not end after their timeout. Call ``on_stuck`` if they take too many slots."""
        now = time.monotonic()
        hung, longest = 0, 0.0
        blocker = self._coroutines.blocker()
        for slot, entry in enumerate(self._slots()):
            if entry is None or not entry.run.started_at:
                continue
            grace = _CANCEL_SECONDS if entry.run.definition.is_async else 0.0
            over = now - entry.run.started_at - entry.run.definition.task.timeout_seconds - grace
            if over <= 0:
                continue
            if blocker is not None and entry.run.definition.is_async and entry is not blocker:
                if not entry.run.given_up:  # another task blocks the loop: let another replica run this one
                    entry.run.given_up = True
                    self._return(entry, TaskCause.HELD_UP)
                continue
            if not entry.run.given_up:
                entry.run.given_up = True
                self.counts.timed_out += 1
                self._end(entry, timed_out(entry.run))
                logger.error(
                    "task %s has exceeded its timeout, does not end and keeps its slot; it is at %s",
                    entry.run.task.id,
                    self._stack(slot),
                    extra={"task_id": entry.run.task.id, "task": entry.run.task.name},
                )
            hung, longest = hung + 1, max(longest, over)
        if hung and not self._stuck and (hung >= math.ceil(self._concurrency / 2) or longest >= self._hung_seconds):
            self._stuck = True
            self._on_stuck(f"{hung} tasks hang beyond their timeout, the longest for {longest:.0f} s")
        loop.call_later(_CHECK_SECONDS, self._check_for_hung, loop)

    def _stack(self, slot: int) -> str:
        return stack_of(self._threads.threads[slot] if slot < self._concurrency else self._coroutines.thread)


def _answers(ended: RememberedOutcome | None, task: Task) -> bool:
    """Return whether a cached outcome answers ``task``. The outcome of a failed attempt does not answer the next."""
    return ended is not None and not (ended.ack.outcome is TaskOutcome.FAILED and task.attempt > ended.attempt)


def _is_too_large(task: Task) -> bool:
    size = len(task.payload)
    if task.payload.isascii() or size * 4 <= TASK_LIMIT_BYTES:
        return size > TASK_LIMIT_BYTES
    return len(task.payload.encode("utf-8", "surrogatepass")) > TASK_LIMIT_BYTES
