"""``spoke-jobs run``, the entrypoint of a job's pod.

Claim the attempt that the environment names, run it, and report its end by exit code and termination message. A standby
pod first imports the application, connects to the database, and waits until the operator names an attempt. This
module imports neither a Kubernetes client nor a web framework, since every job would pay for the import.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.environment import STANDBY, STANDBY_SECONDS, BadEnvironment, PodAssignment
from spoke_jobs.contract.termination import ExitCode, TerminationMessage
from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseRefused, DatabaseUnreachable
from spoke_jobs.execution.attempt import AttemptEnd, AttemptServices
from spoke_jobs.execution.attempt_decisions import code_of, failure_of
from spoke_jobs.execution.declared_options import with_declared_options
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.execution.signals import SignalEvent
from spoke_jobs.execution.thread_attempt import run_attempt
from spoke_jobs.execution.usage_meter import Meter, of_own_process, of_pod
from spoke_jobs.ledger.engine import check_schema, create_engine, is_away, is_not_allowed, reason_of, refuses
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, ClaimRefusal, NoRow, NotThisAttempt, QueueHeld, Taken
from spoke_jobs.ledger.sql_attempts import SqlAttempts
from spoke_jobs.middleware.hook_calls import close_all
from spoke_jobs.model import Claim, Failure, JobState
from spoke_jobs.registry import Registry, load_app
from spoke_jobs.settings import Settings, load_settings
from spoke_jobs.shared import garbage_collection
from spoke_jobs.shared.backoff import Backoff
from spoke_jobs.shared.log_setup import set_process_fields

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

logger = logging.getLogger(__name__)

REFUSED_SECONDS = 60.0
"""How long to wait for a database that refuses the connection. Unless the URL is in a file, this process can't learn
another password. The next attempt's pod can."""
_READ_ONLY = "25006"
"""PostgreSQL's SQLSTATE of a write on a standby: a failover is under way."""
_BETWEEN_TRIES = Backoff(base=1.0, maximum=15.0)


def run(check: Callable[[Settings], None] = lambda _settings: None) -> ExitCode:
    """Run the pod's attempt and write the termination message. Return the exit code.

    :param check: raises ConfigurationError if the job could not dispatch.
    """
    cancel = SignalEvent()
    signal.signal(signal.SIGTERM, lambda _number, _frame: _on_sigterm(cancel, _frame))
    try:
        ending = _attempt(cancel, check)
    except (ConfigurationError, BadEnvironment, DatabaseNotMigrated) as error:
        ending = _refused(Cause.BAD_SETUP, error)
    except (DatabaseUnreachable, DBAPIError) as error:
        ending = _refused(Cause.DATABASE_UNREACHABLE, error)
    _write_message(ending)
    return ending.exit_code


def _attempt(cancel: threading.Event, check: Callable[[Settings], None]) -> AttemptEnd:
    verifier = os.environ.get(STANDBY)
    if verifier is None:
        assignment = PodAssignment.from_environment(os.environ)
        set_process_fields(request_id=assignment.request_id, run=assignment.run, attempt=assignment.attempt)
    settings = load_settings()
    check(settings)
    engine = create_engine(settings.database)
    if engine.dialect.name == "sqlite":
        raise ConfigurationError("SPOKE_DATABASE_URL names an SQLite file, which pods can't share: use PostgreSQL")
    ledger = SqlAttempts(engine, keeps_successes=settings.keeps_successes)
    if verifier is None:
        return _claim_and_run(ledger, settings, assignment, cancel)
    imported = _imported(settings)
    if isinstance(imported, Failure):
        return AttemptEnd(ExitCode.FAILED, imported)
    try:
        waited_for = _wait_for_attempt(verifier, engine, cancel)
        if waited_for is None:
            return _without_claim(None)
        return _claim_and_run(ledger, settings, waited_for, cancel, imported)
    finally:
        close_all(imported.middleware)


def _claim_and_run(
    ledger: SqlAttempts,
    settings: Settings,
    assignment: PodAssignment,
    cancel: threading.Event,
    registry: Registry | None = None,
) -> AttemptEnd:
    """Claim the attempt and run it.

    :param registry: the jobs of the application, if a standby pod has imported it already.
    """
    asked_at = time.monotonic()
    claim = claim_attempt(ledger, assignment, settings.lease_seconds, cancel)
    if not isinstance(claim, Claim):
        return _without_claim(claim)
    try:
        if registry is not None:
            return _run(claim, ledger, registry, assignment, cancel, asked_at, of_own_process)
        # Import the application under the claim, so that a failed import is recorded in the ledger.
        imported = _imported(settings)
        if isinstance(imported, Failure):
            ledger.fail(claim.token, imported, decide=False)
            return AttemptEnd(ExitCode.FAILED, imported)
        try:
            return _run(claim, ledger, imported, assignment, cancel, asked_at, of_pod)
        finally:
            close_all(imported.middleware)
    finally:
        ledger.close_notifier()


