"""Run one task to its acknowledgement. No exception of a task leaves this module."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from spoke_jobs.contract.task_causes import TaskCause
from spoke_jobs.contract.trace_context import trace_id_of
from spoke_jobs.errors import Discard, InvalidPayload, Superseded
from spoke_jobs.execution.context import TaskContext
from spoke_jobs.execution.hooked_functions import with_task_hooks
from spoke_jobs.execution.run_sequence import CallResult, Effects, ThreadEffects, close, perform, run_blocking
from spoke_jobs.ledger.port import SessionFactory
from spoke_jobs.middleware.hook_calls import HookCalls
from spoke_jobs.payloads import decode_payload
from spoke_jobs.registry import Definition
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.shared.log_setup import LogFields
from spoke_jobs.tasks.protocol.messages import RETRY_LIMIT_SECONDS, Acknowledgement, Task, TaskOutcome

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Listener = Callable[[Acknowledgement], None]

logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class OutboxClaim(Protocol):
    """The claim of a task of the outbox."""

    def fence(self, session: Session) -> None:
        """Lock the claim in the session's transaction.

        :raises Superseded: if the claim is gone.
        """

    def finish(self, session: Session) -> None:
        """Record in the session's transaction that the task has run.

        :raises Superseded: if the claim is gone.
        """


@dataclass(slots=True, eq=False)
class TaskRun:
    """One run of one task. Only the thread that runs it uses it, apart from ``given_up``."""

    task: Task
    definition: Definition
    sessions: SessionFactory | None = None
    claim: OutboxClaim | None = None
    accepted_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    """When the run started, by the monotonic clock; 0 before."""
    given_up: bool = False
    """Whether the task was acknowledged before it ended. Its later commits are refused."""
    hooks: HookCalls | None = None
    """The hooks around its function; None before, and if the application has none."""

    @property
    def trace_id(self) -> str:
        """The sampled trace of the run; empty if there is none."""
        return self.hooks.trace_id if self.hooks is not None else ""

    def context(self) -> TaskContext:
        """Start the run, and return the function's ``ctx``."""
        self.started_at = now = time.monotonic()
        name = self.definition.name
        return TaskContext(
            self.task.id,
            self.task.attempt,
            _logger_of(name),
            sessions=self.sessions,
            fence=self._fence,
            run_until=now + self.definition.task.timeout_seconds,
            traceparent=self.task.traceparent,
        )

    def end(self, session: Session) -> None:
        """Record in the session's transaction that the task has run."""
        self._refuse_if_given_up()
        if self.claim is not None:
            self.claim.finish(session)

    def _fence(self, session: Session) -> None:
        self._refuse_if_given_up()
        if self.claim is not None:
            self.claim.fence(session)

    def _refuse_if_given_up(self) -> None:
        if self.given_up:
            raise Superseded(
                "the task was acknowledged before it ended, because it exceeded its timeout or its replica is "
                "stopping: its uncommitted writes are rolled back"
            )


@dataclass(slots=True, eq=False)
class AcceptedTask:
    """An accepted task that has not ended."""

    run: TaskRun
    listeners: list[Listener]


def run_def(run: TaskRun) -> Acknowledgement:
    """Run a ``def`` task in this thread."""
    return run_blocking(_run(run, ThreadEffects()))


async def run_async(run: TaskRun) -> Acknowledgement:
    """Run an ``async def`` task on this event loop.

    Cancelling this coroutine cancels the task. If the task was given up before, it is returned. Otherwise it counts as
    failed, since a task may also cancel itself.
    """
    return await _run(run, _LoopEffects(run))


class _TimedOut(Exception):
    """Stands for what a task raised that its timeout has ended."""


