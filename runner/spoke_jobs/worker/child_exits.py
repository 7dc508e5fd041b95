"""What becomes of attempts whose child is dead: released if they had not begun, else failed with a cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.engine import is_away
from spoke_jobs.ledger.port import Ledger
from spoke_jobs.model import Failure
from spoke_jobs.worker.child_pool import Assignment, Child, Kind, signal_name
from spoke_jobs.worker.messages import Order
from spoke_jobs.worker.worker_metrics import WorkerMetrics

logger = logging.getLogger(__name__)


class ChildExits:
    """Records them, now or once the database answers again.

    :param may_be_due: told whenever a job may be due again.
    """

    def __init__(self, ledger: Ledger, metrics: WorkerMetrics, may_be_due: Callable[[], None]) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._may_be_due = may_be_due
        self._unrecorded: list[tuple[Order, Failure]] = []
        """Ends of attempts that the database did not take yet."""

    def died(self, child: Child) -> None:
        """A child has ended by itself, or was killed for a limit's sake."""
        for item in child.orders.values():
            if _waits(child, item):
                self.release(item.order)
                continue
            failure = failure_of(child, item)
            logger.warning("job %d, attempt %d: %s", item.order.job_id, item.order.number, failure.message)
            self._metrics.died()
            self._record(item.order, failure)

    def interrupted(self, child: Child) -> None:
        """A child was ended because the worker ends."""
        for item in child.orders.values():
            if _waits(child, item):
                self.release(item.order)
            else:
                self._record(item.order, Failure("Interrupted", CAUSES["Interrupted"].meaning))

    def release(self, order: Order) -> None:
        """An attempt has not begun, and won't: it is uncharged."""
        self._may_be_due()
        try:
            self._ledger.release(order.token)
        except DBAPIError:
            self._record(order, Failure("Interrupted", CAUSES["Interrupted"].meaning))

    def write(self) -> None:
        """Record what is not recorded yet. Raises what a database that is away raises."""
        while self._unrecorded:
            order, failure = self._unrecorded[0]
            try:
                self._ledger.fail(order.token, failure, decide=True)
            except DBAPIError as error:
                if is_away(error):
                    raise
                logger.error("job %d: %s; the reaper will end the attempt", order.job_id, type(error).__name__)  # noqa: TRY400
            del self._unrecorded[0]

    def give_up(self) -> None:
        """The worker ends: name what could not be recorded."""
        for order, _ in self._unrecorded:
            logger.error("job %d: its end could not be recorded; the reaper will end the attempt", order.job_id)

    def _record(self, order: Order, failure: Failure) -> None:
        self._may_be_due()
        self._unrecorded.append((order, failure))
        try:
            self.write()
        except DBAPIError as error:
            logger.warning("job %d: its end can't be recorded yet (%s)", order.job_id, type(error.orig).__name__)


def failure_of(child: Child, item: Assignment) -> Failure:
    """Why an attempt failed, from what is left of its dead child."""
    code = child.process.returncode
    if not _is_guilty(child, item.order):
        return Failure("Bystander", CAUSES["Bystander"].meaning, retry_after_seconds=0.0)
    if (why := child.kill_reason) is not None:
        return Failure(why.cause, why.message or CAUSES[why.cause].meaning, for_good=why.cause == "Cancelled")
    if code == ExitCode.FAILED and (cause := _own_end(item)):
        return Failure(cause, CAUSES[cause].meaning, for_good=cause == "Cancelled")
    if code == ExitCode.SUPERSEDED:
        # Nothing is recorded if another process took over: the token says so.
        return Failure("WorkerLost", "the process stopped itself, since its lease was lost or could not be renewed")
    if code < 0:
        return Failure("Killed", f"{CAUSES['Killed'].meaning} ({signal_name(-code)})")
    return Failure("JobExited", f"the job ended its process with exit code {code}")


def _waits(child: Child, item: Assignment) -> bool:
    """Whether a dead child had not begun what it had in hand."""
    return child.kind is Kind.THREAD and child.shared.at[0] != item.order.token


def _is_guilty(child: Child, order: Order) -> bool:
    """Whether a child's end is this order's doing, as far as can be known."""
    if child.kind is Kind.THREAD:
        return True
    if child.kill_reason is not None:
        return child.kill_reason.token in (None, order.token)
    holder, _ = child.shared.at
    return holder not in child.orders or holder == order.token


def _own_end(item: Assignment) -> str:
    """Why a child left that ended itself for its attempt's sake, and may not have reached the ledger before."""
    if item.cancelled_at is not None:
        return "Cancelled"
    return "Timeout" if item.limit is not None and time.monotonic() - item.sent_at >= item.limit else ""
