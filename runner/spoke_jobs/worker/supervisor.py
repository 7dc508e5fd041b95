"""The worker's own process: claims, hands out, reaps, and records the end of children that died."""

from __future__ import annotations

import contextlib
import logging
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from spoke_jobs.contract.causes import CAUSES
from spoke_jobs.contract.exitcodes import ExitCode
from spoke_jobs.errors import ConfigurationError
from spoke_jobs.execution.in_process import worker_name
from spoke_jobs.execution.reaper import Reaper
from spoke_jobs.ledger.port import Ledger
from spoke_jobs.model import Failure
from spoke_jobs.worker.wire import Order, decode_report, encode

logger = logging.getLogger(__name__)

_CRASHES_AT_START = 3


@dataclass(eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    connection: socket.socket
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
        logger.info(
            "%s: claiming no more; running jobs have %g s", signal.Signals(number).name, self.options.grace_seconds
        )
        self._stopping = True

    def _replace_missing(self) -> None:
        while len(self._children) < self.options.processes:
            ours, theirs = socket.socketpair()
            process = subprocess.Popen(
                [sys.executable, "-m", "spoke_jobs.worker.child", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
            )
            theirs.close()
            child = _Child(process, ours)
            self._children.append(child)
            self._selector.register(ours, selectors.EVENT_READ, child)

    def _look_for_work(self, reaper: Reaper) -> bool:
        """Reap, and hand a job to each free child; True if there was no job for one of them."""
        options = self.options
        try:
            reaper.reap_if_due()
            for child in self._children:
                if not child.ready or child.order is not None:
                    continue
                claim = self.ledger.claim_next(options.runner, options.types, worker_name(), options.lease_seconds)
                if claim is None:
                    return True
                self._send(child, Order(claim.job.id, claim.number, claim.token, claim.lease_seconds))
        except DBAPIError as error:
            reaper.database_failed()
            if not self._database_away:
                logger.error("the database does not answer (%s); trying on", type(error.orig).__name__)  # noqa: TRY400
            self._database_away = True
            return False
        if self._database_away:
            logger.info("the database answers again")
            self._database_away = False
        return False

    def _send(self, child: _Child, order: Order) -> None:
        child.order = order
        try:
            child.connection.sendall(encode(order))
        except OSError:
            self._bury(child)

    def _listen(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            child: _Child = key.data
            try:
                data = child.connection.recv(65536)
            except OSError:
                data = b""
            if not data:
                self._bury(child)
                continue
            *lines, child.received = (child.received + data).split(b"\n")
            for line in lines:
                decode_report(line)
                child.ready, child.order = True, None
                child.started_once = True
                self._failed_starts = 0

    def _bury(self, child: _Child) -> None:
        """A child is gone: record the end of what it ran."""
        self._selector.unregister(child.connection)
        self._children.remove(child)
        child.connection.close()
        code = child.process.wait()
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
            logger.warning(
                "job %d, attempt %d: its process stopped itself, its lease was lost", order.job_id, order.number
            )
            return
        if code < 0:
            name = signal.Signals(-code).name
            failure = Failure("Killed", f"{CAUSES['Killed'].meaning} ({name})")
        else:
            failure = Failure("JobExited", f"the job ended its process with exit code {code}")
        logger.warning("job %d, attempt %d: %s", order.job_id, order.number, failure.message)
        self._record(order, failure)

    def _record(self, order: Order, failure: Failure) -> None:
        try:
            self.ledger.fail(order.token, failure, decide=True)
        except DBAPIError as error:
            logger.error("job %d: %s; the reaper will end the attempt", order.job_id, type(error.orig).__name__)  # noqa: TRY400

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
            for child in list(self._children):
                self._selector.unregister(child.connection)
                if child.order is not None:
                    child.process.kill()
                child.connection.close()
            for child in self._children:
                try:
                    child.process.wait(5)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
                if child.order is not None:
                    self._record(child.order, Failure("Interrupted", CAUSES["Interrupted"].meaning))
            self._children.clear()
            self._selector.close()
