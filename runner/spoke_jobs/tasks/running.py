"""Running one task to its acknowledgement. Nothing that a task does gets out of here as an exception."""

from __future__ import annotations

import asyncio
import logging

from spoke_jobs.errors import InvalidPayload
from spoke_jobs.execution.attempt import call
from spoke_jobs.execution.context import TaskContext
from spoke_jobs.payloads import decode_payload
from spoke_jobs.registry import Definition
from spoke_jobs.tasks.wire import Acknowledgement, Outcome, Task, TaskCause

MAX_ATTEMPTS = 3
"""How often a task that raises is tried, in all. The server decides, for it knows the task's definition."""

logger = logging.getLogger(__name__)


def run_def(definition: Definition, task: Task) -> Acknowledgement:
    """Run a ``def`` task in this thread."""
    try:
        payload = decode_payload(definition.name, definition.payload, task.payload)
    except InvalidPayload as error:
        return invalid_payload(task, error)
    try:
        call(definition, _context(task), payload)
    except BaseException as error:  # sys.exit in a task ends the task, not its thread
        return failure(task, error)
    return Acknowledgement(task.id, Outcome.DONE)


async def run_async(definition: Definition, task: Task) -> Acknowledgement:
    """Run an ``async def`` task on this event loop; cancelling this cancels the task, and returns it undone."""
    try:
        payload = decode_payload(definition.name, definition.payload, task.payload)
    except InvalidPayload as error:
        return invalid_payload(task, error)
    try:
        await definition.function(_context(task), payload)
    except BaseException as error:
        current = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and current is not None and current.cancelling():
            return Acknowledgement(task.id, Outcome.RETURNED, TaskCause.DRAINING)
        return failure(task, error)
    return Acknowledgement(task.id, Outcome.DONE)


def failure(task: Task, error: BaseException) -> Acknowledgement:
    """What an exception that left a task's function says; logged loudly, with the traceback."""
    for_good = task.attempt >= MAX_ATTEMPTS
    cause = TaskCause.TASK_EXITED if isinstance(error, SystemExit) else TaskCause.TASK_ERROR
    logger.error(
        "task %s (%s), attempt %d of %d: %s%s",
        task.id,
        task.name,
        task.attempt,
        MAX_ATTEMPTS,
        "called sys.exit" if cause is TaskCause.TASK_EXITED else "raised",
        "; it failed for good" if for_good else "; it may be tried again",
        exc_info=error,
    )
    outcome = Outcome.FAILED_FOR_GOOD if for_good else Outcome.FAILED
    return Acknowledgement(task.id, outcome, cause, type(error).__qualname__)


def invalid_payload(task: Task, error: InvalidPayload) -> Acknowledgement:
    """A payload that doesn't validate: no repetition mends it. Which fields is said to our log, not to the caller."""
    logger.error("task %s failed for good: %s", task.id, error)
    return Acknowledgement(task.id, Outcome.FAILED_FOR_GOOD, TaskCause.INVALID_PAYLOAD)


def _context(task: Task) -> TaskContext:
    return TaskContext(task.id, task.attempt, logging.getLogger(f"spoke_jobs.task.{task.name}"))
