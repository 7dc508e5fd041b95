"""Decisions and actions that raise an unexpected error.

Each delays only its own job, and the job ends after some tries. Without the end, the job would keep its place in the
cluster and its queue's lock forever.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from spoke_jobs.contract.failed_decisions import FailedDecisions
from spoke_jobs.shared.api_errors import ServerError
from spoke_jobs.sync.decide import undiagnosable
from spoke_jobs.sync.sync_model import Action, Row

logger = logging.getLogger(__name__)

DECISION = "decision"
FAILED, GIVEN_UP = "failed", "given up"
"""The keys of the counts."""


class Undecided:
    """The jobs whose last decision or action raised an error.

    :param counts: counts errors and jobs that were given up, for the metrics.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self._failed: FailedDecisions[tuple[UUID, str]] = FailedDecisions()
        self._given_up: set[UUID] = set()
        """The jobs whose end is not written yet."""
        self.counts = counts

    def failed(self, row: Row, error: Exception, what: str = DECISION) -> tuple[Action, ...]:
        """Record an error. Return the actions that follow: none, or the end of the job.

        :param what: the kind of action that raised it. Errors are counted for each kind separately.
        """
        last = self._record(row, error, what)
        follows = undiagnosable(row, error) if last else ()
        if follows:
            self._given_up.add(row.job.uid)
        return follows

    def read_earlier_run(self, row: Row, run: int, read: Callable[[], None]) -> None:
        """Call a routine that reads an earlier run of the job. An error ends nothing, because that run has ended.

        After some tries, the routine is not called any more.
        """
        what = f"reading of run {run}"
        if self._failed and self._failed.is_given_up((row.job.uid, what)):
            return
        try:
            read()
        except Exception as error:
            self._record(row, error, what)
            return
        self.succeeded(row, what)

    def _record(self, row: Row, error: Exception, what: str) -> bool:
        """Count and log an error. Return whether it was the last try."""
        self.counts[FAILED] += 1
        fields = {"request_id": row.job.id, "job_type": row.job.job_type, "run": row.job.run}
        last = self._failed.failed((row.job.uid, what))
        logger.error(
            "job %d: unexpected error in its %s; %s", row.job.id, what, "giving up" if last else "retrying",
            exc_info=error, extra=fields,
        )  # fmt: skip
        return last

    def ended(self, row: Row) -> None:
        """Count a job that was given up, once its end is written."""
        if row.job.uid in self._given_up:
            self._given_up.remove(row.job.uid)
            self.counts[GIVEN_UP] += 1

    def succeeded(self, row: Row, what: str = DECISION) -> None:
        """Record a success: the job's next error counts as its first."""
        if what == DECISION:
            self._given_up.discard(row.job.uid)
        if self._failed:
            self._failed.succeeded((row.job.uid, what))


MOST_FAILED = 20
"""If the writes of so many more SpokeJobs fail and none succeeds in between, the API server is unavailable."""
_REMEMBERED = 10_000
_UNAVAILABLE = 503


@dataclass(slots=True)
class FailedWrites:
    """The SpokeJobs whose last write has failed."""

    _failing: set[str] = field(default_factory=set)
    _in_a_row: int = 0
    """How many of them have been added since the last write that succeeded."""

    def concerns_one(self, name: str, error: Exception) -> bool:
        """Record an error about a SpokeJob. Return whether other SpokeJobs can probably be written nevertheless."""
        if not isinstance(error, ServerError) or error.status == _UNAVAILABLE:
            return False
        if name not in self._failing:
            if len(self._failing) >= _REMEMBERED:
                self._failing.clear()  # those that still fail count again
            self._failing.add(name)
            self._in_a_row += 1
        if self._in_a_row < MOST_FAILED:
            return True
        self._in_a_row = 0  # when sync tries again, it tries as many
        return False

    def succeeded(self, name: str) -> None:
        """Record a write that succeeded."""
        self._failing.discard(name)
        self._in_a_row = 0
