"""End attempts whose lease has lapsed, and jobs that were not started in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from spoke_jobs.ledger.sql_ledger import SqlLedger


logger = logging.getLogger(__name__)
R = TypeVar("R")


class Reaper:
    """Reap at intervals, but only once the database has answered for one full lease.

    After an outage of the database, live owners need up to one lease to renew. Reaping at once would end them all. An
    answer that takes a quarter of a lease counts as an outage, too.
    """

    def __init__(
        self,
        ledger: SqlLedger,
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

    def database_answered_after(self, seconds: float) -> None:
        """Reset the recovery timer if queries took so long that owners may not have been able to renew."""
        if seconds > self._lease / 4:
            self._answering_since = None

    def timed(self, work: Callable[[], R]) -> R:
        """Do one piece of this process's work in the database, and take a long one for an outage.

        The pieces are short if the database answers. Several of them together may take long: their sum says nothing.
        """
        began = self._clock()
        try:
            return work()
        finally:
            self.database_answered_after(self._clock() - began)

    def due_in(self) -> float:
        """Seconds until :meth:`reap_if_due` queries the database again."""
        return max(0.0, self._next - self._clock())

    def reap_if_due(self) -> int:
        """Reap if it is due. Return how many attempts were ended.

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
        for job in self.timed(lambda: self._ledger.expire_starts(self._runner, self._types)):
            fields = {"request_id": job.id, "job_type": job.job_type, "cause": job.cause}
            logger.warning("job %d (%s): %s, %s", job.id, job.job_type, job.cause, job.result_message, extra=fields)
        self.timed(self._ledger.settle)
        self.timed(self._ledger.end_strays)
        if not self._has_answered_for_a_lease(now):
            return 0
        jobs = self._ledger.reap(self._runner)
        for job in jobs:
            logger.warning(
                "job %d (%s), attempt %d: its lease lapsed; the job is %s",
                job.id,
                job.job_type,
                job.attempt,
                job.state,
                extra={"request_id": job.id, "job_type": job.job_type, "attempt": job.attempt, "cause": job.cause},
            )
        return len(jobs)

    def _has_answered_for_a_lease(self, now: float) -> bool:
        return self._answering_since is not None and now - self._answering_since >= self._lease
