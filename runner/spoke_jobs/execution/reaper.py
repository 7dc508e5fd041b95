"""End attempts whose lease has expired, and jobs that were not started in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from spoke_jobs.ledger.port import Ledger

logger = logging.getLogger(__name__)


class Reaper:
    """Reap at intervals, but only once the database has answered for one full lease.

    After an outage of the database, live owners need up to one lease to renew. Reaping at once would end them all.
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
        self.queried = False
        """Whether the last call queried the database."""

    def database_failed(self) -> None:
        """Reset the recovery timer: the database did not answer."""
        self._answering_since = None

    def due_in(self) -> float:
        """Seconds until :meth:`reap_if_due` queries the database again."""
        return max(0.0, self._next - self._clock())

    def reap_if_due(self) -> int:
        """Reap if it is due; returns the number of attempts ended.

        :raises DBAPIError: if the database fails.
        """
        now = self._clock()
        self.queried = False
        if self._answering_since is None:
            self._answering_since = now
        if now < self._next:
            return 0
        self._next = now + self._every
        self.queried = True
        # These jobs have no owner that could still renew a lease: do not wait for the recovery timer.
        for job in self._ledger.expire_starts(self._runner, self._types):
            logger.warning("job %d (%s): %s, %s", job.id, job.job_type, job.cause, job.result_message)
        if now - self._answering_since < self._lease:
            return 0
        jobs = self._ledger.reap(self._runner)
        for job in jobs:
            logger.warning(
                "job %d (%s), attempt %d: its lease expired; the job is %s",
                job.id,
                job.job_type,
                job.attempt,
                job.state,
            )
        return len(jobs)
