"""Run one claimed attempt and record how it ended."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import os
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.retry import RetryPolicy, qualified_name
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import Discard, InvalidPayload, InvalidResult, RetryLater, Superseded, UnknownName
from spoke_jobs.execution.context import JobContext
from spoke_jobs.execution.declared_options import with_declared_options
from spoke_jobs.execution.fingerprint import fingerprint
from spoke_jobs.execution.lease import LeaseKeeper, StopReason, seconds_until_next_record
from spoke_jobs.execution.output_lines import with_output
from spoke_jobs.execution.thread_stacks import thread_stacks
from spoke_jobs.ledger.engine import is_away
from spoke_jobs.ledger.port import Ledger, SessionFactory
from spoke_jobs.model import Claim, Failure, JobState, UnreadPayload
from spoke_jobs.payloads import JOB_LIMIT_BYTES, decode_versioned
from spoke_jobs.registry import Definition, Registry
from spoke_jobs.shared.log_setup import LogFields
from spoke_jobs.shared.outage_log import OutageLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How a process left an attempt."""

    exit_code: ExitCode
    failure: Failure | None = None
    """None after a success, and when another process owns the attempt."""
    recorded: bool = False
    """Whether the failure is recorded in the ledger."""


@dataclass(frozen=True, slots=True)
class AttemptServices:
    """The services that the running process gives to an attempt."""

    ledger: Ledger
    registry: Registry
    sessions: SessionFactory
    decide: bool
    """Whether recording a failure also decides on a retry (``legacy``). Under ``kubernetes`` the operator decides."""
    on_stop: Callable[[StopReason], None]
    """Called when the attempt must stop. In a process that runs only this attempt, the call exits the process."""
    output: Callable[[], str] = lambda: ""
    """Returns the last lines that the attempt printed, which the ledger keeps."""
    copy_output: Callable[[], object] = lambda: None
    """Copies the rest of what the attempt printed to the log. The end is recorded before, since it may take long."""
    output_kept_after: float = math.inf
    """After how many seconds of a successful attempt its output is kept."""
    after_attempt: Callable[[], object] = lambda: None
    """Called once the attempt's end is recorded, by a process that runs the jobs that it dispatches."""


def run_attempt(claim: Claim, services: AttemptServices, cancel: threading.Event) -> AttemptEnd:
    """Run the attempt and record how it ended.

    :param cancel: set when the job is asked to stop.
    :raises DBAPIError: if the end could not be recorded. Exceptions of the job's own code are recorded, not raised.
    """
    with LogFields(**attempt_fields(claim)):
        log_start(claim)
        started = time.monotonic()
        claim = _with_payload(claim, services.ledger)
        (claim,) = with_declared_options([claim], services.registry, services.ledger)
        ending = _run(claim, services, cancel)
        seconds = time.monotonic() - started
        if ending.failure is None:
            _keep_output(claim, services, seconds)
        services.copy_output()
        log_end(claim, ending.exit_code, ending.failure, seconds)
        return ending


def _with_payload(claim: Claim, ledger: Ledger) -> Claim:
    """Read a payload that the claim has left out because it is not small, unless it is too large for any process."""
    if not isinstance(claim.job.payload, UnreadPayload) or claim.job.payload.size > JOB_LIMIT_BYTES:
        return claim
    row = ledger.get(claim.job.id)
    return claim if row is None else replace(claim, job=claim.job.evolve(payload=row.payload))


def attempt_fields(claim: Claim) -> dict[str, object]:
    """Return the fields of each JSON line about this attempt."""
    job = claim.job
    return {"request_id": job.id, "job_type": job.job_type, "run": job.run, "attempt": claim.number}


def log_start(claim: Claim) -> None:
    """Log that the attempt starts."""
    logger.info("job %d (%s), attempt %d: started", claim.job.id, claim.job.job_type, claim.number)


def log_end(claim: Claim, code: ExitCode, failure: Failure | None, seconds: float) -> None:
    """Log how the attempt ended: the causes of failures, but no message, which may contain data."""
    why = f" ({f'{failure.cause} {failure.error_type}'.rstrip()})" if failure else ""
    logger.log(
        logging.INFO if failure is None else logging.WARNING,
        "job %d (%s), attempt %d: %s%s after %.2f s",
        claim.job.id,
        claim.job.job_type,
        claim.number,
        code.name.lower().replace("_", " "),
        why,
        seconds,
        extra={
            "end": code.name.lower(),
            "cause": failure.cause if failure else "",
            "error_type": failure.error_type if failure else "",
            "seconds": round(seconds, 3),
        },
    )