def _wait_for_attempt(verifier: str, engine: Engine, cancel: threading.Event) -> PodAssignment | None:
    """Wait in a standby pod; return None if it was told to stop, or has waited for too long.

    The attempt's variables are those of the process then, as in a pod of its own.

    :raises DatabaseUnreachable, DBAPIError: if the database is away.
    :raises DatabaseNotMigrated: if the ledger does not fit this release.
    """
    import sqlalchemy.orm  # noqa: F401 (before the attempt, which may need it)

    from spoke_jobs.execution import standby_endpoint  # the other pods need no server

    check_schema(engine)
    slot = standby_endpoint.AssignmentSlot(verifier)
    server = standby_endpoint.serve(slot)
    garbage_collection.resume()  # while it waits, requests and pings leave garbage behind
    logger.info("waiting for an attempt", extra={"port": server.server_port})
    seconds = os.environ.get(STANDBY_SECONDS, "")
    longest = float(seconds) if seconds.isascii() and seconds.isdigit() else float("inf")
    if not standby_endpoint.wait(slot, cancel, lambda: _ping(engine), longest):
        return None
    os.environ.update(slot.variables)
    assignment = PodAssignment.from_environment(os.environ)
    set_process_fields(request_id=assignment.request_id, run=assignment.run, attempt=assignment.attempt)
    return assignment


def _ping(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))


def _imported(settings: Settings) -> Registry | Failure:
    try:
        return load_app(settings.app)
    except BaseException as error:  # `sys.exit(0)` at import would look like success
        logger.exception("SPOKE_APP=%s can't be imported", settings.app)
        said = f"SPOKE_APP={settings.app} can't be imported: {error}"
        return Failure(Cause.BAD_SETUP, said, type(error).__name__)


def _run(
    claim: Claim,
    ledger: SqlAttempts,
    registry: Registry,
    assignment: PodAssignment,
    cancel: threading.Event,
    asked_at: float,
    meter: Callable[[], Meter],
) -> AttemptEnd:
    garbage_collection.resume()
    (claim,) = with_declared_options([claim], registry, ledger)
    if _paused(claim, ledger):
        failure = Failure(Cause.START_PAUSED, Cause.START_PAUSED.meaning)
        return AttemptEnd(ExitCode.HELD, failure, recorded=ledger.fail(claim.token, failure, decide=False))
    if assignment.timeout_seconds is not None:
        claim = with_timeout(claim, assignment.timeout_seconds)
    services = AttemptServices(
        ledger,
        registry,
        lambda: _new_session(ledger.engine),
        decide=False,
        on_stop=_leave_at_once,
        meter=meter,
        asked_at=asked_at,
    )
    return run_attempt(claim, services, cancel)


def _new_session(engine: Engine) -> Session:
    with garbage_collection.paused():
        from sqlalchemy.orm import Session  # it takes a tenth of the start of a pod, and not every job needs it

    return Session(engine)


def _paused(claim: Claim, ledger: SqlAttempts) -> bool:
    """Return whether the job is paused or suspended in the ledger. The operator may have made the pod before that."""
    if claim.job.suspended_at is not None:
        return True
    try:
        return ledger.limits.holds(claim.job)
    except DBAPIError as error:
        if not is_not_allowed(error):
            raise
        return False  # the role's privileges are those of an earlier release: the operator alone knows pauses


def with_timeout(claim: Claim, seconds: float) -> Claim:
    """Return the claim with a timeout of the namespace. A shorter timeout of the job itself stays."""
    own = claim.job.options.timeout_seconds
    options = replace(claim.job.options, timeout_seconds=seconds if own is None else min(own, seconds))
    return replace(claim, job=replace(claim.job, options=options))


def claim_attempt(
    ledger: SqlAttempts, assignment: PodAssignment, lease_seconds: float, cancel: threading.Event
) -> Claim | ClaimRefusal | None:
    """Claim the attempt. Wait while the database is away, and while another process holds the job.

    :returns: None if told to stop meanwhile.
    :raises DatabaseUnreachable, DBAPIError: if the database stays away for longer than :func:`patience` allows.
    :raises DatabaseNotMigrated: if the ledger does not fit this release.
    """
    worker = assignment.pod or f"{socket.gethostname()}:{os.getpid()}"
    begun, failures, fits = time.monotonic(), 0, False
    while not cancel.is_set():
        try:
            if not fits:
                check_schema(ledger.engine)
                fits = True
            asked_at = time.monotonic()
            answer = ledger.claim(
                assignment.request_id,
                assignment.uid,
                assignment.run,
                assignment.attempt,
                worker,
                lease_seconds,
                assignment.job_type,
            )
        except (DatabaseUnreachable, DBAPIError) as error:
            left = patience(error, assignment.start_timeout_seconds) - (time.monotonic() - begun)
            if left <= 0:
                raise
            failures += 1
            logger.warning("job %d: the database is away (%s); retrying", assignment.request_id, _first_line(error))
            cancel.wait(min(_BETWEEN_TRIES.after(failures), left))
            continue
        if isinstance(answer, Claim):
            return replace(answer, asked_at=asked_at)
        if not isinstance(answer, Taken):
            return answer
        logger.info("job %d: another process holds it; waiting", assignment.request_id)
        cancel.wait(min(max(answer.seconds_left, 0.2), 2.0))
    return None


