"""Enforce limits: end attempts over their timeout, cancelled attempts, and children that do not renew their leases."""

from __future__ import annotations

import logging
import signal
import threading
import time
from uuid import UUID

from spoke_jobs.contract.causes import CAUSES, Cause
from spoke_jobs.execution.lease import CANCEL_GRACE_SECONDS, StopReason, lease_margin
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.shared.durations import seconds
from spoke_jobs.worker.child_messages import Stop
from spoke_jobs.worker.child_pool import Child, ChildKind, ChildPool, HeldOrder, KillReason

logger = logging.getLogger(__name__)

_OVERTIME_SECONDS = 2.0
"""How long a child has to end an attempt after its timeout, before the child is killed."""
_UNREAD_SECONDS = 5.0
"""How long at least an idle child has to begin an order, before the child is killed."""
_CANCEL_POLL_SECONDS = 1.0
"""The interval between two queries for requested cancellations."""


class LimitEnforcer:
    """Enforces the limits of the attempts in a pool of children."""

    def __init__(self, ledger: SqlLedger, lease_seconds: float, pool: ChildPool) -> None:
        self._ledger = ledger
        self._lease_seconds = lease_seconds
        self._pool = pool
        self._over = threading.Event()
        self._next_cancel_poll = 0.0
        self.queried = False
        """Whether the last :meth:`ask_for_cancellations` queried the database."""

    def start(self) -> None:
        """Start the background thread that watches the children, until :meth:`stop`."""
        threading.Thread(target=self._watch, name="spoke-limits", daemon=True).start()

    def stop(self) -> None:
        """Stop the background thread."""
        self._over.set()

    def ask_for_cancellations(self) -> None:
        """Stop the attempts whose cancellation was requested.

        :raises DBAPIError: if the database fails.
        """
        self.queried = False
        now = time.monotonic()
        running = list(self._pool.assignments())
        if not running or now < self._next_cancel_poll:
            return
        self._next_cancel_poll = now + _CANCEL_POLL_SECONDS
        cancelled = self._ledger.cancel_requests([item.order.token for _, item in running])
        self.queried = True
        for child, item in running:
            # A signal stops only the attempt that runs now. Orders that wait behind it are released soon.
            runs = child.kind is ChildKind.LOOP or child.shared.at[0] == item.order.token
            if runs and item.order.token in cancelled and item.cancelled_at is None:
                self._cancel(child, item, now)

    def end_overdue(self) -> None:
        """Kill async children with an attempt that has not stopped in time.

        If another attempt blocks the event loop, charge that one.
        """
        now = time.monotonic()
        for child in self._pool.of(ChildKind.LOOP):
            holder, held_for = child.shared.at
            for item in list(child.orders.values()):
                if not child.shared.is_called(item.order.token):
                    continue
                called_at = item.called_at = item.called_at or now
                if item.limit is not None and now > called_at + item.limit + _OVERTIME_SECONDS:
                    reason = KillReason(item.order.token, Cause.TIMEOUT)
                elif item.cancelled_at is not None and now > item.cancelled_at + CANCEL_GRACE_SECONDS:
                    reason = KillReason(item.order.token, Cause.CANCELLED)
                elif item.too_long_at is not None and now > item.too_long_at + CANCEL_GRACE_SECONDS:
                    reason = KillReason(item.order.token, Cause.TOO_LONG_FOR_WORKER)
                else:
                    self._stop_if_too_long(child, item, now - called_at, now)
                    continue
                if holder not in (None, item.order.token) and held_for > _OVERTIME_SECONDS:
                    held = seconds(held_for)
                    message = f"the job blocked the event loop for {held}, so that other jobs could not be stopped"
                    reason = KillReason(holder, Cause.TIMEOUT, message)
                if child.kill_reason is None:
                    self.kill(child, reason)

    def _stop_if_too_long(self, child: Child, item: HeldOrder, ran: float, now: float) -> None:
        """Stop an attempt of an event loop that has run for longer than it may in this worker."""
        most = item.worker_seconds
        if most is None or item.too_long_at is not None or ran <= most:
            return
        item.too_long_at = now
        self._pool.send(child, Stop(item.order.token, StopReason.TOO_LONG))

    def _cancel(self, child: Child, item: HeldOrder, now: float) -> None:
        item.cancelled_at = now
        if child.kind is ChildKind.LOOP:
            self._pool.send(child, Stop(item.order.token))
        else:
            child.process.send_signal(signal.SIGTERM)

    def _watch(self) -> None:
        """Kill the children that exceed a limit or a lease, even while the supervisor waits for the database.

        This thread reads the children's shared state, because the supervisor may not have processed their reports yet.
        """
        while not self._over.wait(self._lease_seconds / 100 if self._lease_seconds < 25 else 0.25):
            self._pool.kill_exceeding(self._exceeded, self.kill)

    def _exceeded(self, child: Child) -> KillReason | None:
        holder, held_for = child.shared.at
        if (unread := self._unread(child, holder)) is not None:
            return unread
        item = None if holder is None else child.orders.get(holder)
        runs = holder is not None and child.shared.is_called(holder)
        if child.kind is ChildKind.THREAD and item is not None and runs:
            if item.limit is not None and held_for > item.limit + _OVERTIME_SECONDS:
                return KillReason(holder, Cause.TIMEOUT)
            if item.cancelled_at is not None and time.monotonic() > item.cancelled_at + CANCEL_GRACE_SECONDS:
                return KillReason(holder, Cause.CANCELLED)
            if item.worker_seconds is not None and held_for > item.worker_seconds:
                return KillReason(holder, Cause.TOO_LONG_FOR_WORKER)
        if time.monotonic() < child.shared.deadline - lease_margin(self._lease_seconds) / 4:
            return None
        if item is not None and item.limit is not None and held_for > item.limit and runs:
            return KillReason(holder, Cause.TIMEOUT)
        if child.shared.unanswered:  # on a busy machine the child may not run in time to stop itself for this
            return KillReason(holder, Cause.DATABASE_UNREACHABLE, StopReason.DATABASE_AWAY)
        return KillReason(holder, Cause.WORKER_LOST, "the lease lapsed; native code may have blocked the interpreter")

    def _unread(self, child: Child, running: UUID | None) -> KillReason | None:
        """The reason to kill a child that runs nothing and does not begin its first order; None if there is none.

        A process that a job left behind may have read the order from the socket, or a job may have stopped the child.
        """
        first = next(iter(list(child.orders.values())), None)
        if child.kind is not ChildKind.THREAD or first is None:
            return None
        if running is not None:
            first.unread_since = None
            return None
        now = time.monotonic()
        first.unread_since = first.unread_since or now
        if now < first.unread_since + max(_UNREAD_SECONDS, self._lease_seconds / 2):
            return None
        return KillReason(first.order.token, Cause.WORKER_LOST, "the child process has not begun its order")

    def kill(self, child: Child, reason: KillReason) -> None:
        """Kill the child; log the job that caused it. A requested cancellation is not logged as an error."""
        item = None if reason.token is None else child.orders.get(reason.token)
        job = f"job {item.order.job_id}, attempt {item.order.number}" if item else "no job"
        logger.log(
            logging.WARNING if reason.cause == Cause.CANCELLED else logging.ERROR,
            "killing a child process because of %s: %s",
            job,
            reason.message or CAUSES[reason.cause].meaning,
            extra={
                "request_id": item.order.job_id if item else None,
                "attempt": item.order.number if item else None,
                "cause": reason.cause,
                "child_pid": child.process.pid,
            },
        )
        self._pool.kill(child, reason)
