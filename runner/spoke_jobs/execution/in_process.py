"""Run jobs in the process that dispatched them: synchronously, or in a background thread."""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

import spoke_jobs.ledger.claims.claim_search  # noqa: F401  (not by the thread: a fork could come in between)
from spoke_jobs.contract.causes import Cause
from spoke_jobs.execution.attempt import AttemptServices, is_late
from spoke_jobs.execution.lease import seconds_until_retry
from spoke_jobs.execution.reaper import Reaper
from spoke_jobs.execution.start_allowance import StartAllowance
from spoke_jobs.execution.thread_attempt import run_attempt
from spoke_jobs.execution.unrecorded_ends import UnrecordedEnds
from spoke_jobs.ledger.after_commit import run_safely
from spoke_jobs.ledger.engine import is_away
from spoke_jobs.ledger.port import AttemptOver, NotThisAttempt, QueueHeld, Taken
from spoke_jobs.model import Claim, Failure, JobRequest, JobState

if TYPE_CHECKING:
    from spoke_jobs.ledger.sql_ledger import SqlLedger

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.05
"""How long to wait before trying again to claim a job that cannot be claimed now."""
_DATABASE_AWAY = Failure(Cause.DATABASE_UNREACHABLE, Cause.DATABASE_UNREACHABLE.meaning)


@dataclass(frozen=True, slots=True)
class JobServices(AttemptServices):
    """The services of a process that also claims jobs, and ends attempts of processes that have died."""

    ledger: SqlLedger
    after_attempt: Callable[[], object] = lambda: None
    """Called once the attempt's end is recorded."""


def worker_name() -> str:
    """The name of this process in attempts: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


class _Stack(threading.local):
    """The nested jobs of this thread: each was dispatched by the previous one."""

    def __init__(self) -> None:
        self.queues: list[str] = []
        self.postponed: list[JobRequest] = []


_stack = _Stack()


def run_to_completion(
    job: JobRequest, services: JobServices, *, lease_seconds: float, stop: threading.Event | None = None
) -> None:
    """Run a job in this process, attempt by attempt, until it is final.

    If a running job of this thread holds the lock of the job's queue, first wait until the thread runs no job.

    :param stop: if given and the database is away, return: a thread runs the job to its end once the database answers,
        unless ``stop`` is set before.
    :raises DBAPIError: without ``stop``, if the database is away.
    """
    if job.locks_queue and job.queue_name in _stack.queues:
        _stack.postponed.append(job)
        return
    _stack.queues.append(job.queue_name if job.locks_queue else "")
    ends = UnrecordedEnds(services.ledger)
    try:
        _attempts(job, services, lease_seconds, ends)
    except DBAPIError as error:
        if not is_away(error) or stop is None:
            raise
        logger.warning("job %d: the database is away (%s); going on once it answers", job.id, type(error.orig).__name__)
        arguments = (job, services, lease_seconds, ends, stop)
        threading.Thread(target=_go_on_later, args=arguments, name="spoke-after-outage", daemon=True).start()
    finally:
        _stack.queues.pop()
    if not _stack.queues:
        waiting, _stack.postponed = _stack.postponed, []
        for later in waiting:
            run_to_completion(later, services, lease_seconds=lease_seconds, stop=stop)


def _go_on_later(
    job: JobRequest, services: JobServices, lease_seconds: float, ends: UnrecordedEnds, stop: threading.Event
) -> None:
    """Write the end of the job's attempt once the database answers, before a reaper finds the lapsed lease."""
    while not stop.wait(seconds_until_retry(lease_seconds)):
        try:
            ends.write()
            services.ledger.get(job.id)
        except DBAPIError as error:
            if is_away(error):
                continue
            logger.exception("job %d: could not go on after an outage of the database", job.id)
        else:
            run_safely(partial(run_to_completion, job, services, lease_seconds=lease_seconds, stop=stop))
        return
    ends.give_up()