def patience(error: Exception, start_timeout_seconds: float) -> float:
    """Return for how many seconds, from the process's start, the pod waits for a database that fails in this way."""
    if isinstance(error, DatabaseRefused) or (isinstance(error, DBAPIError) and refuses(error)):
        return min(REFUSED_SECONDS, start_timeout_seconds)
    if isinstance(error, DBAPIError):
        passes = is_away(error) or getattr(error.orig, "sqlstate", None) == _READ_ONLY
        return start_timeout_seconds if passes else 0.0
    return start_timeout_seconds


def _first_line(error: Exception) -> str:
    return reason_of(error) if isinstance(error, DBAPIError) else str(error).strip().partition("\n")[0]


def _without_claim(answer: ClaimRefusal | None) -> AttemptEnd:
    """The end of a pod whose claim was refused, or that was told to stop before it had a claim."""
    match answer:
        case AlreadyFinal(job) if job.state is JobState.SUCCEEDED:
            return AttemptEnd(ExitCode.DONE)
        case AlreadyFinal(job):
            return AttemptEnd(ExitCode.FAILED_FOR_GOOD, Failure(job.cause, for_good=True))
        case AttemptOver(failure):
            return AttemptEnd(ExitCode.FAILED_FOR_GOOD if failure.for_good else ExitCode.FAILED, failure)
        case NoRow():
            return AttemptEnd(ExitCode.FAILED_FOR_GOOD, Failure(Cause.NO_ROW, Cause.NO_ROW.meaning, for_good=True))
        case QueueHeld():
            return AttemptEnd(ExitCode.HELD, Failure(Cause.QUEUE_HELD, Cause.QUEUE_HELD.meaning))
        case NotThisAttempt():
            return AttemptEnd(ExitCode.SUPERSEDED, Failure(Cause.SUPERSEDED, Cause.SUPERSEDED.meaning))
        case _:
            return AttemptEnd(ExitCode.INTERRUPTED, Failure(Cause.INTERRUPTED, Cause.INTERRUPTED.meaning))


def _refused(cause: str, error: Exception) -> AttemptEnd:
    logger.error("%s", error)
    return AttemptEnd(ExitCode.FAILED, Failure(cause, str(error), type(error).__name__))


def _write_message(ending: AttemptEnd) -> None:
    failure = ending.failure
    message = TerminationMessage()
    if failure is not None:
        message = TerminationMessage(
            failure.cause,
            failure.error_type,
            failure.for_good,
            failure.retry_after_seconds,
            recorded=ending.recorded,
        )
    message.write()


def _on_sigterm(cancel: threading.Event, _frame: FrameType | None) -> None:
    logger.warning("received SIGTERM; asking the job to stop")
    cancel.set()


def leave(code: int, deliver: Callable[[], None]) -> NoReturn:
    """Exit the process now: threads that the job left running must not keep the pod alive.

    :param deliver: delivers the dispatched tasks that are still in memory.
    """
    try:
        deliver()
    except Exception:  # the job's end is recorded and stays as it is
        logger.exception("could not deliver all tasks that the job dispatched")
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave_at_once(reason: StopReason) -> None:
    """Exit at once: the job's thread must not continue."""
    if (failure := failure_of(reason)) is not None:
        ending = AttemptEnd(code_of(failure), failure)
    elif reason is StopReason.DATABASE_AWAY:
        ending = AttemptEnd(ExitCode.FAILED, Failure(Cause.DATABASE_UNREACHABLE, Cause.DATABASE_UNREACHABLE.meaning))
    elif reason is StopReason.LEASE_EXPIRED:
        ending = AttemptEnd(ExitCode.FAILED, Failure(Cause.WORKER_LOST, Cause.WORKER_LOST.meaning))
    else:
        ending = AttemptEnd(ExitCode.SUPERSEDED, Failure(Cause.SUPERSEDED, Cause.SUPERSEDED.meaning))
    _write_message(ending)
    os._exit(ending.exit_code)
