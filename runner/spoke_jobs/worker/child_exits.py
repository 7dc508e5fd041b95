"""Handle the attempts of exited children: release those that had not started, fail the others with a cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.engine import is_away
from spoke_jobs.ledger.port import Ledger
from spoke_jobs.model import Failure
from spoke_jobs.worker.child_messages import Order
from spoke_jobs.worker.child_pool import Assignment, Child, Kind, signal_name
from spoke_jobs.worker.worker_metrics import WorkerMetrics

logger = logging.getLogger(__name__)


class ChildExits:
    """Records the ends of attempts. While the database is unreachable, keeps them in memory.

    :param may_be_due: called whenever a job may be due again.
    """

    def __init__(self, ledger: Ledger, metrics: WorkerMetrics, may_be_due: Callable[[], None]) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._may_be_due = may_be_due
        self._unrecorded: list[tuple[Order, Failure]] = []
        """Failures to write once the database answers again."""

    def died(self, child: Child) -> None:
        """Handle a child that exited by itself or was killed by a limit."""
        for item in child.orders.values():
            if _was_not_started(child, item):
                self.release(item.order)
                continue
            failure = failure_of(child, item)
            logger.warning("job %d, attempt %d: %s", item.order.job_id, item.order.number, failure.message)
            self._metrics.died()
            self._record(item.order, failure)

    def interrupted(self, child: Child) -> None:
        """Handle a child that was stopped because the worker stops."""
        for item in child.orders.values():
            if _was_not_started(child, item):
                self.release(item.order)
            else:
                self._record(item.order, Failure(Cause.INTERRUPTED, Cause.INTERRUPTED.meaning))

    def release(self, order: Order) -> None:
        """Release the claim of an attempt that was not started; it is not charged."""
        self._may_be_due()
        try:
            self._ledger.release(order.token)
        except DBAPIError:
            self._record(order, Failure(Cause.INTERRUPTED, Cause.INTERRUPTED.meaning))

    def write(self) -> None:
        """Write the failures kept in memory.

        :raises DBAPIError: if the database is unreachable.
        """
        while self._unrecorded:
            order, failure = self._unrecorded[0]
            try:
                self._ledger.fail(order.token, failure, decide=True)
            except DBAPIError as error:
                if is_away(error):
                    raise
                kind = type(error).__name__
                logger.error("job %d: could not record its end (%s); the reaper will", order.job_id, kind)  # noqa: TRY400
            del self._unrecorded[0]

    def give_up(self) -> None:
        """Log the failures still kept in memory. Called when the worker stops."""
        for order, _ in self._unrecorded:
            logger.error("job %d: could not record its end; the reaper will", order.job_id)

    def _record(self, order: Order, failure: Failure) -> None:
        self._may_be_due()
        self._unrecorded.append((order, failure))
        try:
            self.write()
        except DBAPIError as error:
            logger.warning("job %d: could not record its end (%s); retrying", order.job_id, type(error.orig).__name__)


def failure_of(child: Child, item: Assignment) -> Failure:
    """The failure of an attempt whose child has exited."""
    code = child.process.returncode
    if not _caused_exit(child, item.order):
        return Failure(Cause.BYSTANDER, Cause.BYSTANDER.meaning, retry_after_seconds=0.0)
    if (reason := child.kill_reason) is not None:
        meaning = reason.message or CAUSES[reason.cause].meaning
        return Failure(reason.cause, meaning, for_good=reason.cause == Cause.CANCELLED)
    if code == ExitCode.FAILED and (cause := _cause_of_own_stop(item)):
        return Failure(cause, CAUSES[cause].meaning, for_good=cause == Cause.CANCELLED)
    if code == ExitCode.SUPERSEDED:
        # The ledger ignores this if another process has taken over: the token no longer matches.
        return Failure(
            Cause.WORKER_LOST, "the process stopped itself, since its lease was lost or could not be renewed"
        )
    if code < 0:
        return Failure(Cause.KILLED, f"{Cause.KILLED.meaning} ({signal_name(-code)})")
    return Failure(Cause.JOB_EXITED, f"the job ended its process with exit code {code}")


def _was_not_started(child: Child, item: Assignment) -> bool:
    """Whether the child exited before it started the order."""
    return child.kind is Kind.THREAD and child.shared.at[0] != item.order.token


def _caused_exit(child: Child, order: Order) -> bool:
    """Whether the order's attempt caused its child's exit, as far as the supervisor can know."""
    if child.kind is Kind.THREAD:
        return True
    if child.kill_reason is not None:
        return child.kill_reason.token in (None, order.token)
    holder, _ = child.shared.at
    return holder not in child.orders or holder == order.token


def _cause_of_own_stop(item: Assignment) -> str:
    """Why the child itself stopped its attempt; empty if it did not. The child may have failed to record this cause."""
    if item.cancelled_at is not None:
        return Cause.CANCELLED
    return Cause.TIMEOUT if item.limit is not None and time.monotonic() - item.sent_at >= item.limit else ""
