"""Run one claimed attempt and record how it ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.retry import RetryPolicy, qualified_name
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import Discard, InvalidPayload, InvalidResult, RetryLater, Superseded, UnknownName
from spoke_jobs.execution.context import JobContext
from spoke_jobs.execution.lease import LeaseKeeper, StopReason
from spoke_jobs.ledger.engine import is_away
from spoke_jobs.ledger.port import Ledger, SessionFactory
from spoke_jobs.model import Claim, Failure, JobState
from spoke_jobs.payloads import decode_versioned
from spoke_jobs.registry import Definition, Registry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How a process left an attempt."""

    exit_code: ExitCode
    failure: Failure | None = None
    """None after a success, and when another process owns the attempt."""


@dataclass(frozen=True, slots=True)
class AttemptServices:
    """The services that the running process gives to an attempt."""

    ledger: Ledger
    registry: Registry
    sessions: SessionFactory
    decide: bool
    """Whether recording a failure also decides on a retry (``legacy``). Under ``kubernetes`` the operator decides."""
    on_stop: Callable[[StopReason], None]
    """Called when the attempt must stop. A process that runs nothing else then exits."""


def run_attempt(claim: Claim, services: AttemptServices, cancel: threading.Event) -> AttemptEnd:
    """Run the attempt and record how it ended.

    :param cancel: set when the job is asked to stop.
    :raises DBAPIError: if the end could not be recorded. Exceptions of the job's own code are recorded, not raised.
    """
    logger.info("job %d (%s), attempt %d: started", claim.job.id, claim.job.job_type, claim.number)
    started = time.monotonic()
    ending = _run(claim, services, cancel)
    level = logging.INFO if ending.failure is None else logging.WARNING
    why = f" ({ending.failure.cause} {ending.failure.error_type})" if ending.failure else ""
    logger.log(
        level,
        "job %d (%s), attempt %d: %s%s after %.2f s",
        claim.job.id,
        claim.job.job_type,
        claim.number,
        ending.exit_code.name.lower().replace("_", " "),
        why.replace(" )", ")"),
        time.monotonic() - started,
    )
    return ending


def _run(claim: Claim, services: AttemptServices, cancel: threading.Event) -> AttemptEnd:
    loaded = load_job(claim, services.registry)
    if isinstance(loaded, Failure):
        return _failed(claim, services, loaded)
    definition, payload = loaded
    limit = claim.job.options.timeout_seconds
    run_until = None if limit is None else time.monotonic() + limit
    asked_to_end = threading.Event()

    def on_cancel() -> None:
        logger.warning("job %d, attempt %d: cancellation requested; asking the job to stop", claim.job.id, claim.number)
        asked_to_end.set()
        cancel.set()

    def on_stop(reason: StopReason) -> None:
        cancel.set()
        logger.error("job %d, attempt %d: stopped, %s", claim.job.id, claim.number, reason)
        if (failure := failure_of(reason)) is not None:
            _record_at_once(claim, services, failure)
        services.on_stop(reason)

    keeper = LeaseKeeper(
        lambda progress: services.ledger.heartbeat(claim.token, claim.lease_seconds, progress),
        claim.lease_seconds,
        on_stop,
        asked_at=claim.asked_at,
        run_until=run_until,
        on_cancel=on_cancel,
    )
    context = JobContext(
        claim,
        services.ledger,
        services.sessions,
        cancel=cancel,
        report=keeper.report,
        ending=keeper.ending,
        run_until=run_until,
    )
    failure: Failure | None = None
    process = os.getpid()
    try:
        with keeper:
            try:
                result = call(definition, context, payload)
                _leave_if_forked(process)
                _finish(context, result, claim)
            except BaseException as error:  # the job's SystemExit or KeyboardInterrupt must not end the worker
                _leave_if_forked(process)
                failure = describe(error, claim.job.options.retry, cancelled=cancel.is_set())
                if asked_to_end.is_set() and failure.cause == Cause.INTERRUPTED:
                    failure = Failure(Cause.CANCELLED, Cause.CANCELLED.meaning, failure.error_type, for_good=True)
            finally:
                _close(context)
    except Superseded as error:  # the claim was lost before the job's function was called
        failure = describe(error, claim.job.options.retry, cancelled=False)
    if failure is None or context.completed:
        if failure is not None:
            logger.warning("job %d raised after it had completed: %s", claim.job.id, failure.error_type)
        return AttemptEnd(ExitCode.DONE)
    return _failed(claim, services, failure)


def load_job(claim: Claim, registry: Registry) -> tuple[Definition, Any] | Failure:
    """The job's definition and its decoded payload, or the failure to record if this release cannot run it."""
    job = claim.job
    try:
        definition = registry.jobs.get(job.job_type)
        payload = decode_versioned(
            job.job_type,
            definition.payload,
            job.payload,
            job.options.payload_version,
            definition.options.payload_version,
            definition.upgrade,
        )
    except UnknownName as error:
        return Failure(Cause.UNKNOWN_JOB_TYPE, str(error), for_good=True)
    except InvalidPayload as error:
        return Failure(Cause.INVALID_PAYLOAD, str(error), for_good=True)
    return definition, payload


