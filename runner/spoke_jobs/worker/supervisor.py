"""The worker's main loop: keep children running, process their reports, and query the ledger."""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.contained_routines import ContainedRoutines
from spoke_jobs.execution.reaper import Reaper
from spoke_jobs.ledger.engine import is_away, reason_of
from spoke_jobs.ledger.notify import LIMITS_MARK
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import JobFilter
from spoke_jobs.registry import Registry
from spoke_jobs.runners.ticker import Ticker
from spoke_jobs.shared.outage_log import OutageLog
from spoke_jobs.worker.child_exits import ChildExits
from spoke_jobs.worker.child_messages import Order, Report, Stop
from spoke_jobs.worker.child_pool import (
    DISCONNECTED_SECONDS,
    Child,
    ChildKind,
    ChildPool,
    HeldOrder,
    kill_processes_of,
    signal_name,
)
from spoke_jobs.worker.claiming import Claiming
from spoke_jobs.worker.enforcing import LimitEnforcer
from spoke_jobs.worker.memory_watch import MemoryWatch
from spoke_jobs.worker.worker_metrics import WorkerMetrics
from spoke_jobs.worker.worker_options import WorkerOptions

logger = logging.getLogger(__name__)

_CRASHES_AT_START = 3
_TURN_SECONDS = 1.0
"""The longest pause between two checks of limits, leases, cancellations and children, whatever the poll interval."""
_PRUNED_AT_ONCE = 1000
_ENDS_WELL = frozenset({ExitCode.DONE, ExitCode.FAILED, ExitCode.FAILED_FOR_GOOD})
"""The codes of attempts that a child has run to their end."""
_CANCELS, _RELEASES, _REAPS = "asks for cancellations", "releases claims", "reaps"
_PRUNES, _TICKS, _CLAIMS = "prunes", "dispatches the jobs of schedules", "claims jobs"
"""The names of the routines of a turn."""


