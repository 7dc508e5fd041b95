"""``spoke-jobs run``: the entrypoint of a job's pod. Claim the attempt that the environment names, run it, say how it
ended in exit code and termination message. Imports neither a Kubernetes client nor a web framework: start-up is paid
on every job.
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

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.environment import Assignment, BadEnvironment
from spoke_jobs.contract.termination import ExitCode, TerminationMessage
from spoke_jobs.errors import ConfigurationError, DatabaseNotMigrated, DatabaseUnreachable
from spoke_jobs.execution.attempt import AttemptEnd, AttemptServices, failure_of, run_attempt
from spoke_jobs.execution.lease import StopReason
from spoke_jobs.ledger.engine import check_schema, create_engine
from spoke_jobs.ledger.port import AlreadyFinal, AttemptOver, NoRow, NotThisAttempt, QueueHeld, Refusal, Taken
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Claim, Failure, JobState
from spoke_jobs.process.signals import SignalEvent
from spoke_jobs.registry import load_app
from spoke_jobs.settings import load_settings

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 60.0
"""How long the database may be away at the start, before the attempt fails and the operator tries another."""


def run() -> ExitCode:
    """Run the pod's attempt. Returns the process's exit code; the termination message is written."""
    cancel = SignalEvent()
    signal.signal(signal.SIGTERM, lambda _number, _frame: _on_sigterm(cancel, _frame))
    try:
        ending = _attempt(cancel)
    except (ConfigurationError, BadEnvironment, DatabaseNotMigrated) as error:
        ending = _refused("BadSetup", error)
    except (DatabaseUnreachable, DBAPIError) as error:
        ending = _refused("DatabaseUnreachable", error)
    _tell(ending)
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
        # Imported under the claim, so that an application that can't be imported is told in the ledger.
        registry = load_app(settings.app)
    except BaseException as error:  # sys.exit at import would leave with a code that says the job is done
        failure = Failure("BadSetup", f"SPOKE_APP={settings.app} can't be imported: {error}", type(error).__name__)
        logger.exception("SPOKE_APP=%s can't be imported", settings.app)
        ledger.fail(claim.token, failure, decide=False)
        return AttemptEnd(ExitCode.FAILED, failure)
    if not gc.isenabled():  # as the command line has it while all is imported
        gc.freeze()
        gc.enable()
    services = AttemptServices(ledger, registry, lambda: Session(engine), decide=False, on_stop=_leave_at_once)
    return run_attempt(claim, services, cancel)


def _claim(
    ledger: SqlLedger, assignment: Assignment, worker: str, lease_seconds: float, cancel: threading.Event
) -> Claim | Refusal | None:
    """Claim the attempt, waiting while another process holds the job. None: told to stop meanwhile."""
    while not cancel.is_set():
        answer = ledger.claim(
            assignment.request_id, assignment.uid, assignment.run, assignment.attempt, worker, lease_seconds
        )
        if not isinstance(answer, Taken):
            return answer
        logger.info("another process holds job %d; looking again", assignment.request_id)
        cancel.wait(min(max(answer.seconds_left, 0.2), 2.0))
    return None


def _without_claim(answer: Refusal | None) -> AttemptEnd:
    """What a pod says that was not granted its claim: nothing ran here."""
    match answer:
        case AlreadyFinal(job) if job.state is JobState.SUCCEEDED:
            return AttemptEnd(ExitCode.DONE)
        case AlreadyFinal(job):
            return AttemptEnd(ExitCode.FAILED_FOR_GOOD, Failure(job.cause, for_good=True))
        case AttemptOver(failure):
            return AttemptEnd(ExitCode.FAILED_FOR_GOOD if failure.for_good else ExitCode.FAILED, failure)
        case NoRow():
            return AttemptEnd(ExitCode.FAILED_FOR_GOOD, Failure("NoRow", CAUSES["NoRow"].meaning, for_good=True))
        case QueueHeld():
            return AttemptEnd(ExitCode.HELD, Failure("QueueHeld", CAUSES["QueueHeld"].meaning))
        case NotThisAttempt():
            return AttemptEnd(ExitCode.SUPERSEDED, Failure("Superseded", CAUSES["Superseded"].meaning))
        case _:
            return AttemptEnd(ExitCode.INTERRUPTED, Failure("Interrupted", CAUSES["Interrupted"].meaning))


def _await_database(engine: Engine, cancel: threading.Event) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return check_schema(engine)
        except DatabaseUnreachable as error:
            if time.monotonic() > deadline or cancel.is_set():
                raise
            logger.warning("%s; trying again", error)
            cancel.wait(1.0)


def _refused(cause: str, error: Exception) -> AttemptEnd:
    logger.error("%s", error)
    return AttemptEnd(ExitCode.FAILED, Failure(cause, str(error), type(error).__name__))


def _tell(ending: AttemptEnd) -> None:
    failure = ending.failure
    message = TerminationMessage()
    if failure is not None:
        message = TerminationMessage(failure.cause, failure.error_type, failure.for_good, failure.retry_after_seconds)
    message.write()


def _on_sigterm(cancel: threading.Event, _frame: FrameType | None) -> None:
    logger.warning("SIGTERM: the job is asked to stop")
    cancel.set()


def leave(code: int, deliver: Callable[[], None]) -> NoReturn:
    """End the process now: a thread that the job left behind must not keep its pod.

    :param deliver: delivers the tasks that the job dispatched, as happens at the end of any process.
    """
    try:
        deliver()
    except Exception:  # the job's end is recorded: it stays what it is
        logger.exception("what the job dispatched could not all be delivered")
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave_at_once(lost: StopReason) -> None:
    """The claim is lost: whatever the job's thread is doing, it must not go on."""
    if (failure := failure_of(lost)) is not None:
        ending = AttemptEnd(ExitCode.FAILED_FOR_GOOD if failure.for_good else ExitCode.FAILED, failure)
    elif lost is StopReason.LEASE_EXPIRED:
        ending = AttemptEnd(ExitCode.FAILED, Failure("WorkerLost", CAUSES["WorkerLost"].meaning))
    else:
        ending = AttemptEnd(ExitCode.SUPERSEDED, Failure("Superseded", CAUSES["Superseded"].meaning))
    _tell(ending)
    os._exit(ending.exit_code)