def _finish(context: JobContext, result: Any, claim: Claim) -> None:
    """Record success. While the database is unreachable, retry until the lease expires.

    Do not retry if the job used its session: its uncommitted writes were lost with the connection.
    """
    give_up = time.monotonic() + claim.lease_seconds
    while True:
        try:
            return context.finish(result)
        except DBAPIError as error:
            if context.has_session or not is_away(error) or time.monotonic() > give_up:
                raise
            logger.warning(
                "job %d: could not record the success (%s); retrying", claim.job.id, type(error.orig).__name__
            )
            time.sleep(min(0.5, claim.lease_seconds / 10))


def _leave_if_forked(process: int) -> None:
    if os.getpid() != process:  # a child process that the job forked: only the parent may end the attempt
        os._exit(1)


def call(definition: Definition, context: Any, payload: Any) -> Any:
    """Call a job's or task's function; an ``async def`` function gets an event loop of its own."""
    if not on_event_loop():
        return _call(definition, context, payload)
    with ThreadPoolExecutor(1, "spoke-call") as pool:  # this thread's event loop is running the caller
        return pool.submit(_call, definition, context, payload).result()


def _call(definition: Definition, context: Any, payload: Any) -> Any:
    answer = definition.function(context, payload)
    return asyncio.run(_awaited(answer)) if inspect.isawaitable(answer) else answer


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


def on_event_loop() -> bool:
    """Whether this thread runs an event loop now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def failure_of(reason: StopReason) -> Failure | None:
    """The failure to record for an attempt that was stopped; None if this process no longer holds the claim."""
    if reason is StopReason.TIMEOUT:
        return Failure(Cause.TIMEOUT, Cause.TIMEOUT.meaning)
    if reason is StopReason.CANCELLED:
        return Failure(Cause.CANCELLED, Cause.CANCELLED.meaning, for_good=True)
    return None


def describe(error: BaseException, retry: RetryPolicy, *, cancelled: bool) -> Failure:
    """Turn an exception that a job raised into a failure. Store its text only in the ledger: it may contain values."""
    error_type = qualified_name(type(error))
    tail = "".join(traceback.format_exception(error))
    message = f"{error_type}: {_text_of(error)}"
    if isinstance(error, Superseded):
        return Failure(Cause.SUPERSEDED, message)
    if isinstance(error, RetryLater):
        return Failure(Cause.RETRY_LATER, str(error), error_type, retry_after_seconds=error.seconds)
    if isinstance(error, Discard):
        return Failure(Cause.DISCARDED, str(error), error_type, for_good=True)
    if isinstance(error, InvalidResult):
        return Failure(Cause.INVALID_RESULT, message, error_type, tail, for_good=True)
    if cancelled or isinstance(error, KeyboardInterrupt):
        return Failure(Cause.INTERRUPTED, Cause.INTERRUPTED.meaning, error_type, tail)
    never = bool({qualified_name(kind) for kind in type(error).__mro__} & set(retry.never_names))
    if isinstance(error, SystemExit):
        return Failure(Cause.JOB_EXITED, f"the job called sys.exit({error.code!r})", error_type, tail, for_good=never)
    if isinstance(error, DBAPIError) and is_away(error):
        return Failure(Cause.DATABASE_UNREACHABLE, message, error_type, tail, for_good=never)
    return Failure(Cause.JOB_ERROR, message, error_type, tail, for_good=never)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as again:  # `__str__` of the job's own exception class may fail
        return f"<str() of the exception failed: {type(again).__name__}>"


def _failed(claim: Claim, services: AttemptServices, failure: Failure) -> AttemptEnd:
    """Record the failure. If the claim is lost, choose the exit code by the job's state in the ledger."""
    if failure.cause != Cause.SUPERSEDED and _record_failure(claim, services, failure):
        if failure.cause == Cause.INTERRUPTED:
            return AttemptEnd(ExitCode.INTERRUPTED, failure)
        return AttemptEnd(ExitCode.FAILED_FOR_GOOD if failure.for_good else ExitCode.FAILED, failure)
    row = services.ledger.get(claim.job.id)
    if row is not None and row.state is JobState.SUCCEEDED:
        # The commit succeeded although its reply was lost, or another process finished the job first.
        return AttemptEnd(ExitCode.DONE)
    return AttemptEnd(ExitCode.SUPERSEDED, Failure(Cause.SUPERSEDED, Cause.SUPERSEDED.meaning))


def _record_failure(claim: Claim, services: AttemptServices, failure: Failure) -> bool:
    """Record the failure, retrying until the lease expires. Return whether it was recorded."""
    give_up = time.monotonic() + claim.lease_seconds
    while True:
        try:
            return services.ledger.fail(claim.token, failure, decide=services.decide)
        except DBAPIError as error:
            if time.monotonic() > give_up:
                raise
            logger.warning(
                "job %d: could not record the failure (%s); retrying", claim.job.id, type(error.orig).__name__
            )
            time.sleep(min(0.5, claim.lease_seconds / 10))


def _record_at_once(claim: Claim, services: AttemptServices, failure: Failure) -> None:
    """Record the failure without a retry, since the process is about to exit. If that fails, the lease expires."""
    try:
        services.ledger.fail(claim.token, failure, decide=services.decide)
    except Exception as error:
        logger.warning("job %d: could not record the failure (%s)", claim.job.id, type(error).__name__)


def _close(context: JobContext) -> None:
    try:
        context.close()
    except Exception as error:  # a broken connection can't be closed cleanly; the attempt's end is known already
        logger.warning("could not close the job's session: %s", type(error).__name__)
