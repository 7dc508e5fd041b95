"""``spoke-jobs run``, the entrypoint of a job's pod.

Claim the attempt that the environment names, run it, and report its end by exit code and termination message. Imports
neither a Kubernetes client nor a web framework, since every job pays for the import.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from spoke_jobs.contract.causes import Cause
from spoke_jobs.contract.environment import Assignment, BadEnvironment
from spoke_jobs.contract.termination import ExitCode, TerminationMessage
from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseUnreachable
from spoke_jobs.execution.attempt import AttemptEnd, AttemptServices, failure_of, run_attempt
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.execution.signals import SignalEvent
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, NoRow, NotThisAttempt, QueueHeld, Refusal, Taken
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure, JobState
from spoke_jobs.registry import load_app
from spoke_jobs.settings import load_settings

logger = logging.getLogger(__name__)

_DATABASE_SECONDS = 60.0
"""How long to wait for the database at the start. Then the attempt fails."""


def run() -> ExitCode:
    """Run the pod's attempt and write the termination message; returns the exit code."""
    cancel = SignalEvent()
    signal.signal(signal.SIGTERM, lambda _number, _frame: _on_sigterm(cancel, _frame))
    try:
        ending = _attempt(cancel)
    except (ConfigurationError, BadEnvironment, DatabaseNotMigrated) as error:
        ending = _refused(Cause.BAD_SETUP, error)
    except (DatabaseUnreachable, DBAPIError) as error:
        ending = _refused(Cause.DATABASE_UNREACHABLE, error)
    _write_message(ending)
    return ending.exit_code


def _attempt(cancel: threading.Event) -> AttemptEnd:
    assignment = Assignment.from_environment(os.environ)
    settings = load_settings()
    engine = create_engine(settings.database_url.get_secret_value())
    if engine.dialect.name == "sqlite":
        raise ConfigurationError("SPOKE_DATABASE_URL names an SQLite file, which pods can't share: use PostgreSQL")
    _await_database(engine, cancel)
    ledger = SqlLedger(engine)
    worker = assignment.pod or f"{socket.gethostname()}:{os.getpid()}"
    claim = _claim(ledger, assignment, worker, settings.lease_seconds, cancel)
    if not isinstance(claim, Claim):
        return _without_claim(claim)
    try:
        # Import the application under the claim, so that a failed import is recorded in the ledger.
        registry = load_app(settings.app)
    except BaseException as error:  # `sys.exit(0)` at import would look like success
        failure = Failure(Cause.BAD_SETUP, f"SPOKE_APP={settings.app} can't be imported: {error}", type(error).__name__)
        logger.exception("SPOKE_APP=%s can't be imported", settings.app)
        ledger.fail(claim.token, failure, decide=False)
        return AttemptEnd(ExitCode.FAILED, failure)
    if not gc.isenabled():  # the command line disables it during imports
        gc.freeze()
        gc.enable()
    services = AttemptServices(ledger, registry, lambda: Session(engine), decide=False, on_stop=_leave_at_once)
    return run_attempt(claim, services, cancel)


def _claim(
    ledger: SqlLedger, assignment: Assignment, worker: str, lease_seconds: float, cancel: threading.Event
) -> Claim | Refusal | None:
    """Claim the attempt, waiting while another process holds the job; None if told to stop meanwhile."""
    while not cancel.is_set():
        answer = ledger.claim(
            assignment.request_id, assignment.uid, assignment.run, assignment.attempt, worker, lease_seconds
        )
        if not isinstance(answer, Taken):
            return answer
        logger.info("job %d: another process holds it; waiting", assignment.request_id)
        cancel.wait(min(max(answer.seconds_left, 0.2), 2.0))
    return None


def _without_claim(answer: Refusal | None) -> AttemptEnd:
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


def _await_database(engine: Engine, cancel: threading.Event) -> None:
    deadline = time.monotonic() + _DATABASE_SECONDS
    while True:
        try:
            return check_schema(engine)
        except DatabaseUnreachable as error:
            if time.monotonic() > deadline or cancel.is_set():
                raise
            logger.warning("%s; retrying", error)
            cancel.wait(1.0)


def _refused(cause: str, error: Exception) -> AttemptEnd:
    logger.error("%s", error)
    return AttemptEnd(ExitCode.FAILED, Failure(cause, str(error), type(error).__name__))


def _write_message(ending: AttemptEnd) -> None:
    failure = ending.failure
    message = TerminationMessage()
    if failure is not None:
        message = TerminationMessage(failure.cause, failure.error_type, failure.for_good, failure.retry_after_seconds)
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
        ending = AttemptEnd(ExitCode.FAILED_FOR_GOOD if failure.for_good else ExitCode.FAILED, failure)
    elif reason is StopReason.LEASE_EXPIRED:
        ending = AttemptEnd(ExitCode.FAILED, Failure(Cause.WORKER_LOST, Cause.WORKER_LOST.meaning))
    else:
        ending = AttemptEnd(ExitCode.SUPERSEDED, Failure(Cause.SUPERSEDED, Cause.SUPERSEDED.meaning))
    _write_message(ending)
    os._exit(ending.exit_code)
