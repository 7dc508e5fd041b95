"""Running one task to its acknowledgement. Nothing that a task does gets out of here as an exception."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy.orm import Session

from spoke_jobs.contract.backoff import Backoff
from spoke_jobs.contract.causes import TaskCause
from spoke_jobs.errors import Discard, InvalidPayload, Superseded
from spoke_jobs.execution.context import TaskContext
from spoke_jobs.ledger.port import SessionFactory
from spoke_jobs.payloads import decode_payload
from spoke_jobs.registry import Definition
from spoke_jobs.tasks.protocol.messages import RETRY_LIMIT_SECONDS, Acknowledgement, Task, TaskOutcome

Listener = Callable[[Acknowledgement], None]

logger = logging.getLogger(__name__)


class OutboxClaim(Protocol):
    """What a task of the outbox is held by."""

    def fence(self, session: Session) -> None:
        """Lock it in the session's transaction; raises ``Superseded`` if it is gone."""

    def finish(self, session: Session) -> None:
        """Record in the session's transaction that the task has run; raises ``Superseded``."""


@dataclass(slots=True, eq=False)
class TaskRun:
    """One run of one task. Belongs to who runs it, but for ``given_up``."""

    task: Task
    definition: Definition
    sessions: SessionFactory | None = None
    claim: OutboxClaim | None = None
    accepted_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    """By the monotonic clock; 0 until it starts."""
    given_up: bool = False
    """Whether its end was told without it: what it still commits is refused."""

    def context(self) -> TaskContext:
        """Start it."""
        self.started_at = now = time.monotonic()
        name = self.definition.name
        return TaskContext(
            self.task.id,
            self.task.attempt,
            _logger_of(name),
            sessions=self.sessions,
            fence=self._fence,
            run_until=now + self.definition.task.timeout_seconds,
        )

    def end(self, session: Session) -> None:
        """In the session's transaction: the task has run."""
        self._must_count()
        if self.claim is not None:
            self.claim.finish(session)

    def _fence(self, session: Session) -> None:
        self._must_count()
        if self.claim is not None:
            self.claim.fence(session)

    def _must_count(self) -> None:
        if self.given_up:
            raise Superseded(
                "the task's end was told without it, since its time was over or its replica stops: what it wrote is "
                "rolled back"
            )


@dataclass(slots=True, eq=False)
class AcceptedTask:
    """An accepted task, until it has ended."""

    run: TaskRun
    listeners: list[Listener]


def run_def(run: TaskRun) -> Acknowledgement:
    """Run a ``def`` task in this thread."""
    task, definition = run.task, run.definition
    context, process = run.context(), os.getpid()
    try:
        payload = decode_payload(definition.name, definition.payload, task.payload)
        try:
            answer = definition.function(context, payload)
            if answer is not None and inspect.isawaitable(answer):
                asyncio.run(_awaited(answer))
        finally:
            _only_in(process)
        context.finish(run.end)
    except InvalidPayload as error:
        return invalid_payload(task, error)
    except BaseException as error:  # sys.exit in a task ends the task, not its thread
        return failure(run, error)
    finally:
        _close(context)
    return Acknowledgement(task.id, TaskOutcome.DONE)


async def run_async(run: TaskRun) -> Acknowledgement:
    """Run an ``async def`` task on this event loop.

    Cancelling this cancels the task; it is returned undone if it was given up before, else it has failed: a task may
    cancel itself.
    """
    task, definition = run.task, run.definition
    context, process = run.context(), os.getpid()
    limit = asyncio.timeout(definition.task.timeout_seconds)
    try:
        payload = decode_payload(definition.name, definition.payload, task.payload)
        async with limit:
            try:
                await definition.function(context, payload)
            finally:
                _only_in(process)
        if context.has_session:
            await asyncio.to_thread(context.finish, run.end)
    except InvalidPayload as error:
        return invalid_payload(task, error)
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and run.given_up:
            return Acknowledgement(task.id, TaskOutcome.RETURNED, TaskCause.DRAINING)
        # It is no TimeoutError if the task was cancelled before and has swallowed that.
        if isinstance(error, (TimeoutError, asyncio.CancelledError)) and limit.expired():
            return timed_out(run)
        return failure(run, error)
    finally:
        _close(context)
    return Acknowledgement(task.id, TaskOutcome.DONE)


def failure(run: TaskRun, error: BaseException) -> Acknowledgement:
    """What an exception that left a task's function says; logged loudly, with the traceback."""
    kind = type(error).__qualname__
    if isinstance(error, Superseded):
        logger.warning("task %s (%s) doesn't count any more: %s", run.task.id, run.task.name, error)
        return Acknowledgement(run.task.id, TaskOutcome.RETURNED, TaskCause.SUPERSEDED)
    if isinstance(error, Discard):
        return _ended(run, TaskCause.DISCARDED, kind, "was discarded", error, for_good=True)
    if isinstance(error, SystemExit):
        return _ended(run, TaskCause.TASK_EXITED, kind, "called sys.exit", error)
    return _ended(run, TaskCause.TASK_ERROR, kind, "raised", error)


def timed_out(run: TaskRun) -> Acknowledgement:
    """It ran for longer than it may."""
    seconds = run.definition.task.timeout_seconds
    return _ended(run, TaskCause.TIMEOUT, "", f"took longer than its timeout of {seconds:g} s", None)


def invalid_payload(task: Task, error: InvalidPayload) -> Acknowledgement:
    """A payload that doesn't validate: no repetition mends it. Which fields is said to our log, not to the caller."""
    logger.error("task %s failed for good: %s", task.id, error)
    return Acknowledgement(task.id, TaskOutcome.FAILED_FOR_GOOD, TaskCause.INVALID_PAYLOAD)


def _ended(
    run: TaskRun, cause: TaskCause, detail: str, what: str, error: BaseException | None, *, for_good: bool = False
) -> Acknowledgement:
    task, options = run.task, run.definition.task
    for_good = for_good or task.attempt >= options.attempts
    logger.error(
        "task %s (%s), attempt %d of %d: %s%s",
        task.id,
        task.name,
        task.attempt,
        options.attempts,
        what,
        "; it failed for good" if for_good else "; it may be tried again",
        exc_info=error,
    )
    if for_good:
        return Acknowledgement(task.id, TaskOutcome.FAILED_FOR_GOOD, cause, detail)
    wait = Backoff(options.backoff_seconds, options.backoff_max_seconds).after(task.attempt)
    return Acknowledgement(task.id, TaskOutcome.FAILED, cause, detail, min(wait, RETRY_LIMIT_SECONDS))


def _only_in(process: int) -> None:
    if os.getpid() != process:
        os._exit(1)  # a copy that the task forked: neither its session nor the server's other tasks are its own


async def _awaited(answer: Any) -> Any:
    return await answer


def _close(context: TaskContext) -> None:
    try:
        context.close()
    except Exception as error:  # a connection that broke can't be closed in order; the task's end is known all the same
        logger.warning("the session of task %s could not be closed: %s", context.id, type(error).__name__)


@lru_cache(1024)
def _logger_of(name: str) -> logging.Logger:
    return logging.getLogger(f"spoke_jobs.task.{name}")