def _run(claim: Claim, services: AttemptServices, cancel: threading.Event) -> AttemptEnd:
    loaded = load_job(claim, services.registry)
    if isinstance(loaded, Failure):
        return _failed(claim, services, loaded)
    definition, payload = loaded
    limit = claim.job.options.timeout_seconds
    run_until = None if limit is None else time.monotonic() + limit
    asked_to_end = threading.Event()
    job_thread = threading.get_ident()

    def on_cancel() -> None:
        logger.warning("job %d, attempt %d: cancellation requested; asking the job to stop", claim.job.id, claim.number)
        asked_to_end.set()
        cancel.set()

    def on_stop(reason: StopReason) -> None:
        cancel.set()
        logger.error("job %d, attempt %d: stopped, %s", claim.job.id, claim.number, reason)
        if (failure := failure_of(reason)) is not None:
            if reason is StopReason.TIMEOUT:
                failure = replace(failure, output_tail=thread_stacks(job_thread))
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
    if isinstance(job.payload, UnreadPayload):
        text = f"the payload takes {job.payload.size:,} bytes, and {JOB_LIMIT_BYTES:,} is the limit for a job"
        return Failure(Cause.INVALID_PAYLOAD, text, for_good=True)
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
    """Record success. While the database is unreachable, retry until the lease lapses.

    Do not retry if the job used its session: the session's uncommitted writes were lost with the connection.
    """
    give_up = time.monotonic() + claim.lease_seconds
    outage = OutageLog(logger, "the database", began=f"job {claim.job.id}: could not record the success")
    while True:
        try:
            return context.finish(result)
        except DBAPIError as error:
            if context.has_session or not is_away(error) or time.monotonic() > give_up:
                raise
            outage.failed(type(error.orig).__name__)
            time.sleep(seconds_until_next_record(claim.lease_seconds))


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
    return replace(_described(error, retry, cancelled=cancelled), fingerprint=fingerprint(error))


def _described(error: BaseException, retry: RetryPolicy, *, cancelled: bool) -> Failure:
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
            return AttemptEnd(ExitCode.INTERRUPTED, failure, recorded=True)
        return AttemptEnd(ExitCode.FAILED_FOR_GOOD if failure.for_good else ExitCode.FAILED, failure, recorded=True)
    row = services.ledger.get(claim.job.id)
    if row is not None and row.state is JobState.SUCCEEDED:
        # The commit succeeded although its reply was lost, or another process finished the job first.
        return AttemptEnd(ExitCode.DONE)
    return AttemptEnd(ExitCode.SUPERSEDED, Failure(Cause.SUPERSEDED, Cause.SUPERSEDED.meaning))


def _record_failure(claim: Claim, services: AttemptServices, failure: Failure) -> bool:
    """Record the failure, retrying until the lease lapses. Return whether it was recorded."""
    failure = replace(failure, output_tail=with_output(failure.output_tail, services.output()))
    give_up = time.monotonic() + claim.lease_seconds
    outage = OutageLog(logger, "the database", began=f"job {claim.job.id}: could not record the failure")
    while True:
        try:
            return services.ledger.fail(claim.token, failure, decide=services.decide)
        except DBAPIError as error:
            if time.monotonic() > give_up:
                raise
            outage.failed(type(error.orig).__name__)
            time.sleep(seconds_until_next_record(claim.lease_seconds))


def _record_at_once(claim: Claim, services: AttemptServices, failure: Failure) -> None:
    """Record the failure without a retry, since the process is about to exit. If that fails, the lease lapses."""
    try:
        failure = replace(failure, output_tail=with_output(failure.output_tail, services.output()))
        services.ledger.fail(claim.token, failure, decide=services.decide)
    except Exception as error:
        logger.warning("job %d: could not record the failure (%s)", claim.job.id, type(error).__name__)


def _keep_output(claim: Claim, services: AttemptServices, seconds: float) -> None:
    """Keep the last lines that a successful attempt printed, if the settings ask for that."""
    if seconds < services.output_kept_after or not (tail := services.output()):
        return
    try:
        services.ledger.keep_output(claim.token, tail, ended=True)
    except DBAPIError as error:  # the success is recorded
        logger.warning("job %d: could not store its output (%s)", claim.job.id, type(error.orig).__name__)


def _close(context: JobContext) -> None:
    try:
        context.close()
    except Exception as error:  # a broken connection can't be closed cleanly; the attempt's end is known already
        logger.warning("could not close the job's session: %s", type(error).__name__)
