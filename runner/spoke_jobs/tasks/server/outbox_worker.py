"""Run the outbox's tasks: a thread claims them, passes them to the executor, and records their ends.

One thread makes all queries. While it waits for an answer, further tasks end, so that the next statement records many.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.contract.trace_context import is_traceparent
from spoke_jobs.execution.in_process import worker_name
from spoke_jobs.ledger.engine import is_away, reason_of
from spoke_jobs.ledger.notify import TASKS_CHANNEL, listen
from spoke_jobs.ledger.outbox.task_outbox import HOUSEKEPT, Outbox, OutboxTask, TaskFailure
from spoke_jobs.ledger.outbox.task_replicas import SIGN_SECONDS
from spoke_jobs.model import SUSPECT_LOSSES, TASK_LOSSES, UnreadPayload
from spoke_jobs.shared.outage_log import OutageLog
from spoke_jobs.shared.readable_files import readable_of
from spoke_jobs.tasks.protocol.messages import Acknowledgement, Task, TaskOutcome
from spoke_jobs.tasks.server.executor import TaskExecutor

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_AHEAD_SECONDS = 0.1
"""The interval at which the rate of ended tasks is measured. Tasks for two intervals at that rate are claimed ahead."""
_AHEAD_LIMIT = 200
_CLAIM_LIMIT = 100
_HOUSEKEEPING_SECONDS = 30.0
_HOUSEKEEPING_LIMIT_SECONDS = 0.5
"""How long one kind of housekeeping may take at a time: the thread also claims, and renews leases."""
_RECALL_SECONDS = 1.0
"""How often a replica with room looks for tasks that others have set aside, unless it has just found some."""
_RECALL_PAUSE = 10
"""A search for them that takes long, because many tasks wait, is followed by a pause so many times as long."""
_TRIAL_SECONDS = 1.0
"""How often this replica claims a suspect (a task that may kill replicas), unless it has one already."""
_RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxWorkerOptions:
    """How the outbox is served."""

    concurrency: int
    lease_seconds: float
    poll_seconds: float


@dataclass(slots=True)
class OutboxCounts:
    """Counts since the start of the process."""

    claimed: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    returned: int = 0
    taken_over: int = 0
    """Claims of tasks whose earlier claim had lapsed."""
    gone: int = 0
    """Claims that were lost before the task's end was recorded. That end is not recorded."""
    worker_lost: int = 0
    """Failed tasks, counted in ``failed`` too, whose replicas died."""
    unknown: int = 0
    """Tasks that failed for good because no release knows their name. They were not claimed."""
    database_errors: int = 0


class _ClaimedTask:
    """A claimed task, and its claim for the executor (:class:`~spoke_jobs.tasks.server.task_run.OutboxClaim`)."""

    __slots__ = ("finished", "outbox", "task")

    def __init__(self, outbox: Outbox, task: OutboxTask) -> None:
        self.outbox = outbox
        self.task = task
        self.finished = False
        """Whether the task's own transaction has recorded its end."""

    def fence(self, session: Session) -> None:
        self.outbox.fence(session, self.task)

    def finish(self, session: Session) -> None:
        self.outbox.finish(session, self.task)
        self.finished = True


