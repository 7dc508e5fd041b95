"""What a scrape of a worker reads from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection

from spoke_jobs.contract.metrics.application_catalogue import MOST_SCOPES
from spoke_jobs.ledger.engine import READ_ONLY
from spoke_jobs.ledger.limits_and_pauses import current_limits
from spoke_jobs.ledger.pool_metrics import PoolUse, pool_use
from spoke_jobs.ledger.reading.failed_jobs import FailedJobs, failed_jobs
from spoke_jobs.ledger.schedules.schedule_states import ScheduleCounts
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.limits.admission import LimitFigures


class FailureCounter:
    """Counts failed jobs since the first call. Calls come one after the other.

    :param look: counts those since a time, or begins.
    """

    def __init__(self, look: Callable[[datetime | None], FailedJobs]) -> None:
        self._look = look
        self._until: datetime | None = None
        self._count = 0

    def __call__(self) -> int:
        """Count those since the last call. Return the number since the first one."""
        found = self._look(self._until)
        self._until = found.until
        self._count += found.count
        return self._count


class LedgerReads:
    """Reads of a ledger. Each raises an error while the database is unreachable."""

    def __init__(self, ledger: SqlLedger, runner: str) -> None:
        self._ledger = ledger
        self._runner = runner
        self.failed = FailureCounter(self._failed_since)

    def backlog(self) -> dict[str, float]:
        """Count the due jobs, and the seconds for which the oldest has been due."""
        return self._ledger.backlog(self._runner)

    def schedules(self) -> ScheduleCounts:
        """Count the schedules."""
        return self._ledger.count_schedules(self._runner)

    def limits(self) -> LimitFigures:
        """Return the limits with their use, and the pauses."""
        with self._reading() as connection:
            return current_limits.read_admission(connection).figures(MOST_SCOPES)

    def pool(self) -> PoolUse | None:
        """Return the use of the connections to the database. This needs no connection."""
        return pool_use(self._ledger.engine)

    def _failed_since(self, since: datetime | None) -> FailedJobs:
        with self._reading() as connection:
            return failed_jobs(connection, self._runner, since)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._ledger.engine.connect().execution_options(**{READ_ONLY: True}) as connection:
            yield connection
