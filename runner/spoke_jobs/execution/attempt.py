"""Run one claimed attempt and record how it ended: the same sequence wherever attempts run.

The decisions are pure (:mod:`.attempt_decisions`). What differs between a thread (:mod:`.thread_attempt`) and an event
loop that many jobs share (:mod:`spoke_jobs.worker.async_child`) is a driver.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.contract.trace_context import trace_id_of
from spoke_jobs.errors import Superseded
from spoke_jobs.execution.attempt_decisions import Stopping, failure_after, load_job
from spoke_jobs.execution.context import JobContext
from spoke_jobs.execution.declared_options import with_declared_options
from spoke_jobs.execution.hooked_functions import with_attempt_hooks
from spoke_jobs.execution.lease import StopReason, seconds_until_next_record
from spoke_jobs.execution.lease_keeper import UNOBSERVED, KeptLease, LeaseObserver
from spoke_jobs.execution.output_lines import with_output
from spoke_jobs.execution.run_sequence import Effects, close, perform
from spoke_jobs.execution.usage_meter import Meter, of_shared_process
from spoke_jobs.ledger.port import SessionFactory
from spoke_jobs.model import UNDECLARED, Claim, Failure, JobState, Progress, UnreadPayload
from spoke_jobs.payloads import JOB_LIMIT_BYTES
from spoke_jobs.registry import Definition, Registry
from spoke_jobs.shared.log_setup import LogFields
from spoke_jobs.shared.outage_log import OutageLog

if TYPE_CHECKING:
    from spoke_jobs.ledger.sql_attempts import SqlAttempts

logger = logging.getLogger(__name__)

_Written = TypeVar("_Written")


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How a process left an attempt."""

    exit_code: ExitCode
    failure: Failure | None = None
    """None after a success, and when another process owns the attempt."""
    recorded: bool = False
    """Whether the failure is recorded in the ledger."""
    trace_id: str = ""
    """The sampled trace of the job's function; empty if there is none."""


@dataclass(frozen=True, slots=True)
class AttemptServices:
    """The services that the running process gives to an attempt."""

    ledger: SqlAttempts
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
    observer: LeaseObserver = UNOBSERVED
    """Learns when the attempt's lease lapses, and when its function runs."""
    meter: Callable[[], Meter] = of_shared_process
    """Begins to measure what an attempt uses."""
    asked_at: float | None = None
    """When the process began to ask for its claim, on the monotonic clock, if it runs a single attempt."""


class AttemptDriver(Effects, Protocol):
    """What differs between the places where attempts run. One driver serves one attempt."""

    services: AttemptServices
    cancel: threading.Event
    """Set when the job is asked to stop."""
    measure: Meter
    """Measures what the attempt has used. It is set at the attempt's start."""

    def keep_lease(self, claim: Claim, run_until: float | None) -> KeptLease:
        """Keep the claim's lease from now on.

        :param run_until: when the job's timeout expires, on the monotonic clock; None if the job has none.
        :raises Superseded: if another process holds the claim.
        """

    def stopping(self, error: BaseException) -> Stopping:
        """Why the job, which has raised, may have ended early."""

    def job_ended(self) -> None:
        """No code of the job runs any more. Recording its failure may take longer than the lease."""

    async def record_success(self, claim: Claim, context: JobContext, result: Any, lease: KeptLease) -> None:
        """Record the success of a job that has not used its session. Retry while the database is unreachable.

        :raises Superseded: if another process has taken over.
        """

    def code_of_recorded(self, failure: Failure) -> ExitCode:
        """The exit code of an attempt whose failure is recorded."""


async def attempt(claim: Claim, driver: AttemptDriver) -> AttemptEnd:
    """Run the attempt and record how it ended.

    :raises DBAPIError: if the end could not be recorded. Exceptions of the job's own code are recorded, not raised.
    """
    with LogFields(**attempt_fields(claim)):
        log_start(claim)
        started, driver.measure = time.monotonic(), driver.services.meter()
        claim = await _complete(claim, driver)
        end = await _run(claim, driver)
        seconds = time.monotonic() - started
        if end.failure is None:
            await _keep_output(claim, driver, seconds)
        driver.services.copy_output()
        log_end(claim, end.exit_code, end.failure, seconds)
        return end