class OutboxWorker:
    """The thread that serves the outbox. Other threads use only the public methods and the counts."""

    def __init__(
        self, outbox: Outbox, names: Collection[str], executor: TaskExecutor, options: OutboxWorkerOptions
    ) -> None:
        self.counts = OutboxCounts()
        self._outbox = outbox
        self._names = list(names)
        self._executor = executor
        self._options = options
        self._worker = worker_name()
        self._held: dict[int, _ClaimedTask] = {}
        self._ended: deque[tuple[_ClaimedTask, Acknowledgement]] = deque()
        self._draining = False
        self._stopping = False
        self._notified = False
        self._wakeups, self._wakeup_sender = socket.socketpair()
        self._wakeup_sender.setblocking(False)
        self._wakeups.setblocking(False)
        self._next_claim = self._next_renewal = self._next_housekeeping = self._next_trial = self._next_recall = 0.0
        self._began = time.monotonic()
        self._next_sign = 0.0
        self._has_signed = self._may_not_sign = False
        self._rate = 0.0
        self._rate_since = time.monotonic()
        self._ended_since = 0
        self._outage = OutageLog(
            logger,
            "the database",
            began="lost the database connection",
            consequence="retrying to serve the outbox",
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="spoke-outbox", daemon=True)

    def backlog(self) -> Mapping[str, float]:
        """Query how many tasks are due or failed, and for how long the oldest has been due."""
        return self._outbox.backlog()

    @property
    def held(self) -> int:
        """How many claims this replica holds."""
        return len(self._held)

    def start(self) -> None:
        """Start the thread. Call this on the executor's loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def drain(self) -> None:
        """Stop claiming. Safe from any thread."""
        self._draining = True
        self._wake()

    def stop(self, seconds: float) -> None:
        """Record ended tasks, release the other claims, and end the thread. Safe from any thread."""
        self._draining = self._stopping = True
        self._wake()
        self._thread.join(seconds)

    def _wake(self) -> None:
        if not self._notified:
            self._notified = True
            with contextlib.suppress(OSError):  # the buffer is full of wake-ups that were not read, or the thread ended
                self._wakeup_sender.send(b".")

    def _run(self) -> None:
        commits = self._listen()
        sockets = [self._wakeups] if commits is None else [self._wakeups, commits]
        while True:
            try:
                wait = self._turn()
            except DBAPIError as error:
                self.counts.database_errors += 1
                self._log(error)
                wait = _RETRY_SECONDS
            except Exception:
                logger.exception("unexpected error serving the outbox; retrying")
                wait = _RETRY_SECONDS
            if self._stopping and not self._ended:
                self._release_all()
                self._sign_off()
                for socket_ in (*sockets, self._wakeup_sender):
                    socket_.close()
                return
            for readable in readable_of(sockets, wait):
                if readable is commits:
                    self._next_claim = 0.0
                with contextlib.suppress(BlockingIOError):
                    readable.recv(4096)
            self._notified = False

    def _listen(self) -> socket.socket | None:
        """Return a socket that is readable when tasks are committed; None if the database cannot notify now."""
        try:
            return listen(self._outbox.engine, TASKS_CHANNEL)
        except Exception:
            logger.exception("no notifications from the outbox; polling it instead")
            return None

    def _turn(self) -> float:
        """Do all that is due. Return the seconds until the next scheduled action."""
        self._record_ends()
        now = time.monotonic()
        if now >= self._next_renewal and self._held:
            self._renew()
            self._next_renewal = now + self._options.lease_seconds / 3
        if now >= self._next_housekeeping:
            self._next_housekeeping = now + _HOUSEKEEPING_SECONDS * (0.5 + random.random())  # noqa: S311  jitter
            self._keep_house()
        if not self._draining and now >= self._next_claim:
            self._claim(now)
        if now >= self._next_sign:
            self._next_sign = now + SIGN_SECONDS
            self._sign()
        if self._ended:
            return 0.0
        due = [self._next_housekeeping, self._next_sign, *([self._next_renewal] if self._held else [])]
        due += [] if self._draining else [self._next_claim]
        return max(0.0, min(min(due) - time.monotonic(), self._options.poll_seconds))

    def _keep_house(self) -> None:
        outbox, names = self._outbox, self._names
        self._while_full(outbox.prune)
        if recalled := self._while_full(lambda: outbox.recall(names)):
            logger.info("%d tasks of the outbox are due: this release knows their names", recalled)
            self._next_claim = 0.0
        if unknown := self._while_full(lambda: outbox.expire_unknown(names)):
            self.counts.unknown += unknown
            logger.error("%d tasks of the outbox failed for good: no release knows their names", unknown)
        if aside := self._while_full(lambda: outbox.set_unknown_aside(names)):
            logger.warning("%d tasks of the outbox were set aside: this release does not know their names", aside)

    def _sign(self) -> None:
        """Say that this replica is alive. Tasks run without that, for example if its role lacks the right so far."""
        try:
            age = time.monotonic() - self._began
            self._outbox.sign(self._worker, self._executor.slot_use, age_seconds=age, first=not self._has_signed)
        except DBAPIError as error:
            if is_away(error):
                raise
            if not self._may_not_sign:
                logger.warning("the dashboard does not show this replica's slots: %s", reason_of(error))
            self._may_not_sign = True
        else:
            self._has_signed, self._may_not_sign = True, False

    def _sign_off(self) -> None:
        if self._has_signed:
            with contextlib.suppress(DBAPIError):
                self._outbox.sign_off(self._worker)

    def _while_full(self, step: Callable[[], int]) -> int:
        """Repeat a step while it changes as many tasks as it may, for a bounded time. Return how many it changed."""
        ends, total = time.monotonic() + _HOUSEKEEPING_LIMIT_SECONDS, 0
        while True:
            count = step()
            total += count
            if count < HOUSEKEPT:
                return total
            if time.monotonic() >= ends:
                self._next_housekeeping = min(self._next_housekeeping, time.monotonic() + _RETRY_SECONDS)
                return total

    def _claim(self, now: float) -> None:
        limit = min(self._room(now), _CLAIM_LIMIT)
        if limit <= 0:
            self._next_claim = now + self._options.poll_seconds  # or when a task ends
            return
        if not self._held:
            self._next_renewal = now + self._options.lease_seconds / 3
        claimant = (self._names, self._worker, self._options.lease_seconds)
        tasks = self._outbox.claim(*claimant, limit)
        self._outage.recovered()
        self._take(tasks)  # before the next statement, which may fail
        if now >= self._next_trial:
            self._next_trial = now + _TRIAL_SECONDS
            if all(one.task.losses < SUSPECT_LOSSES for one in self._held.values()):
                self._take(self._outbox.claim(*claimant, 1, suspects=True))
        more = len(tasks) == limit or self._recall(limit - len(tasks))
        self._next_claim = 0.0 if more else now + self._options.poll_seconds

    def _take(self, tasks: Sequence[OutboxTask]) -> None:
        """Pass claimed tasks to the executor. Refuse those that it must not run."""
        held = []
        for task in tasks:
            self.counts.claimed += 1
            self.counts.taken_over += task.losses > 0
            mine = self._held[task.id] = _ClaimedTask(self._outbox, task)
            if isinstance(task.payload, UnreadPayload):
                self._refuse(mine, TaskCause.PAYLOAD_TOO_LARGE, f"its payload takes {task.payload.size:,} bytes")
            elif task.losses >= TASK_LOSSES:
                self._refuse(mine, TaskCause.WORKER_LOST, f"{task.losses} replicas died while they had it")
            else:
                held.append(mine)
        if held and self._loop is not None:
            self._loop.call_soon_threadsafe(self._accept, held)

    def _recall(self, limit: int) -> bool:
        """Make tasks due that others have set aside, as many as there is room for; return whether there were any.

        In a rolling release, the older replicas set tasks aside all the time. Housekeeping recalls them too rarely, but
        also while this replica has no room.
        """
        began = time.monotonic()
        if began < self._next_recall:
            return False
        found = self._outbox.recall(self._names, limit) > 0
        if not found:
            self._next_recall = began + max(_RECALL_SECONDS, _RECALL_PAUSE * (time.monotonic() - began))
        return found

    def _refuse(self, mine: _ClaimedTask, cause: TaskCause, why: str) -> None:
        """Fail a claimed task for good, without running it."""
        task = mine.task
        logger.error(
            "task %s (%s) failed for good: %s",
            task.uid.hex,
            task.name,
            why,
            extra={"task_id": task.uid.hex, "task": task.name, "cause": cause.value},
        )
        self._ended.append((mine, Acknowledgement("", TaskOutcome.FAILED_FOR_GOOD, cause)))

    def _room(self, now: float) -> int:
        """Return how many tasks to claim: as many as can run now, and some ahead, by the current rate."""
        if (passed := now - self._rate_since) >= _AHEAD_SECONDS:
            self._rate = self._ended_since / passed
            self._rate_since, self._ended_since = now, 0
        ahead = min(_AHEAD_LIMIT, int(self._rate * _AHEAD_SECONDS * 2))
        return min(self._options.concurrency + ahead - len(self._held), self._executor.room_for_claims)

    def _accept(self, held: list[_ClaimedTask]) -> None:
        """Pass claims to the executor, on its loop."""
        for one in held:
            task = one.task
            traceparent = task.traceparent if is_traceparent(task.traceparent) else ""
            accepted = Task(
                task.uid.hex, task.name, task.payload, task.attempt, task.waited_seconds, traceparent=traceparent
            )
            self._executor.accept(accepted, self._listener(one), one)

    def _listener(self, one: _ClaimedTask) -> Callable[[Acknowledgement], None]:
        def ended(ack: Acknowledgement) -> None:
            self._ended.append((one, ack))
            self._wake()

        return ended

    def _record_ends(self) -> None:
        ended = [self._ended.popleft() for _ in range(len(self._ended))]
        try:
            self._record(ended)
        except BaseException:
            self._ended.extendleft(reversed(ended))  # the ledger ignores those that are recorded already
            raise
        self._ended_since += len(ended)
        for one, _ in ended:
            if self._held.get(one.task.id) is one:
                del self._held[one.task.id]
        if ended:
            self._next_claim = min(self._next_claim, time.monotonic())

    def _record(self, ended: list[tuple[_ClaimedTask, Acknowledgement]]) -> None:
        done = [one.task for one, ack in ended if ack.outcome is TaskOutcome.DONE and not one.finished]
        counted = self._outbox.finish_many(done) if done else set()
        self.counts.done += len(counted) + sum(one.finished and ack.outcome is TaskOutcome.DONE for one, ack in ended)
        self.counts.gone += len(done) - len(counted)
        if back := [one.task for one, ack in ended if ack.outcome is TaskOutcome.RETURNED]:
            self._outbox.release(back)
            self.counts.returned += len(back)
        for one, ack in ended:
            if ack.outcome in (TaskOutcome.FAILED, TaskOutcome.FAILED_FOR_GOOD):
                self._record_failure(one.task, ack)

    def _record_failure(self, task: OutboxTask, ack: Acknowledgement) -> None:
        retried = ack.outcome is TaskOutcome.FAILED
        wait = (ack.retry_seconds or 0.0) * (1 + random.random() / 4) if retried else None  # noqa: S311  jitter
        if not self._outbox.fail(task, TaskFailure(ack.cause, ack.detail[:200], wait)):
            self.counts.gone += 1
        elif retried:
            self.counts.retried += 1
        else:
            self.counts.failed += 1
            self.counts.worker_lost += ack.cause == TaskCause.WORKER_LOST

    def _renew(self) -> None:
        tasks = [one.task for one in list(self._held.values())]
        held = self._outbox.renew(tasks, self._options.lease_seconds)
        gone = [task for task in tasks if task.id not in held]
        if gone:  # among them tasks that have just ended in their own transaction
            logger.info("%d claims of outbox tasks have ended or were taken over", len(gone))

    def _release_all(self) -> None:
        left = [one.task for one in self._held.values()]
        if not left:
            return
        try:
            self._outbox.release(left)
        except DBAPIError as error:
            self._log(error)
        else:
            logger.info("returned %d tasks to the outbox", len(left))

    def _log(self, error: DBAPIError) -> None:
        self._outage.failed(reason_of(error) if is_away(error) else type(error.orig).__name__, logging.ERROR)
