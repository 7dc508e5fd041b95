"""Running jobs in the process that dispatched them: to their end at once, or in a thread beside it."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time

from spoke_jobs.execution.attempt import Surroundings, run_attempt
from spoke_jobs.execution.reaper import Reaper
from spoke_jobs.ledger.port import AttemptOver, NotThisAttempt, QueueHeld, Taken
from spoke_jobs.model import Claim, JobRequest, JobState

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.05


def worker_name() -> str:
    """This process, as attempts name it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def run_to_the_end(job: JobRequest, around: Surroundings, *, lease_seconds: float) -> None:
    """Run a job here, attempt after attempt, until it is final, whoever ends it."""
    while True:
        row = around.ledger.get(job.id)
        if row is None or row.state.final:
            return
        if row.run_after is not None and row.state is JobState.WAITING:
            # Both times are the database's, so that the difference is right whatever this process's clock says.
            time.sleep(max(0.0, (row.run_after - row.updated_at).total_seconds()))
        answer = around.ledger.claim(job.id, job.uid, row.run, row.attempt + 1, worker_name(), lease_seconds)
        match answer:
            case Claim():
                run_attempt(answer, around, threading.Event())
            case Taken(left):
                time.sleep(min(left, 0.5))
            case QueueHeld() | AttemptOver() | NotThisAttempt():
                time.sleep(_LOOK_SECONDS)
            case _:
                return


class InProcessWorker:
    """A thread that claims and runs jobs one after the other, those that an earlier process left behind included."""

    def __init__(self, runner: str, around: Surroundings, *, lease_seconds: float, poll_seconds: float) -> None:
        self._runner = runner
        self._around = around
        self._lease = lease_seconds
        self._poll = poll_seconds
        self._reaper = Reaper(around.ledger, runner, lease_seconds)
        self._wake = threading.Event()
        self._finishing = threading.Event()
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._work, name="spoke-in-process", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    def finish(self, seconds: float | None = None) -> None:
        """Run what is due, then end; waits for that."""
        self._finishing.set()
        self._wake.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            self._wake.clear()
            try:
                self._reaper.reap_if_due()
                claim = self._around.ledger.claim_next(
                    self._runner, list(self._around.registry.jobs), worker_name(), self._lease
                )
            except Exception:
                logger.exception("the ledger can't be asked for work; trying again")
                self._reaper.database_failed()
                claim = None
            if claim is not None:
                run_attempt(claim, self._around, self._cancel)
            elif self._finishing.is_set():
                return
            else:
                self._wake.wait(self._poll)
