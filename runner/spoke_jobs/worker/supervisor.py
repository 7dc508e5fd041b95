"""The worker's own process: claims, hands out, reaps, and records the end of children that died."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.exitcodes import ExitCode
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.in_process import worker_name
from spoke_jobs.execution.reaper import Reaper
from spoke_jobs.ledger.port import Ledger
from spoke_jobs.model import Failure
from spoke_jobs.worker.wire import Order, Report, decode_report, encode

logger = logging.getLogger(__name__)

_CRASHES_AT_START = 3
_CUT_OFF_SECONDS = 3.0
"""How long a child may live on whose connection is closed. It can't report any more; most are just ending."""


@dataclass(eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    connection: socket.socket
    pidfd: int | None
    """Readable once the process has ended, whoever else holds its connection open."""
    cut_off_at: float | None = None
    received: bytes = b""
    ready: bool = False
    started_once: bool = False
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker runs."""

    runner: str
    types: tuple[str, ...]
    """The job types that it claims; others are left for workers that know them."""
    processes: int
    lease_seconds: float
    poll_seconds: float
    grace_seconds: float = 30.0
    """How long running jobs may take after SIGTERM."""
    drain: bool = False
    """End when nothing is due and nothing runs."""


@dataclass
class Supervisor:
    """Runs jobs in ``options.processes`` children until it is told to stop."""

    ledger: Ledger
    options: WorkerOptions
    _children: list[_Child] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _stopping: bool = False
    _failed_starts: int = 0
    _database_away: bool = False
    _claiming_fails: str = ""
    _unrecorded: list[tuple[Order, Failure]] = field(default_factory=list)
    """Ends of attempts that the database did not take yet."""

    def run(self) -> None:
        """Work until SIGTERM or SIGINT (a second one ends at once), or with ``drain`` until there is nothing to do."""
        reaper = Reaper(self.ledger, self.options.runner, self.options.lease_seconds)
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stopping:
                self._replace_missing()
                idle = self._look_for_work(reaper)
                if idle and self.options.drain and not any(child.order for child in self._children):
                    break
                self._listen(self.options.poll_seconds)
        finally:
            self._shut_down()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        logger.info("%s: claiming no more; running jobs have %g s", _signal_name(number), self.options.grace_seconds)
        self._stopping = True

    def _replace_missing(self) -> None:
        while len(self._children) < self.options.processes:
            ours, theirs = socket.socketpair()
            process = subprocess.Popen(
                [sys.executable, "-m", "spoke_jobs.worker.child", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                process_group=0,  # a terminal's Ctrl-C is for the supervisor, which decides what becomes of them
            )
            theirs.close()
            child = _Child(process, ours, _open_pidfd(process.pid))
            self._children.append(child)
            self._selector.register(ours, selectors.EVENT_READ, child)
            if child.pidfd is not None:
                self._selector.register(child.pidfd, selectors.EVENT_READ)

    def _look_for_work(self, reaper: Reaper) -> bool:
        """Reap, and hand a job to each free child; True if there was no job for one of them."""
        options = self.options
        try:
            self._write_ends()
            reaper.reap_if_due()
            for child in self._children:
                if not child.ready or child.order is not None:
                    continue
                claims = self.ledger.claim_batch(options.runner, options.types, worker_name(), options.lease_seconds)
                if not claims:
                    return True
                (claim,) = claims
                self._send(child, Order(claim.job.id, claim.number, claim.token, claim.lease_seconds))
        except DBAPIError as error:
            if _no_answer(error):
                reaper.database_failed()
                if not self._database_away:
                    logger.error("the database does not answer (%s); trying on", type(error.orig).__name__)  # noqa: TRY400
                self._database_away = True
            else:
                kind = type(error).__name__
                if self._claiming_fails != kind:  # once, not at every poll
                    logger.error("claiming a job failed (%s: %s); trying on", kind, type(error.orig).__name__)  # noqa: TRY400
                self._claiming_fails = kind
            return False
        self._claiming_fails = ""
        if self._database_away:
            logger.info("the database answers again")
            self._database_away = False
        return False

    def _send(self, child: _Child, order: Order) -> None:
        child.order = order
        try:
            child.connection.sendall(encode(order))
        except OSError:
            self._cut_off(child)

    def _listen(self, seconds: float) -> None:
        """Take in what children report, and bury those that have ended."""
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                self._receive(key.data)
        for child in list(self._children):
            if child.process.poll() is not None:
                while child.cut_off_at is None and self._receive(child):  # what it said before it ended
                    pass
                self._bury(child)
            elif child.cut_off_at is not None and time.monotonic() > child.cut_off_at + _CUT_OFF_SECONDS:
                child.process.kill()

    def _receive(self, child: _Child) -> bool:
        """Read what there is; False if there is nothing."""
        try:
            data = child.connection.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._cut_off(child)
            return False
        *lines, child.received = (child.received + data).split(b"\n")
        for line in lines:
            self._take_in(child, decode_report(line))
        return True

    def _take_in(self, child: _Child, report: Report) -> None:
        child.started_once = True
        self._failed_starts = 0
        if report.exit_code is None and child.order is not None:  # it was told to stop before it got the order
            self._record(child.order, Failure("Interrupted", CAUSES["Interrupted"].meaning))
        child.ready, child.order = not report.last, None
        if report.last:
            with contextlib.suppress(OSError):
                child.connection.shutdown(socket.SHUT_WR)

    def _cut_off(self, child: _Child) -> None:
        """A child's connection is closed: the child has ended or is about to, or its job closed what isn't its own."""
        if child.cut_off_at is None:
            child.cut_off_at = time.monotonic()
            child.ready = False
            self._selector.unregister(child.connection)

    def _forget(self, child: _Child) -> None:
        """Let go of what we hold of a child."""
        self._children.remove(child)
        if child.cut_off_at is None:
            self._selector.unregister(child.connection)
        child.connection.close()
        if child.pidfd is not None:
            self._selector.unregister(child.pidfd)
            os.close(child.pidfd)

    def _bury(self, child: _Child) -> None:
        """A child has ended: record the end of what it ran."""
        self._forget(child)
        code = child.process.returncode
        if child.order is not None:
            self._record_death(child.order, code)
        elif not child.started_once:
            self._failed_starts += 1
            if self._failed_starts >= _CRASHES_AT_START:
                raise ConfigurationError(
                    f"the worker's child processes end as soon as they start (exit code {code}): "
                    "what they print above says why"
                )

    def _record_death(self, order: Order, code: int) -> None:
        if code == ExitCode.SUPERSEDED:
            # Nothing is recorded if another process took over: the token says so.
            failure = Failure(
                "WorkerLost", "the process stopped itself, since its lease was lost or could not be renewed"
            )
        elif code < 0:
            failure = Failure("Killed", f"{CAUSES['Killed'].meaning} ({_signal_name(-code)})")
        else:
            failure = Failure("JobExited", f"the job ended its process with exit code {code}")
        logger.warning("job %d, attempt %d: %s", order.job_id, order.number, failure.message)
        self._record(order, failure)

    def _record(self, order: Order, failure: Failure) -> None:
        """Record an attempt's end, now or once the database answers again."""
        self._unrecorded.append((order, failure))
        try:
            self._write_ends()
        except DBAPIError as error:
            logger.error("job %d: its end is not recorded yet (%s)", order.job_id, type(error.orig).__name__)  # noqa: TRY400

    def _write_ends(self) -> None:
        """Raises while the database doesn't answer; what it refuses is left to the reaper."""
        while self._unrecorded:
            order, failure = self._unrecorded[0]
            try:
                self.ledger.fail(order.token, failure, decide=True)
            except DBAPIError as error:
                if _no_answer(error):
                    raise
                logger.error("job %d: %s; the reaper will end the attempt", order.job_id, type(error).__name__)  # noqa: TRY400
            del self._unrecorded[0]

    def _shut_down(self) -> None:
        """Ask running jobs to stop, wait for the grace period, then end them and hand their jobs back."""
        for child in self._children:
            if child.order is None:
                with contextlib.suppress(OSError):
                    child.connection.shutdown(socket.SHUT_WR)
            else:
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.options.grace_seconds
        try:
            while any(child.order for child in self._children) and time.monotonic() < deadline:
                self._listen(min(0.2, self.options.grace_seconds))
        finally:
            children = list(self._children)
            for child in children:
                if child.order is not None:
                    child.process.kill()
                self._forget(child)
            for child in children:
                try:
                    child.process.wait(5)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
                if child.order is not None:
                    self._record(child.order, Failure("Interrupted", CAUSES["Interrupted"].meaning))
            self._selector.close()
            for order, _ in self._unrecorded:
                logger.error("job %d: its end could not be recorded; the reaper will end the attempt", order.job_id)


def _open_pidfd(pid: int) -> int | None:
    """None where there is no such thing: the end is then seen at the next poll."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names of their own
        return f"signal {number}"


def _no_answer(error: DBAPIError) -> bool:
    """Whether it is the database that is away, and not the statement that is refused."""
    return isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