def _attempts(job: JobRequest, services: JobServices, lease_seconds: float, ends: UnrecordedEnds) -> None:
    """Run the job's attempts.

    :param ends: gets the end of an attempt that can't be recorded.
    :raises DBAPIError: if the database fails.
    """
    reaper = Reaper(services.ledger, job.runner, lease_seconds, types=list(services.registry.jobs))
    while True:
        reaper.reap_if_due()  # there may be no other process that ends the attempts of dead processes
        row = _unheld(job.id, services)
        if row is not None and row.run_after is not None and row.state is JobState.WAITING:
            # Both times are by the database's clock: this process's clock may differ.
            time.sleep(max(0.0, (row.run_after - row.updated_at).total_seconds()))
            row = _unheld(job.id, services)
        if row is None:
            return
        answer = services.ledger.claim(job.id, job.uid, row.run, row.attempt + 1, worker_name(), lease_seconds)
        match answer:
            case Claim():
                try:
                    ending = run_attempt(answer, services, threading.Event())
                except DBAPIError as error:
                    if is_away(error):
                        ends.record(job.id, answer.token, _DATABASE_AWAY)
                    raise
                services.after_attempt()
                if ending.failure is not None and ending.failure.error_type == "KeyboardInterrupt":
                    raise KeyboardInterrupt  # it was sent to the whole process
            case Taken(left):
                time.sleep(min(left, 0.5))
            case QueueHeld() | AttemptOver() | NotThisAttempt():
                time.sleep(_RETRY_SECONDS)
            case _:
                return


def _unheld(job_id: int, services: JobServices) -> JobRequest | None:
    """Read a job; return None if there is nothing to run of it, or nobody knows when."""
    row = services.ledger.get(job_id)
    if row is None or row.state.final or row.suspended_at is not None:
        return None
    return None if row.state is JobState.BLOCKED else row  # jobs that run elsewhere block it


class InProcessWorker:
    """A thread that claims and runs jobs one at a time, including jobs that an earlier process dispatched."""

    def __init__(self, runner: str, services: JobServices, *, lease_seconds: float, poll_seconds: float) -> None:
        self._runner = runner
        self._services = services
        self._lease = lease_seconds
        self._poll = poll_seconds
        self._reaper = Reaper(services.ledger, runner, lease_seconds, types=list(services.registry.jobs))
        self._unrecorded = UnrecordedEnds(services.ledger)
        self._allowance = StartAllowance()
        self._wake = threading.Event()
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="spoke-in-process", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Claim jobs now, before the next poll."""
        self._wake.set()

    def finish(self, seconds: float | None = None) -> None:
        """Run the due jobs, then stop the thread. Block for at most ``seconds``."""
        self._finishing.set()
        self._wake.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                self._unrecorded.write()  # before the reaper finds the lapsed lease
                self._reaper.reap_if_due()
                claim = next(
                    iter(
                        self._services.ledger.claim_batch(
                            self._runner, list(self._services.registry.jobs), worker_name(), self._lease
                        )
                    ),
                    None,
                )
            except Exception:
                logger.exception("could not claim a job; retrying")
                self._reaper.database_failed()
                claim = None
            if claim is not None:
                self._run(claim)
            elif self._finishing.is_set():
                self._unrecorded.give_up()
                return
            else:
                self._wake.wait(self._poll)

    def _run(self, claim: Claim) -> None:
        try:
            start_by = self._allowance.start_by(claim)
            if is_late(claim.job.id, start_by):
                self._allowance.late(start_by, claim.asked_at)
                self._give_back(claim)
                return
            self._allowance.in_time(start_by)
            run_attempt(claim, self._services, threading.Event())
            self._services.after_attempt()
        except DBAPIError as error:
            if not is_away(error):
                logger.exception("job %d: could not record its end; its lease will lapse", claim.job.id)
                return
            self._unrecorded.record(claim.job.id, claim.token, _DATABASE_AWAY)
        except Exception:
            logger.exception("job %d: could not record its end; its lease will lapse", claim.job.id)

    def _give_back(self, claim: Claim) -> None:
        """Release a claim whose attempt was not started; it is not charged."""
        try:
            self._services.ledger.release(claim.token)
        except Exception as error:
            if not isinstance(error, DBAPIError):
                logger.exception("job %d: unexpected error while its claim was released", claim.job.id)
            self._unrecorded.record(claim.job.id, claim.token, Failure(Cause.INTERRUPTED, Cause.INTERRUPTED.meaning))


def run_before_exit(finish: Callable[[], None]) -> None:
    """Call ``finish`` at interpreter exit, while it is still possible to start threads."""
    # `atexit` runs too late: executors are shut down by then. `concurrent.futures` itself uses this private function.
    register: Callable[[Callable[[], None]], object] = getattr(threading, "_register_atexit", atexit.register)
    register(finish)