async def _complete(claim: Claim, driver: AttemptDriver) -> Claim:
    """Read what the claim has left out: a payload that is not small, and the options of a job that other code inserted.

    A payload that is too large for any process is not read.
    """
    ledger, registry = driver.services.ledger, driver.services.registry
    if isinstance(claim.job.payload, UnreadPayload) and claim.job.payload.size <= JOB_LIMIT_BYTES:
        row = await driver.blocking(lambda: ledger.get(claim.job.id))
        claim = claim if row is None else replace(claim, job=claim.job.evolve(payload=row.payload))
    if claim.job.options is UNDECLARED:
        (claim,) = await driver.blocking(lambda: with_declared_options([claim], registry, ledger))
    return claim


async def _run(claim: Claim, driver: AttemptDriver) -> AttemptEnd:
    loaded = load_job(claim, driver.services.registry)
    if isinstance(loaded, Failure):
        return await _failed(claim, driver, loaded)
    definition, payload = loaded
    options = claim.job.options
    run_until = None if options.timeout_seconds is None else time.monotonic() + options.timeout_seconds
    try:
        lease = driver.keep_lease(claim, run_until)
    except Superseded as error:  # the claim was lost before the job's function was called
        return await _failed(claim, driver, failure_after(error, options.retry, Stopping()))
    context = JobContext(
        claim,
        driver.services.ledger,
        driver.services.sessions,
        cancel=driver.cancel,
        report=lease.report,
        ending=lease.ending,
        run_until=run_until,
        measure=driver.measure,
    )
    asked_at = claim.asked_at if driver.services.asked_at is None else driver.services.asked_at
    definition, hooks = with_attempt_hooks(definition, claim, context, payload, asked_at)
    end = await _call(claim, driver, definition, payload, context, lease)
    if end.recorded or end.exit_code is ExitCode.DONE:
        hooks.recorded(end.failure.cause if end.failure is not None else "")
    return replace(end, trace_id=hooks.trace_id)


async def _call(
    claim: Claim, driver: AttemptDriver, definition: Definition, payload: Any, context: JobContext, lease: KeptLease
) -> AttemptEnd:
    """Call the job's function and record how the attempt ended."""
    options = claim.job.options

    async def finish(result: Any) -> None:
        lease.function_ended()
        await _succeed(claim, driver, context, lease, result)

    driver.services.observer.function_begins(claim.token)
    try:  # what cannot be described, such as an exception whose text raises, must not keep the lease for ever
        raised = await perform(driver, definition, context, payload, finish)
        lease.function_ended()
        stopping = Stopping() if raised is None else driver.stopping(raised)
        try:
            failure = None if raised is None else failure_after(raised, options.retry, stopping)
        finally:
            if context.has_session:
                await driver.blocking(lambda: close(context, f"job {claim.job.id}"))
    finally:
        progress = lease.end()
    if failure is None or context.completed:
        if failure is not None:
            logger.warning("job %d raised after it had completed: %s", claim.job.id, failure.error_type)
        return AttemptEnd(ExitCode.DONE)
    if stopping.reason is StopReason.DATABASE_AWAY:  # the worker records it once the database answers
        return AttemptEnd(ExitCode.DATABASE_AWAY, failure)
    if progress is not None and failure.cause != Cause.SUPERSEDED:
        await driver.blocking(lambda: _write_last(claim, driver.services.ledger, progress))
    return await _failed(claim, driver, failure)


async def _succeed(claim: Claim, driver: AttemptDriver, context: JobContext, lease: KeptLease, result: Any) -> None:
    """Record success. If the job has used its session, the same commit writes the session's open writes.

    Then there is no retry: if the connection is lost, so are these writes.
    """
    if context.completed:
        return
    if context.has_session:
        await driver.blocking(lambda: context.finish(result))
    else:
        await driver.record_success(claim, context, result, lease)


