"""Ending attempts whose lease has lapsed, so that their jobs go on, and jobs that waited too long for their start."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from spoke_jobs.ledger.port import Ledger

logger = logging.getLogger(__name__)


class Reaper:
    """Reaps every now and then, but only once the database has answered for one full lease.

    After the database was away, live owners need a lease's time to renew; reaping at once would end them all.
    """

    def __init__(
        self,
        ledger: Ledger,
        runner: str,
        lease_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        types: Collection[str] = (),
    ) -> None:
        self._ledger = ledger
        self._runner = runner
        self._lease = lease_seconds
        self._types = types
        self._every = min(5.0, lease_seconds / 3)
        self._clock = clock
        self._answering_since: float | None = None
        self._next = 0.0
        self.has_looked = False
        """Whether the database was asked at the last call."""

    def database_failed(self) -> None:
        """The database did not answer: its time of answering begins anew."""
        self._answering_since = None

    def due_in(self) -> float:
        """In how many seconds it has something to do."""
        return max(0.0, self._next - self._clock())

    def reap_if_due(self) -> int:
        """Reap if it is time; how many attempts were ended. Raises what the database raises."""
        now = self._clock()
        self.has_looked = False
        if self._answering_since is None:
            self._answering_since = now
        if now < self._next:
            return 0
        self._next = now + self._every
        self.has_looked = True
        # What has not been started need not wait for owners that renew.
        for job in self._ledger.expire_starts(self._runner, self._types):
            logger.warning("job %d (%s): %s, %s", job.id, job.job_type, job.cause, job.result_message)
        if now - self._answering_since < self._lease:
            return 0
        jobs = self._ledger.reap(self._runner)
        for job in jobs:
            logger.warning(
                "job %d (%s), attempt %d: its worker is lost; the job is %s",
                job.id,
                job.job_type,
                job.attempt,
                job.state,
            )
        return len(jobs)