class _LoopEffects:
    """The effects on the event loop that ``async def`` tasks share."""

    def __init__(self, run: TaskRun) -> None:
        self._run = run

    async def call(self, definition: Definition, context: Any, payload: Any) -> CallResult:
        """Call the function, and end it at its timeout."""
        limit = asyncio.timeout(definition.task.timeout_seconds)
        try:
            async with limit:
                await definition.function(context, payload)
        except BaseException as error:
            # The timeout raises a CancelledError if the task has suppressed an earlier cancellation.
            ended = isinstance(error, (TimeoutError, asyncio.CancelledError)) and limit.expired()
            if ended and not _is_given_up(self._run, error):
                return CallResult(error=_TimedOut())
            return CallResult(error=error)
        return CallResult()

    async def blocking(self, function: Callable[[], _Result]) -> _Result:
        """Call a function that may block."""
        return await asyncio.to_thread(function)

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


async def _run(run: TaskRun, effects: Effects) -> Acknowledgement:
    task, definition = run.task, run.definition
    traced = {"trace_id": trace_id_of(task.traceparent)} if task.traceparent else {}
    with LogFields(task_id=task.id, task=task.name, attempt=task.attempt, **traced):
        context = run.context()

        async def finish(_result: Any) -> None:
            if context.has_session:
                await effects.blocking(lambda: context.finish(run.end))

        try:
            payload = decode_payload(definition.name, definition.payload, task.payload)
        except BaseException as error:
            answer = _after(run, error)
        else:
            hooked, run.hooks = with_task_hooks(definition, context, payload, task.name)
            raised = await perform(effects, hooked, context, payload, finish)
            answer = Acknowledgement(task.id, TaskOutcome.DONE) if raised is None else _after(run, raised)
        close(context, f"task {task.id}")
        return answer


def _after(run: TaskRun, error: BaseException) -> Acknowledgement:
    """Acknowledge a task whose function raised, or whose payload is refused."""
    if isinstance(error, InvalidPayload):
        return invalid_payload(run.task, error)
    if _is_given_up(run, error):
        return Acknowledgement(run.task.id, TaskOutcome.RETURNED, TaskCause.DRAINING)
    return timed_out(run) if isinstance(error, _TimedOut) else failure(run, error)


def _is_given_up(run: TaskRun, error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError) and run.given_up


def failure(run: TaskRun, error: BaseException) -> Acknowledgement:
    """Acknowledge a task whose function raised; log the exception with its traceback."""
    kind = type(error).__qualname__
    if isinstance(error, Superseded):
        logger.warning("task %s (%s) is superseded: %s", run.task.id, run.task.name, error)
        return Acknowledgement(run.task.id, TaskOutcome.RETURNED, TaskCause.SUPERSEDED)
    if isinstance(error, Discard):
        return _ended(run, TaskCause.DISCARDED, kind, "was discarded", error, for_good=True)
    if isinstance(error, SystemExit):
        return _ended(run, TaskCause.TASK_EXITED, kind, "called sys.exit", error)
    return _ended(run, TaskCause.TASK_ERROR, kind, "raised", error)


def timed_out(run: TaskRun) -> Acknowledgement:
    """Acknowledge a task that is beyond its timeout."""
    seconds = run.definition.task.timeout_seconds
    return _ended(run, TaskCause.TIMEOUT, "", f"exceeded its timeout of {seconds:g} s", None)


def invalid_payload(task: Task, error: InvalidPayload) -> Acknowledgement:
    """Acknowledge a task whose payload is not valid. The log names the fields, the acknowledgement does not."""
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
        "; it failed for good" if for_good else "; it will be retried",
        exc_info=error,
        extra={"cause": cause.value, "error_type": detail, "for_good": for_good},
    )
    if for_good:
        return Acknowledgement(task.id, TaskOutcome.FAILED_FOR_GOOD, cause, detail)
    wait = Backoff(options.backoff_seconds, options.backoff_max_seconds).after(task.attempt)
    return Acknowledgement(task.id, TaskOutcome.FAILED, cause, detail, min(wait, RETRY_LIMIT_SECONDS))


@lru_cache(1024)
def _logger_of(name: str) -> logging.Logger:
    return logging.getLogger(f"spoke_jobs.task.{name}")
