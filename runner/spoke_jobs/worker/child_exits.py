"""Handle the attempts of exited children: release those that had not started, fail the others with a cause."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.execution.output_lines import with_output
from spoke_jobs.execution.unrecorded_ends import UnrecordedEnds
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Failure
from spoke_jobs.worker.child_messages import Order
from spoke_jobs.worker.child_pool import Child, ChildKind, HeldOrder, signal_name
from spoke_jobs.worker.suspect_types import TAKES_DOWN
from spoke_jobs.worker.worker_metrics import WorkerMetrics

logger = logging.getLogger(__name__)

_DATABASE_AWAY = Failure(Cause.DATABASE_UNREACHABLE, Cause.DATABASE_UNREACHABLE.meaning)


class ChildExits:
    """Records the ends of attempts. While the database is unreachable, keeps them in memory.

    :param may_be_due: called whenever a job may be due again.
    :param took_down: called for a child that jobs of one type have taken down, with the oldest of these attempts.
    :param keep_output: whether the ledger keeps what the attempts printed.
    """

    def __init__(
        self,
        ledger: SqlLedger,
        metrics: WorkerMetrics,
        may_be_due: Callable[[], None],
        took_down: Callable[[Child, HeldOrder], None],
        *,
        keep_output: bool,
    ) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._may_be_due = may_be_due
        self._took_down = took_down
        self._keep_output = keep_output
        self._unrecorded = UnrecordedEnds(ledger)

    def died(self, child: Child) -> None:
        """Handle a child that exited by itself or was killed by a limit."""
        self._copy_output(child)
        blamed: list[HeldOrder] = []
        for item in child.orders.values():
            if not child.has_begun(item):
                self.release(item.order)
                continue
            failure = self._with_output(child, failure_of(child, item))
            fields = {"request_id": item.order.job_id, "attempt": item.order.number, "cause": failure.cause}
            logger.warning(
                "job %d, attempt %d: %s", item.order.job_id, item.order.number, failure.message, extra=fields
            )
            if failure.cause in TAKES_DOWN:
                blamed.append(item)
            self._metrics.died()
            self._metrics.ran(item.observed, ExitCode.FAILED, child.ran_seconds(item))
            self._record(item.order, failure)
        # If nobody knows which job of an event loop has ended it, all are blamed.
        if len({item.type_name for item in blamed}) == 1:
            self._took_down(child, blamed[0])
        child.output.close()

    def interrupted(self, child: Child) -> None:
        """Handle a child that was stopped because the worker stops."""
        self._copy_output(child)
        for item in child.orders.values():
            if not child.has_begun(item):
                self.release(item.order)
            else:
                failure = Failure(Cause.INTERRUPTED, Cause.INTERRUPTED.meaning)
                self._record(item.order, self._with_output(child, failure))
        child.output.close()

    def lost_database(self, order: Order) -> None:
        """Handle an attempt that could not record its end or renew its lease, because the database was away."""
        self._record(order, _DATABASE_AWAY)

    def release(self, order: Order) -> None:
        """Release the claim of an attempt that was not started; it is not charged.

        If its cancellation was requested, the job ends.
        """
        self._may_be_due()
        try:
            self._ledger.release(order.token)
        except Exception as error:
            if not isinstance(error, DBAPIError):
                logger.exception("job %d: unexpected error while its claim was released", order.job_id)
            self._record(order, Failure(Cause.INTERRUPTED, Cause.INTERRUPTED.meaning))

    def write(self) -> None:
        """Write the failures kept in memory.

        :raises DBAPIError: if the database is unreachable.
        """
        self._unrecorded.write()

    def give_up(self) -> None:
        """Log the failures still kept in memory. Called when the worker stops."""
        self._unrecorded.give_up()

    def _copy_output(self, child: Child) -> None:
        """Copy to the log what a child printed and did not copy itself."""
        running = child.orders.get(child.shared.at[0]) if child.shared.at[0] else None
        child.output.copy_left(child.shared, running.order.job_id if running else None)

    def _with_output(self, child: Child, failure: Failure) -> Failure:
        if not self._keep_output:
            return failure
        return replace(failure, output_tail=with_output(failure.output_tail, child.output.tail()))

    def _record(self, order: Order, failure: Failure) -> None:
        self._may_be_due()
        self._unrecorded.record(order.job_id, order.token, failure)


def failure_of(child: Child, item: HeldOrder) -> Failure:
    """The failure of an attempt whose child has exited."""
    code = child.process.returncode
    if not _caused_exit(child, item.order):
        return Failure(Cause.BYSTANDER, Cause.BYSTANDER.meaning, retry_after_seconds=0.0)
    if (reason := child.kill_reason) is not None:
        meaning = reason.message or CAUSES[reason.cause].meaning
        for_good = reason.cause == Cause.CANCELLED
        return Failure(reason.cause, meaning, output_tail=child.stacks, for_good=for_good, usage=reason.usage)
    if code == ExitCode.FAILED and (cause := _cause_of_own_stop(item)):
        return Failure(cause, CAUSES[cause].meaning, for_good=cause == Cause.CANCELLED)
    if code == ExitCode.DATABASE_AWAY:
        return _DATABASE_AWAY
    if code == ExitCode.SUPERSEDED:
        # The ledger ignores this if another process has taken over: the token no longer matches.
        return Failure(
            Cause.WORKER_LOST, "the process stopped itself, since its lease was lost or could not be renewed"
        )
    if code < 0:
        name = signal_name(-code)
        return Failure(Cause.KILLED, f"{Cause.KILLED.meaning} ({name})", name)
    return Failure(Cause.JOB_EXITED, f"the job ended its process with exit code {code}")


def _caused_exit(child: Child, order: Order) -> bool:
    """Whether the order's attempt caused its child's exit, as far as the supervisor can know."""
    if child.kill_reason is not None:  # the order behind the one to be killed may have begun meanwhile
        return child.kill_reason.token in (None, order.token)
    if child.kind is ChildKind.THREAD:
        return True
    holder, _ = child.shared.at
    return holder not in child.orders or holder == order.token


def _cause_of_own_stop(item: HeldOrder) -> str:
    """Why the child itself stopped its attempt; empty if it did not. The child may have failed to record this cause."""
    if item.cancelled_at is not None:
        return Cause.CANCELLED
    return Cause.TIMEOUT if item.limit is not None and time.monotonic() - item.sent_at >= item.limit else ""
