"""The worker's own process: claims, hands out, reaps, ends what runs too long, records how children died."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.exitcodes import ExitCode
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.in_process import worker_name
from spoke_jobs.execution.lease import CANCEL_GRACE_SECONDS, FRESH
from spoke_jobs.execution.reaper import Reaper
from spoke_jobs.ledger.engine import is_away
from spoke_jobs.ledger.port import Ledger
from spoke_jobs.model import Failure
from spoke_jobs.names import patterns_of
from spoke_jobs.worker.children import (
    CUT_OFF_SECONDS,
    PATIENCE_SECONDS,
    Assignment,
    Child,
    Ended,
    Kind,
    Nursery,
    end_group,
    signal_name,
)
from spoke_jobs.worker.figures import Figures
from spoke_jobs.worker.wire import Order, Report, Stop

logger = logging.getLogger(__name__)

_CRASHES_AT_START = 3
_OVERTIME_SECONDS = 2.0
"""How long a child has to end an attempt itself whose timeout is over, before it is killed."""
_CANCEL_LOOK_SECONDS = 1.0
_TURN_SECONDS = 1.0
"""How often at least it sees to limits, leases, cancellations, children: that doesn't hang on the polls for work."""
_SHORT_SECONDS = 0.05
"""While attempts take less than this, children have some in hand, so that they needn't wait for the next claim."""
_WEIGHT = 0.1
_PRUNE_SECONDS = 60.0
_PRUNED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker runs."""

    runner: str
    types: tuple[str, ...]
    """The ``def`` jobs that it claims; what is in neither list is left for workers that know it."""
    processes: int
    """How many of those it runs at once, each in a process of its own."""
    lease_seconds: float
    poll_seconds: float
    loop_types: tuple[str, ...] = ()
    """The ``async def`` jobs that it claims."""
    concurrency: int = 50
    """How many of those it runs at once, together on an event loop."""
    batch: int = 16
    """How many jobs one claim takes at most."""
    grace_seconds: float = 30.0
    """How long running jobs may take after SIGTERM."""
    drain: bool = False
    """End when nothing is due and nothing runs."""

    @property
    def all_types(self) -> tuple[str, ...]:
        """Every job that it claims."""
        return self.types + self.loop_types


@dataclass
class Supervisor:
    """Runs jobs in child processes until it is told to stop."""

    ledger: Ledger
    options: WorkerOptions
    wake: socket.socket | None = None
    """Readable when there is reason to look for work; polling stands behind it."""
    figures: Figures = field(default_factory=Figures)
    should_reload: Callable[[], bool] = lambda: False
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _stopping: bool = False
    _reloading: bool = False
    _failed_starts: int = 0
    _answered: bool = False
    """Whether the database has answered in this turn."""
    _database_away: bool = False
    _claiming_fails: str = ""
    _next_cancel_look: float = 0.0
    _next_prune: float = 0.0
    _unrecorded: list[tuple[Order, Failure]] = field(default_factory=list)
    """Ends of attempts that the database did not take yet."""

    def __post_init__(self) -> None:
        self._may_have_work = dict.fromkeys(Kind, True)
        """Of which kinds the ledger may have jobs for us, as far as we know."""
        self._next_poll = 0.0
        self._seconds = dict.fromkeys(Kind, 1.0)
        """How long attempts take of late."""
        self._nursery = Nursery(self._selector)
        self._over = threading.Event()

    def run(self) -> bool:
        """Work until SIGTERM or SIGINT (a second one ends at once), or with ``drain`` until there is nothing to do.

        :returns: whether it ended to be started again with the application's code as it is now (SIGHUP).
        """
        reaper = Reaper(self.ledger, self.options.runner, self.options.lease_seconds, types=self.options.all_types)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        if self.wake is not None:
            self._selector.register(self.wake, selectors.EVENT_READ)
        threading.Thread(target=self._watch, name="spoke-limits", daemon=True).start()
        try:
            while not self._stopping:
                self._replace_missing()
                self._end_overdue()
                if time.monotonic() >= self._next_poll:
                    self._next_poll = time.monotonic() + self.options.poll_seconds
                    self._look_everywhere()
                idle = self._look(reaper)
                if idle and self.options.drain and not any(self._nursery.assignments()):
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
            if self._reloading:  # it was to start anew, and now is to end: within the grace that runs already
                self._reloading = False
                return
            raise KeyboardInterrupt
        logger.info("%s: claiming no more; running jobs have %g s", signal_name(number), self.options.grace_seconds)
        self._stopping = True
        self._reloading = number == signal.SIGHUP
        self.figures.stopping = True

    def _replace_missing(self) -> None:
        if self.options.types or not self.options.loop_types:
            while len(self._nursery.of(Kind.THREAD)) < self.options.processes:
                self._nursery.start(Kind.THREAD, 1, 1)
        if self.options.loop_types and not self._nursery.of(Kind.LOOP):
            ahead = min(self.options.concurrency, self.options.batch)
            self._nursery.start(Kind.LOOP, self.options.concurrency, ahead)

    def _look(self, reaper: Reaper) -> bool:
        """All that is asked of the database in one turn; True if there was no job for a free place."""
        self._answered = False
        try:
            self._write_ends()
            self._ask_for_cancellations()
            self._give_back()
            self.figures.reaped(reaper.reap_if_due())
            self._answered = self._answered or reaper.has_looked
            self._prune_if_due()
            idle = self._claim()
        except DBAPIError as error:
            self._database_fails(error, reaper)
            return False
        finally:
            self.figures.running = sum(1 for _ in self._nursery.assignments())
        if not self._answered:  # nothing was asked of it
            return idle
        self.figures.polled()
        self._claiming_fails = ""
        if self._database_away:
            logger.info("the database answers again")
            self._database_away = False
        return idle

    def _claim(self) -> bool:
        """Hand out jobs; True if there were fewer than places."""
        idle = True
        for kind in Kind:
            while self._may_have_work[kind] and (room := self._room_of(kind)) and self._types_of(kind):
                limit = min(self.options.batch, room)
                self._may_have_work[kind] = self._claim_for(kind, limit) == limit
            idle = idle and (not self._types_of(kind) or not self._may_have_work[kind])
        return idle

    def _claim_for(self, kind: Kind, limit: int) -> int:
        options = self.options
        claims = self.ledger.claim_batch(
            options.runner, self._types_of(kind), worker_name(), options.lease_seconds, limit
        )
        self._answered = True
        self.figures.claimed(claims)
        handed_out = 0
        for claim in claims:
            name = claim.job.job_type
            # A prefix of one kind finds the names, too, that are declared for the other.
            own = next(kind for key in (name, *patterns_of(name)) for kind in Kind if key in self._types_of(kind))
            child = max(self._nursery.of(own), key=lambda child: child.room(ahead=True), default=None)
            if own is not kind and (child is None or not child.room(ahead=True)):
                self.ledger.release(claim.token)
                continue
            assert child is not None
            self._nursery.order(child, Order.of(claim), claim.job.options.timeout_seconds, claim.job.locks_queue)
            handed_out += 1
        return handed_out

    def _look_everywhere(self) -> None:
        """There may be work of every kind: it was rung, or some time has passed."""
        self._may_have_work = dict.fromkeys(Kind, True)

    def _types_of(self, kind: Kind) -> tuple[str, ...]:
        return self.options.loop_types if kind is Kind.LOOP else self.options.types

    def _room_of(self, kind: Kind) -> int:
        """How many jobs to claim for a kind. What goes to waiting hands is claimed by the dozen, not one by one."""
        children = self._nursery.of(kind)
        now = sum(child.room(ahead=False) for child in children)
        if self._seconds[kind] >= _SHORT_SECONDS:
            return now
        ahead = sum(child.room(ahead=True) for child in children)
        return ahead if now or ahead >= sum(child.takes_ahead for child in children) else 0

    def _give_back(self) -> None:
        """Undo the claims of what waits in a child behind a job that takes longer than was thought.

        Only once they are so old that a child renews them, and so finds them gone, before it begins.
        """
        for child in self._nursery.of(Kind.THREAD):
            if not any(map(self._is_old, list(child.orders.values())[1:])):
                continue
            # What it has said by now counts: an order that isn't begun by now is never begun, since it is too old.
            self._receive(child)
            for item in list(child.orders.values())[1:]:
                if self._is_old(item):
                    self.ledger.release(item.order.token)
                    del child.orders[item.order.token]

    @staticmethod
    def _is_old(item: Assignment) -> bool:
        return time.monotonic() > item.sent_at + item.order.lease_seconds / FRESH + 0.5

    def _ask_for_cancellations(self) -> None:
        now = time.monotonic()
        running = list(self._nursery.assignments())
        if not running or now < self._next_cancel_look:
            return
        self._next_cancel_look = now + _CANCEL_LOOK_SECONDS
        asked = self.ledger.cancel_requests([item.order.token for _, item in running])
        self._answered = True
        for child, item in running:
            # A process is told by a signal, which is for what it runs: what waits behind that is given back soon.
            runs = child.kind is Kind.LOOP or child.slate.at[0] == item.order.token
            if runs and item.order.token in asked and item.cancelled_at is None:
                self._cancel(child, item, now)

    def _watch(self) -> None:
        """A thread: kill the children that don't keep a limit or a lease, also while the database keeps us waiting.

        It goes by the children's slates: what they have reported may not be taken in yet.
        """
        while not self._over.wait(self.options.lease_seconds / 100 if self.options.lease_seconds < 25 else 0.25):
            for child in list(self._nursery.children):
                if child.orders and child.ended_for is None and (why := self._breaks(child)) is not None:
                    self._end(child, why)

    def _breaks(self, child: Child) -> Ended | None:
        holder, held_for = child.slate.at
        item = None if holder is None else child.orders.get(holder)
        if child.kind is Kind.THREAD and item is not None:
            if item.limit is not None and held_for > item.limit + _OVERTIME_SECONDS:
                return Ended(holder, "Timeout")
            if item.cancelled_at is not None and time.monotonic() > item.cancelled_at + CANCEL_GRACE_SECONDS:
                return Ended(holder, "Cancelled")
        if time.monotonic() < child.slate.deadline - min(2.0, self.options.lease_seconds * 0.1) / 4:
            return None
        if item is not None and item.limit is not None and held_for > item.limit:
            return Ended(holder, "Timeout")
        return Ended(holder, "WorkerLost", "the lease ran out, held up by native code perhaps: nothing else ran")

    def _end_overdue(self) -> None:
        """The same for what runs on an event loop and can't be cancelled, or can't since another holds it up."""
        now = time.monotonic()
        for child in self._nursery.of(Kind.LOOP):
            holder, held_for = child.slate.at
            for item in list(child.orders.values()):
                began = item.sent_at + PATIENCE_SECONDS  # at the latest
                if item.limit is not None and now > began + item.limit + _OVERTIME_SECONDS:
                    why = Ended(item.order.token, "Timeout")
                elif item.cancelled_at is not None and now > item.cancelled_at + CANCEL_GRACE_SECONDS:
                    why = Ended(item.order.token, "Cancelled")
                else:
                    continue
                if holder not in (None, item.order.token) and held_for > _OVERTIME_SECONDS:
                    message = f"the job held up the event loop for {held_for:.0f} s, so that others could not be ended"
                    why = Ended(holder, "Timeout", message)
                if child.ended_for is None:
                    self._end(child, why)

    def _end(self, child: Child, why: Ended) -> None:
        logger.error("a child is ended: %s", why.message or CAUSES[why.cause].meaning)
        self._nursery.kill(child, why)

    def _pause(self, reaper: Reaper) -> float:
        """Until when there is nothing to do unless a child or the bell says something."""
        now = time.monotonic()
        return max(0.0, min(self._next_poll - now, _TURN_SECONDS, reaper.due_in()))

    def _cancel(self, child: Child, item: Assignment, now: float) -> None:
        item.cancelled_at = now
        if child.kind is Kind.LOOP:
            self._nursery.send(child, Stop(item.order.token))
        else:
            child.process.send_signal(signal.SIGTERM)

    def _prune_if_due(self) -> None:
        if time.monotonic() >= self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_SECONDS
            if pruned := self.ledger.prune(_PRUNED_AT_ONCE, self.options.runner):
                if pruned == _PRUNED_AT_ONCE:  # more may be over than one call takes
                    self._next_prune = time.monotonic() + 1.0
                logger.info("%d finished jobs, whose retention is over, are deleted", pruned)

    def _database_fails(self, error: DBAPIError, reaper: Reaper) -> None:
        if is_away(error):
            reaper.database_failed()
            if not self._database_away:
                logger.error("the database does not answer (%s); trying on", type(error.orig).__name__)
            self._database_away = True
            return
        kind = type(error).__name__
        if self._claiming_fails != kind:  # once, not at every poll
            logger.error("claiming a job failed (%s: %s); trying on", kind, type(error.orig).__name__)
        self._claiming_fails = kind

    def _listen(self, seconds: float) -> None:
        """Take in what children report, and bury those that have ended."""
        for key, events in self._selector.select(seconds):
            if isinstance(key.data, Child):
                if events & selectors.EVENT_WRITE:
                    self._nursery.flush(key.data)
                self._receive(key.data)
            elif key.fileobj is self.wake:
                self.wake.recv(4096)
                self._look_everywhere()
        for child in list(self._nursery.children):
            if child.process.poll() is not None:
                while self._receive(child):  # what it said before it ended
                    pass
                self._bury(child)
            elif child.cut_off_at is not None and time.monotonic() > child.cut_off_at + CUT_OFF_SECONDS:
                child.process.kill()

    def _receive(self, child: Child) -> bool:
        reports = self._nursery.receive(child)
        for report in reports or ():
            self._take_in(child, report)
        return bool(reports)

    def _take_in(self, child: Child, report: Report) -> None:
        child.started_once = True
        self._failed_starts = 0
        if report.token is not None and (item := child.orders.pop(report.token, None)) is not None:
            self._took(child.kind, time.monotonic() - item.sent_at)
            if item.locks_queue:  # others may wait for its queue
                self._look_everywhere()
        if report.last:  # it was told to stop: what it has not begun, it won't
            for item in list(child.orders.values()):
                del child.orders[item.order.token]
                self._release(item.order)
        if report.exit_code is not None:
            self.figures.ended(ExitCode(report.exit_code))
            if report.exit_code != ExitCode.DONE:  # it may be due again
                self._look_everywhere()
        child.ready = not report.last and child.ended_for is None
        if report.last:
            self._nursery.let_go(child)

    def _took(self, kind: Kind, seconds: float) -> None:
        self._seconds[kind] += (seconds - self._seconds[kind]) * _WEIGHT

    def _release(self, order: Order) -> None:
        self._look_everywhere()
        try:
            self.ledger.release(order.token)
        except DBAPIError:
            self._record(order, Failure("Interrupted", CAUSES["Interrupted"].meaning))

    def _bury(self, child: Child) -> None:
        """A child has ended: record the end of what it ran."""
        self._nursery.forget(child)
        code = child.process.returncode
        if child.orders:
            end_group(child)  # what its job started must not run beside the next attempt
        for item in child.orders.values():
            if self._waits(child, item):
                self._release(item.order)
            else:
                self._record_death(child, item, code)
        if not child.orders and not child.started_once:
            self._failed_starts += 1
            if self._failed_starts >= _CRASHES_AT_START:
                raise ConfigurationError(
                    f"the worker's child processes end as soon as they start (exit code {code}): "
                    "what they print above says why"
                )

    @staticmethod
    def _waits(child: Child, item: Assignment) -> bool:
        """Whether a dead child had not begun what it had in hand."""
        return child.kind is Kind.THREAD and child.slate.at[0] != item.order.token

    @staticmethod
    def _is_guilty(child: Child, order: Order) -> bool:
        """Whether a child's end is this order's doing, as far as can be known."""
        if child.kind is Kind.THREAD:
            return True
        if child.ended_for is not None:
            return child.ended_for.token in (None, order.token)
        holder, _ = child.slate.at
        return holder not in child.orders or holder == order.token

    def _record_death(self, child: Child, item: Assignment, code: int) -> None:
        order = item.order
        guilty = self._is_guilty(child, order)
        if guilty and (why := child.ended_for) is not None:
            failure = Failure(why.cause, why.message or CAUSES[why.cause].meaning, for_good=why.cause == "Cancelled")
        elif not guilty:
            failure = Failure("Bystander", CAUSES["Bystander"].meaning, retry_after_seconds=0.0)
        elif code == ExitCode.FAILED and (cause := self._own_end(item)):
            failure = Failure(cause, CAUSES[cause].meaning, for_good=cause == "Cancelled")
        elif code == ExitCode.SUPERSEDED:
            # Nothing is recorded if another process took over: the token says so.
            failure = Failure(
                "WorkerLost", "the process stopped itself, since its lease was lost or could not be renewed"
            )
        elif code < 0:
            failure = Failure("Killed", f"{CAUSES['Killed'].meaning} ({signal_name(-code)})")
        else:
            failure = Failure("JobExited", f"the job ended its process with exit code {code}")
        logger.warning("job %d, attempt %d: %s", order.job_id, order.number, failure.message)
        self.figures.died()
        self._record(order, failure)

    @staticmethod
    def _own_end(item: Assignment) -> str:
        """Why a child left that ended itself for its attempt's sake, and may not have reached the ledger before."""
        if item.cancelled_at is not None:
            return "Cancelled"
        return "Timeout" if item.limit is not None and time.monotonic() - item.sent_at >= item.limit else ""

    def _record(self, order: Order, failure: Failure) -> None:
        """Record an attempt's end, now or once the database answers again."""
        self._look_everywhere()
        self._unrecorded.append((order, failure))
        try:
            self._write_ends()
        except DBAPIError as error:
            logger.warning("job %d: its end can't be recorded yet (%s)", order.job_id, type(error.orig).__name__)

    def _write_ends(self) -> None:
        while self._unrecorded:
            order, failure = self._unrecorded[0]
            try:
                self.ledger.fail(order.token, failure, decide=True)
            except DBAPIError as error:
                if is_away(error):
                    raise
                logger.error("job %d: %s; the reaper will end the attempt", order.job_id, type(error).__name__)  # noqa: TRY400
            del self._unrecorded[0]

    def _shut_down(self) -> None:
        """Ask running jobs to stop, wait for the grace period, then end them and hand their jobs back."""
        for child in self._nursery.children:
            if child.kind is Kind.THREAD and child.orders:
                child.process.send_signal(signal.SIGTERM)
                continue
            self._nursery.send(child, Stop()) if child.kind is Kind.LOOP else None
            self._nursery.let_go(child)
        deadline = time.monotonic() + self.options.grace_seconds
        try:
            while any(self._nursery.assignments()) and time.monotonic() < deadline:
                self._end_overdue()
                self._listen(min(0.2, self.options.grace_seconds))
        finally:
            self._over.set()
            for child in self._nursery.end_all():
                for item in child.orders.values():
                    if self._waits(child, item):
                        self._release(item.order)
                    else:
                        self._record(item.order, Failure("Interrupted", CAUSES["Interrupted"].meaning))
            self._selector.close()
            for order, _ in self._unrecorded:
                logger.error("job %d: its end could not be recorded; the reaper will end the attempt", order.job_id)