@dataclass
class Supervisor:
    """Runs jobs in child processes until told to stop."""

    ledger: SqlLedger
    options: WorkerOptions
    wake: socket.socket | None = None
    """Readable after a notification of new work or of changed limits. Polling makes up for lost notifications."""
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    should_reload: Callable[[], bool] = lambda: False
    registry: Registry = field(default_factory=Registry)
    """The application's jobs, for the options of jobs that other code dispatched."""
    ticker: Ticker | None = None
    """Dispatches the jobs of schedules; None: this process does not."""
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _stopping: bool = False
    _reloading: bool = False
    _failed_starts: int = 0
    _claiming_fails: str = ""
    _next_poll: float = 0.0
    _next_prune: float = 0.0

    def __post_init__(self) -> None:
        self._processors = usable_processors()
        self._pool = ChildPool(self._selector)
        self._claiming = Claiming(
            self.ledger,
            self.options,
            self._pool,
            self.metrics,
            self.registry,
            give_back=self._give_back,
        )
        self._limits = LimitEnforcer(self.ledger, self.options.lease_seconds, self._pool)
        self._memory = MemoryWatch(self._pool, self._limits.kill, self.options.job_memory_bytes)
        self._routines = ContainedRoutines(logger, (DBAPIError, ConfigurationError), self.metrics.failed)
        self._outage = OutageLog(logger, "the database", began="lost the database connection")
        self._exits = ChildExits(
            self.ledger,
            self.metrics,
            may_be_due=self._claiming.expect_work,
            took_down=self._took_down,
            keep_output=self.options.keep_output,
        )

    def run(self) -> bool:
        """Run until SIGTERM or SIGINT; a second signal exits at once. With ``drain``, run until there is nothing to do.

        :returns: whether to restart with the application's current code (SIGHUP).
        """
        reaper = Reaper(self.ledger, self.options.runner, self.options.lease_seconds, types=self.options.all_types)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        if self.wake is not None:
            self._selector.register(self.wake, selectors.EVENT_READ)
        self._limits.start()
        self._memory.start()
        try:
            while not self._stopping:
                self._replace_missing()
                self._limits.end_overdue()
                if time.monotonic() >= self._next_poll:
                    self._next_poll = time.monotonic() + self.options.poll_seconds
                    self._claiming.expect_work()
                idle = self._query(reaper)
                if idle and self.options.drain and not any(self._pool.assignments()):
                    break
                if self.should_reload():
                    self._on_signal(signal.SIGHUP, None)
                self._listen(self._pause(reaper))
        finally:
            self._shut_down()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._reloading

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._stopping:
            if number == signal.SIGHUP:
                return
            if self._reloading:  # stop instead of restarting, within the grace period that already runs
                self._reloading = False
                return
            raise KeyboardInterrupt
        logger.info("received %s; stopping, running jobs have %g s", signal_name(number), self.options.grace_seconds)
        self._stopping = True
        self._reloading = number == signal.SIGHUP
        self.metrics.stopping = True

    def _replace_missing(self) -> None:
        if self.options.types or not self.options.loop_types:
            missing = self.options.processes - len(self._pool.of(ChildKind.THREAD))
            for _ in range(self._pool.may_start(missing, self._processors, time.monotonic())):
                self._pool.start(ChildKind.THREAD, 1, 1)
        if self.options.loop_types and not self._pool.of(ChildKind.LOOP):
            ahead = min(self.options.concurrency, self.options.batch)
            self._pool.start(ChildKind.LOOP, self.options.concurrency, ahead)

    def _query(self, reaper: Reaper) -> bool:
        """Make the queries of one turn; True if there were fewer due jobs than free slots.

        A database error ends the turn. Any other error ends one routine of it: it may concern one row only.
        """
        contained, timed = self._routines.call, reaper.timed
        try:
            timed(self._exits.write)
            timed(lambda: contained(_CANCELS, self._limits.ask_for_cancellations, None))
            timed(lambda: contained(_RELEASES, lambda: self._claiming.release_stale(self._receive), None))
            self.metrics.reaped(contained(_REAPS, reaper.reap_if_due, 0))
            timed(lambda: contained(_PRUNES, self._prune_if_due, None))
            if timed(lambda: contained(_TICKS, self._tick, False)):
                self._claiming.expect_work()
            idle = timed(lambda: contained(_CLAIMS, self._claiming.claim, False))
        except DBAPIError as error:
            self._database_fails(error, reaper)
            return False
        finally:
            self.metrics.running = sum(1 for _ in self._pool.assignments())
        if self._routines.failing or not (self._limits.queried or reaper.queried or self._claiming.queried):
            return idle  # no query was made, or an error was contained
        self.metrics.polled()
        self._claiming_fails = ""
        self._outage.recovered()
        return idle

    def _pause(self, reaper: Reaper) -> float:
        """Seconds until the next scheduled action."""
        now = time.monotonic()
        tick = self.ticker.due_in() if self.ticker is not None else _TURN_SECONDS
        due = (
            self._next_poll - now,
            max(reaper.due_in(), self._routines.due_in(_REAPS)),
            max(self._claiming.due_in(), self._routines.due_in(_CLAIMS)),
            max(tick, self._routines.due_in(_TICKS)),
        )
        return max(0.0, min(_TURN_SECONDS, *due))

    def _tick(self) -> bool:
        """Dispatch the jobs of schedules that are due. Return whether there were any."""
        return self.ticker is not None and bool(self.ticker.tick_if_due())

    def _prune_if_due(self) -> None:
        if time.monotonic() >= self._next_prune:
            self._next_prune = time.monotonic() + self.options.prune_seconds
            if pruned := self.ledger.prune(_PRUNED_AT_ONCE, which=JobFilter(runner=self.options.runner)):
                if pruned >= _PRUNED_AT_ONCE // 2:  # one call may not have deleted all
                    self._next_prune = time.monotonic() + 1.0
                logger.info("deleted %d finished jobs whose retention is over", pruned)

    def _database_fails(self, error: DBAPIError, reaper: Reaper) -> None:
        if is_away(error):
            reaper.database_failed()
            self._outage.failed(reason_of(error), logging.ERROR)
            return
        kind = type(error).__name__
        if self._claiming_fails != kind:  # log once, not at every poll
            logger.error("could not claim a job (%s: %s); retrying", kind, type(error.orig).__name__)
        self._claiming_fails = kind

    def _listen(self, seconds: float) -> None:
        """Process the children's reports, and handle exited children."""
        exited = set()
        for key, events in self._selector.select(seconds):
            if isinstance(key.data, Child):
                if events & selectors.EVENT_WRITE:
                    self._pool.flush(key.data)
                self._receive(key.data)
            elif key.fileobj is self.wake:
                if LIMITS_MARK in self.wake.recv(4096):
                    self._pool.limits_change()
                self._claiming.expect_work()
            else:
                exited.add(key.fileobj)  # a pidfd
        for child in list(self._pool.children):
            if (child.pidfd is None or child.pidfd in exited) and child.process.poll() is not None:
                for report in self._pool.receive_last(child):
                    self._process(child, report)
                self._handle_exit(child)
            elif child.disconnected_at is not None and time.monotonic() > child.disconnected_at + DISCONNECTED_SECONDS:
                child.process.kill()

    def _receive(self, child: Child) -> None:
        for report in self._pool.receive(child) or ():
            self._process(child, report)

    def _process(self, child: Child, report: Report) -> None:
        if not child.may_have_sent(report):
            self._ignore(child)
            return
        if not child.started_once:
            self._memory.started(child)
            self._claiming.child_started(time.monotonic() - child.made_at)
            self._failed_starts = 0
        child.started_once = True
        if report.token is not None and (item := child.orders.pop(report.token, None)) is not None:
            self._end(child, item, report)
        if report.last:  # the child was told to stop, and starts none of its other orders
            for item in list(child.orders.values()):
                del child.orders[item.order.token]
                self._exits.release(item.order)
        if report.exit_code is not None:
            self.metrics.ended(ExitCode(report.exit_code))
            if report.exit_code != ExitCode.DONE:  # the job may be due again
                self._claiming.expect_work()
        child.reported_at = time.monotonic()
        worn = self._memory.is_worn(child)
        child.ready = not report.last and child.kill_reason is None
        if report.last or worn:
            self._pool.close(child)

    def _end(self, child: Child, item: HeldOrder, report: Report) -> None:
        """Process the end of an order, which the child no longer holds."""
        if report.exit_code == ExitCode.NOT_STARTED:
            self._claiming.not_started(item)
            self._exits.release(item.order)
        else:
            self._claiming.started(item)
            self._claiming.record_duration(child.kind, time.monotonic() - item.sent_at)
        if report.exit_code in _ENDS_WELL and not report.last and item.cancelled_at is None:
            self._claiming.ended_well(item)
        if report.exit_code is not None:
            code, seconds = ExitCode(report.exit_code), child.ran_seconds(item)
            self.metrics.ran(item.observed, code, seconds, report.trace_id)
        self._claiming.expect_room(child.kind, unlocks=item.locks_queue)
        if report.exit_code == ExitCode.DATABASE_AWAY:
            self._exits.lost_database(item.order)

    def _ignore(self, child: Child) -> None:
        """Log, once for each child, that a job writes reports to its child's socket. Its limits stay in force."""
        if not child.has_forged:
            child.has_forged = True
            jobs = ", ".join(str(item.order.job_id) for item in child.orders.values())
            logger.warning(
                "ignored a report that a job wrote to its child process's socket; the child runs the jobs %s",
                jobs,
                extra={"child_pid": child.process.pid},
            )

    def _handle_exit(self, child: Child) -> None:
        """Record the ends of an exited child's attempts."""
        self._pool.forget(child)
        if child.orders:
            kill_processes_of(child)  # processes that its job started must not run at the same time as the next attempt
        self._exits.died(child)
        if not child.orders and not child.started_once:
            self._failed_starts += 1
            if self._failed_starts >= _CRASHES_AT_START:
                raise ConfigurationError(
                    f"the worker's child processes exit as soon as they start (exit code {child.process.returncode}): "
                    "see their output above"
                )

    def _give_back(self, order: Order) -> None:
        """Release the claim of an order that no child has."""
        self._exits.release(order)

    def _took_down(self, child: Child, item: HeldOrder) -> None:
        if not self._stopping:  # it claims no more jobs
            self._claiming.took_down(child, item)

    def _shut_down(self) -> None:
        """Ask running jobs to stop, wait for the grace period, then kill the children and record the ends."""
        for child in self._pool.children:
            if child.kind is ChildKind.THREAD and child.orders:
                child.process.send_signal(signal.SIGTERM)
                continue
            self._pool.send(child, Stop()) if child.kind is ChildKind.LOOP else None
            self._pool.close(child)
        deadline = time.monotonic() + self.options.grace_seconds
        try:
            while any(self._pool.assignments()) and time.monotonic() < deadline:
                self._limits.end_overdue()
                self._listen(min(0.2, self.options.grace_seconds))
        finally:
            self._limits.stop()
            self._memory.stop()
            for child in self._pool.stop_all():
                self._exits.interrupted(child)
            self._selector.close()
            self._exits.give_up()


_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Of the container, in its own namespace of control groups (version 2): microseconds, or "max", in a period."""


def usable_processors(quota: Path = _QUOTA) -> int:
    """Return the number of processors that this process may use: at least 1, and no more than its container's limit."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        microseconds, period = map(int, quota.read_text().split())
        return max(1, min(allowed, math.ceil(microseconds / period)))
    except (OSError, ValueError, ZeroDivisionError):  # no control groups of version 2, or "max"
        return allowed
