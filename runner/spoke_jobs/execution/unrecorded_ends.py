"""Keep the ends of attempts in memory while they can't be recorded, and record them later."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from spoke_jobs.ledger.engine import is_away, is_locked
from spoke_jobs.model import Failure

if TYPE_CHECKING:
    from spoke_jobs.ledger.sql_attempts import SqlAttempts

logger = logging.getLogger(__name__)

_LOCKED_SECONDS = 10.0
"""How long to leave an end alone whose row another transaction has locked."""


@dataclass(frozen=True, slots=True)
class _End:
    job_id: int
    token: UUID
    failure: Failure
    due: float = 0.0
    """When to try again, by the monotonic clock, because the row was locked; 0: it was not."""


class UnrecordedEnds:
    """Failures to write, because the database is away or another transaction has locked the job's row.

    The ledger ignores one whose attempt has ended in the meantime.

    :param clock: the monotonic clock, in seconds.
    """

    def __init__(self, ledger: SqlAttempts, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._ends: list[_End] = []

    def record(self, job_id: int, token: UUID, failure: Failure) -> None:
        """Write a failure now, or keep it."""
        self._ends.insert(0, _End(job_id, token, failure))
        try:
            self.write()
        except DBAPIError as error:
            logger.warning("job %d: could not record its end (%s); retrying", job_id, type(error.orig).__name__)

    def write(self) -> None:
        """Write the failures kept in memory. Try only one of those again whose rows were locked: each try takes long.

        :raises DBAPIError: if the database is unreachable.
        """
        now = self._clock()
        for end in [end for end in self._ends if end.due <= now]:
            written = self._write(end)
            self._ends.remove(end)
            if not written:
                self._ends.append(replace(end, due=self._clock() + _LOCKED_SECONDS))
                if end.due:
                    break

    def give_up(self) -> None:
        """Log the failures still kept in memory. Called when the process stops."""
        for end in self._ends:
            logger.error("job %d: could not record its end; the reaper ends it", end.job_id)

    def _write(self, end: _End) -> bool:
        """Write a failure. Return False if its row is locked.

        :raises DBAPIError: if the database is unreachable.
        """
        try:
            self._ledger.fail(end.token, end.failure, decide=True)
        except DBAPIError as error:
            if is_away(error):
                raise
            if is_locked(error):
                if not end.due:
                    logger.warning(
                        "job %d: another transaction has locked its row; its end is recorded later", end.job_id
                    )
                return False
            kind = type(error).__name__
            logger.error("job %d: could not record its end (%s); the reaper ends it", end.job_id, kind)  # noqa: TRY400
        except Exception:  # it concerns this row only, and must not keep the others from being written
            logger.exception("job %d: unexpected error while its end was recorded; the reaper ends it", end.job_id)
        return True