async def _failed(claim: Claim, driver: AttemptDriver, failure: Failure) -> AttemptEnd:
    """Record the failure, unless another process has the claim."""
    services = driver.services
    driver.job_ended()
    failure = replace(failure, output_tail=with_output(failure.output_tail, services.output()))
    if failure.cause == Cause.SUPERSEDED:
        return await _without_claim(claim, driver)
    measured = replace(failure, usage=driver.measure())
    recorded = await until_recorded(
        claim, driver, "the failure", lambda: services.ledger.fail(claim.token, measured, decide=services.decide)
    )
    if not recorded:
        return await _without_claim(claim, driver)
    return AttemptEnd(driver.code_of_recorded(failure), failure, recorded=True)


async def _without_claim(claim: Claim, driver: AttemptDriver) -> AttemptEnd:
    """Choose the end of an attempt whose claim is gone by the job's state in the ledger."""
    row = await driver.blocking(lambda: driver.services.ledger.get(claim.job.id))
    if row is not None and row.state is JobState.SUCCEEDED:
        # The commit succeeded although its reply was lost, or another process finished the job first.
        return AttemptEnd(ExitCode.DONE)
    return AttemptEnd(ExitCode.SUPERSEDED, Failure(Cause.SUPERSEDED, Cause.SUPERSEDED.meaning))


async def until_recorded(
    claim: Claim,
    effects: Effects,
    what: str,
    write: Callable[[], _Written],
    may_retry: Callable[[DBAPIError], bool] = lambda _error: True,
) -> _Written:
    """Write to the ledger, and retry until the lease lapses.

    :raises DBAPIError: if the lease lapses before, or the error is none that passes.
    """
    give_up = time.monotonic() + claim.lease_seconds
    outage = OutageLog(logger, "the database", began=f"job {claim.job.id}: could not record {what}")
    while True:
        try:
            return await effects.blocking(write)
        except DBAPIError as error:
            if not may_retry(error) or time.monotonic() > give_up:
                raise
            outage.failed(type(error.orig).__name__)
        await effects.pause(seconds_until_next_record(claim.lease_seconds))


def _write_last(claim: Claim, ledger: SqlAttempts, progress: Progress) -> None:
    try:
        ledger.heartbeat(claim.token, claim.lease_seconds, progress)
    except Exception as error:
        logger.warning("job %d: could not record the last progress (%s)", claim.job.id, type(error).__name__)


async def _keep_output(claim: Claim, driver: AttemptDriver, seconds: float) -> None:
    """Keep the last lines that a successful attempt printed, if the settings ask for that."""
    services = driver.services
    if seconds < services.output_kept_after or not (tail := services.output()):
        return
    try:
        await driver.blocking(lambda: services.ledger.keep_output(claim.token, tail, ended=True))
    except DBAPIError as error:  # the success is recorded
        logger.warning("job %d: could not store its output (%s)", claim.job.id, type(error.orig).__name__)


def is_late(job_id: int, start_by: float) -> bool:
    """Whether an attempt must not start any more, because of the tokens of rates that its claim took.

    Then release the claim: the job takes other tokens. Ask before the payload is read, which is the job's own affair: a
    job whose payload takes longer than this would never start.

    :param start_by: see :class:`spoke_jobs.model.Claim`.
    """
    late = time.monotonic() - start_by
    if late > 0:
        logger.info("job %d: not started, %.2f s too late for the token of its rate", job_id, late)
    return late > 0


def attempt_fields(claim: Claim) -> dict[str, object]:
    """Return the fields of each JSON line about this attempt."""
    job = claim.job
    fields = {"request_id": job.id, "job_type": job.job_type, "run": job.run, "attempt": claim.number}
    trace_id = trace_id_of(job.options.traceparent)
    return fields | {"trace_id": trace_id} if trace_id else fields


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
