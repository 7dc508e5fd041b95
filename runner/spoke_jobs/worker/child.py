"""A worker's child process for ``def`` jobs: runs one order at a time in its main thread.

The supervisor passes the file descriptors of a socket and of shared memory. The child exits when the supervisor
closes the socket. If a job is running then, it first runs to its end, since its claim is still valid. SIGTERM asks the
running job to stop. The child then takes no further order, since the signal was meant for that job only.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.execution.attempt import AttemptEnd, AttemptServices, is_late
from spoke_jobs.execution.attempt_decisions import code_of_unrecorded, failure_of
from spoke_jobs.execution.lease import FRESH, StopReason
from spoke_jobs.execution.process_memory import ProcessMemory
from spoke_jobs.execution.signals import SignalEvent
from spoke_jobs.execution.thread_attempt import run_attempt
from spoke_jobs.execution.usage_meter import of_own_process
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.middleware.hook_calls import close_all
from spoke_jobs.model import Claim
from spoke_jobs.registry import load_app
from spoke_jobs.settings import load_settings
from spoke_jobs.shared import garbage_collection
from spoke_jobs.shared.readable_files import readable_of
from spoke_jobs.worker.child_messages import Order, Report, decode, encode
from spoke_jobs.worker.job_output import JobOutput
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.signal_state import SignalState

logger = logging.getLogger(__name__)

Run = Callable[[Order, threading.Event], AttemptEnd]
"""Run an order's attempt; the event asks it to stop."""


def serve(connection: socket.socket, shared: SharedState, output_file: int) -> None:
    """Run orders until the supervisor closes the connection."""
    settings = load_settings()
    engine = create_engine(settings.database)
    ledger = SqlLedger(engine, keeps_successes=settings.keeps_successes)
    registry = load_app(settings.app)
    garbage_collection.resume()
    output = JobOutput(output_file, shared, ledger.keep_output if settings.output != "none" else None)
    services = AttemptServices(
        ledger,
        registry,
        lambda: Session(engine),
        decide=True,
        on_stop=_leave,
        output=output.tail,
        copy_output=output.copy,
        output_kept_after=settings.output_kept_after,
        # The child's own watchdog cannot run while a job's native code holds the interpreter lock. The supervisor then
        # enforces the lease.
        observer=shared,
        meter=of_own_process,
    )

    memory, pid = ProcessMemory(), os.getpid()
    at_start = memory.resident(pid)

    def run(order: Order, cancel: threading.Event) -> AttemptEnd:
        if is_late(order.job_id, order.start_by):  # before the payload is read: a large one may take longer
            return AttemptEnd(ExitCode.NOT_STARTED)
        output.begin(order.job_id, order.token)
        shared.memory_left = max(0, memory.resident(pid) - at_start)
        shared.enter(order.token)
        try:
            job = order.job or ledger.get(order.job_id)
            if job is None:
                return AttemptEnd(ExitCode.SUPERSEDED)
            if shared.outdated(order.asked_at) and ledger.limits.holds(job):
                return AttemptEnd(ExitCode.NOT_STARTED)
            claim = Claim(job, order.number, order.token, order.lease_seconds, order.asked_at)
            shared.heartbeat_unanswered(False)  # of the previous attempt
            if not _is_stale(order) and order.asked_at is not None:  # otherwise the attempt begins with a renewal
                shared.lease_ends(order.asked_at + order.lease_seconds)
            return run_attempt(claim, services, cancel)
        except DBAPIError as error:  # the database is unreachable; the job is not at fault
            kind = type(error.orig).__name__
            logger.error("job %d: could not record its end (%s)", order.job_id, kind)  # noqa: TRY400
            return AttemptEnd(code_of_unrecorded(error))
        finally:
            output.end()
            shared.lease_ends(math.inf)
            shared.leave()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches children too, but the supervisor decides
    with contextlib.suppress(OSError):  # the supervisor has exited; the last attempt's end is in the ledger
        OrderLoop(connection, run).run()
    close_all(registry.middleware)
    ledger.close_notifier()


def _leave(lost: StopReason) -> None:
    """Exit the process: the only way to stop the job's thread. Nothing else runs in this process."""
    if lost is StopReason.DATABASE_AWAY:
        os._exit(ExitCode.DATABASE_AWAY)
    os._exit(ExitCode.SUPERSEDED if failure_of(lost) is None else ExitCode.FAILED)


def _is_stale(order: Order) -> bool:
    """Whether the claim is so old that the attempt would begin with a renewal."""
    return order.asked_at is not None and time.monotonic() > order.asked_at + order.lease_seconds / FRESH


class _StopRequested(Exception):
    """SIGTERM arrived while no job was running."""


class OrderLoop:
    """Runs orders one at a time. It handles SIGTERM, so it must be created in the main thread."""

    def __init__(self, connection: socket.socket, run: Run) -> None:
        self._connection = connection
        self._run = run
        self._cancel = SignalEvent()
        self._idle = False
        self._received = b""
        """Bytes received after the current order."""
        self._pid = os.getpid()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._signals = SignalState()

    def run(self) -> None:
        """Run orders until the supervisor closes the connection, or after SIGTERM."""
        report = Report(last=self._cancel.is_set())
        while True:
            self._connection.sendall(encode(report))
            if report.last:
                break
            code, token, trace_id = None, None, ""
            waited_behind = self._has_more()
            if self._wait():
                line = self._read_line()
                if not line:
                    return
                order = decode(line)
                if isinstance(order, Order) and waited_behind and _is_stale(order):
                    # The previous attempt was long, and the supervisor may have released this claim: never start it.
                    code, token = ExitCode.NOT_STARTED, order.token
                elif isinstance(order, Order):
                    end = self._execute(order)
                    code, token, trace_id = end.exit_code, order.token, end.trace_id
            report = Report(code, last=self._cancel.is_set(), token=token, trace_id=trace_id)
        # Read orders that were sent before the last report arrived. The supervisor knows that they were not started.
        while self._connection.recv(4096):
            pass

    def _has_more(self) -> bool:
        """Whether an order arrived while the previous one ran."""
        return bool(self._received) or bool(readable_of([self._connection], 0.0))

    def _wait(self) -> bool:
        """Wait for an order or the connection's end; False after SIGTERM. Consumes no data, so no order is lost."""
        try:
            self._idle = True
            if not self._cancel.is_set() and not self._received:
                self._connection.recv(1, socket.MSG_PEEK)
            self._idle = False
        except _StopRequested:
            self._idle = False
        return not self._cancel.is_set()

    def _read_line(self) -> bytes:
        while b"\n" not in self._received:
            data = self._connection.recv(65536)
            if not data:
                return b""
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _execute(self, order: Order) -> AttemptEnd:
        try:
            return self._run(order, self._cancel)
        finally:
            if os.getpid() != self._pid:
                os._exit(1)  # a child that the job forked must not use the parent's connection
            self._signals.restore()

    def _on_sigterm(self, number: int, _frame: object) -> None:
        if os.getpid() != self._pid:  # a child that the job forked: let the signal kill it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        first = not self._cancel.is_set()
        self._cancel.set()
        if self._idle and first:
            raise _StopRequested
