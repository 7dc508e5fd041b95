"""The child processes of a worker: start them, exchange messages with them, detect their exit."""

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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from uuid import UUID, uuid4

from spoke_jobs.contract.causes import Cause
from spoke_jobs.model import UNMEASURED, AttemptUsage
from spoke_jobs.runners.attempt_counts import ObservedAttempt
from spoke_jobs.shared.line_splitter import LineSplitter
from spoke_jobs.worker.child_messages import Order, Report, Stop, decode_report, encode
from spoke_jobs.worker.job_output import OutputFile
from spoke_jobs.worker.shared_state import SharedState
from spoke_jobs.worker.stack_file import StackFile

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""How long an order may wait for a slot in an async child before its claim is released."""
DISCONNECTED_SECONDS = 3.0
"""How long a child may live after its connection was closed. It can no longer report, and normally exits soon."""
_LONG_SECONDS = 0.25
"""A child that has run one job for this long gets no orders ahead. Another child may start them sooner."""
_STUCK_SECONDS = 1.0
"""An async child whose event loop a job has blocked for this long gets no orders."""

_SLOW_START_SECONDS = 5.0
"""A child that has been starting for this long no longer keeps others from starting: it may wait for something."""
_IDLE_SECONDS = 1.0
"""A worker none of whose children has had an order for this long is idle."""

_LAST_READS = 32
"""How often the socket of an exited child is read. It holds a few hundred kilobytes."""
_LINE_LIMIT = 10_000
"""The most bytes that a child may send without the end of a report."""


class ChildKind(Enum):
    """The kind of jobs that a child runs; the value is the child's argument."""

    THREAD = "thread"
    """``def`` jobs, one at a time."""
    LOOP = "loop"
    """``async def`` jobs, many at a time on one event loop."""


@dataclass(eq=False)
class Child:
    """A child process and its orders."""

    kind: ChildKind
    slots: int
    """How many attempts the child runs at once."""
    ahead: int
    """How many orders it may hold beyond ``slots``, so that after a short attempt it need not wait for a claim."""
    process: subprocess.Popen[bytes]
    connection: socket.socket
    pidfd: int | None
    """Readable once the process has exited, even if another process keeps its connection open."""
    shared: SharedState
    stack_file: StackFile
    output: OutputFile
    mark: str = ""
    """See :mod:`spoke_jobs.worker.child_pool`."""
    disconnected_at: float | None = None
    received: LineSplitter = field(default_factory=LineSplitter)
    unsent: bytes = b""
    """Bytes that the child's socket has not accepted yet, for example because its interpreter is blocked."""
    has_forged: bool = False
    """Whether one of its jobs has written a report itself."""
    closing: bool = False
    """Whether to close our side of the connection once everything is sent."""
    made_at: float = field(default_factory=time.monotonic)
    ready: bool = False
    started_once: bool = False
    orders: dict[UUID, HeldOrder] = field(default_factory=dict)
    reported_at: float = 0.0
    """When its last report was processed, on the monotonic clock."""
    kill_reason: KillReason | None = None
    """Why the supervisor killed the child; None if it did not."""
    memory_at_start: int = 0
    """The bytes of memory that it had before its first job, if the memory of children is bounded."""
    stacks: str = ""
    """The stacks of its threads when it was killed because of a timeout."""

    def room(self, *, ahead: bool) -> int:
        """The number of further orders that the child accepts now."""
        if not self.ready or self.disconnected_at is not None:
            return 0
        if self.kind is ChildKind.LOOP and self.shared.running_seconds > _STUCK_SECONDS:
            return 0
        return max(0, self.slots + (self.takes_ahead if ahead else 0) - len(self.orders))

    def may_have_sent(self, report: Report) -> bool:
        """Whether the child's own code may have sent a report. A job can write to its child's socket, too.

        A child notes in the shared memory that an attempt no longer runs before it reports its end.
        """
        held = report.token in self.orders
        if self.kind is ChildKind.LOOP:
            return not report.last and not (held and report.token is not None and self.shared.lists(report.token))
        running = self.shared.at[0]
        if report.last:  # it starts no other order
            return running is None
        # It runs its orders in their sequence, and may already run the next one.
        return not held or (report.token != running and report.token == next(iter(self.orders)))

    def has_begun(self, item: HeldOrder) -> bool:
        """Whether the child has begun an order that has not ended."""
        if self.kind is ChildKind.LOOP:
            return self.shared.lists(item.order.token)
        return self.shared.at[0] == item.order.token

    def ran_seconds(self, item: HeldOrder) -> float:
        """Return for how long an attempt that ends now has run: since its order was sent, or an earlier attempt ended.

        An async child may begin an order up to :data:`PATIENCE_SECONDS` later.
        """
        since = max(item.sent_at, self.reported_at) if self.kind is ChildKind.THREAD else item.sent_at
        return max(0.0, time.monotonic() - since)

    @property
    def takes_ahead(self) -> int:
        """The number of orders that the child may hold ahead now."""
        if self.kind is ChildKind.LOOP:
            return self.ahead
        alone = any(item.alone for item in self.orders.values())
        return 0 if alone or self.shared.running_seconds > _LONG_SECONDS else self.ahead


@dataclass
class HeldOrder:
    """An order that a child holds, its bounds, and when it was sent and stopped."""

    order: Order
    limit: float | None
    """The attempt's timeout in seconds; None if it has none."""
    locks_queue: bool
    memory_bytes: int | None = None
    """How much memory its child may have while it runs; None: any."""
    worker_seconds: float | None = None
    """How long the attempt may run before the job moves to a pod; None: as long as it likes."""
    type_name: str = ""
    """The name or the prefix by which the worker takes the job's type."""
    alone: bool = False
    """Whether its child holds no orders ahead: it is of a suspect type."""
    sent_at: float = field(default_factory=time.monotonic)
    called_at: float | None = None
    """When the supervisor first saw that an event loop had called the attempt's function."""
    cancelled_at: float | None = None
    too_long_at: float | None = None
    """When the attempt was told to stop because of :attr:`worker_seconds`."""
    unread_since: float | None = None
    """Since when the child, which runs nothing else, has not begun it; None if that is not so."""
    observed: ObservedAttempt | None = None
    """What its claim said, for metrics."""
    counted: bool = False
    """Whether its start in time was counted."""


@dataclass(frozen=True, slots=True)
class KillReason:
    """Why the supervisor killed a child."""

    token: UUID | None
    """The order for which the child was killed; None if that is unknown."""
    cause: str
    message: str = ""
    """The text to record; empty for the cause's meaning."""
    usage: AttemptUsage = UNMEASURED
    """What the supervisor measured of the attempt."""


class ChildPool:
    """All children of a worker."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self.children: list[Child] = []

    def start(self, kind: ChildKind, slots: int, ahead: int) -> Child:
        """Start a child."""
        ours, theirs = socket.socketpair()
        shared, descriptor = SharedState.make(slots + ahead if kind is ChildKind.LOOP else 0)
        stack_file, output = StackFile(), OutputFile()
        descriptors = (theirs.fileno(), descriptor, stack_file.fileno(), output.fileno())
        process = subprocess.Popen(
            [sys.executable, "-m", "spoke_jobs.worker", kind.value, *map(str, (*descriptors, slots))],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            env=os.environ | {MARK: (mark := uuid4().hex)},
            process_group=0,  # a terminal's Ctrl-C goes to the supervisor only, which then stops its children
        )
        theirs.close()
        os.close(descriptor)
        child = Child(kind, slots, ahead, process, ours, _open_pidfd(process.pid), shared, stack_file, output, mark)
        self.children.append(child)
        self._selector.register(ours, selectors.EVENT_READ, child)
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ)
        return child

    def of(self, kind: ChildKind) -> list[Child]:
        """The children of a kind."""
        return [child for child in self.children if child.kind is kind]

    def assignments(self) -> Iterable[tuple[Child, HeldOrder]]:
        """Every child with each of its assignments."""
        for child in self.children:
            for assignment in list(child.orders.values()):
                yield child, assignment

    def limits_change(self) -> None:
        """Let the children ask, before they start an order that was claimed before now, whether it is paused."""
        for child in self.children:
            child.shared.limits_change()

    def may_start(self, missing: int, processors: int, now: float) -> int:
        """Return how many missing children may start now.

        :param processors: how many processors the worker may use.
        :param now: the monotonic clock.
        """
        busy = any(each.orders or now < each.reported_at + _IDLE_SECONDS for each in self.children)
        starting = sum(not each.started_once and now < each.made_at + _SLOW_START_SECONDS for each in self.children)
        return starts_beside(starting, missing, processors) if busy else missing

    def order(self, child: Child, held: HeldOrder) -> None:
        """Send a child the order to run an attempt."""
        child.orders[held.order.token] = held
        self.send(child, held.order)

    def send(self, child: Child, message: Order | Stop) -> None:
        """Send a message to a child."""
        if child.disconnected_at is None:
            child.unsent += encode(message)
            self.flush(child)

    def flush(self, child: Child) -> None:
        """Send as much as the child's socket accepts now, and the rest once it is writable; never blocks."""
        if child.disconnected_at is not None:
            return
        try:
            while child.unsent:
                child.unsent = child.unsent[child.connection.send(child.unsent, socket.MSG_DONTWAIT) :]
            if child.closing:
                child.connection.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            self._selector.modify(child.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, child)
        except OSError:
            self.mark_disconnected(child)
        else:
            self._selector.modify(child.connection, selectors.EVENT_READ, child)

    def receive(self, child: Child) -> list[Report] | None:
        """The reports that a child has sent; None once its connection is closed."""
        if child.disconnected_at is not None:
            return None
        try:
            data = child.connection.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.mark_disconnected(child)
            return None
        lines = child.received.feed(data)
        reports = [report for report in map(decode_report, lines) if report is not None]
        if len(reports) < len(lines) or child.received.begun_bytes > _LINE_LIMIT:
            self.mark_disconnected(child)  # its job writes to the socket: the child is killed
        return reports

    def receive_last(self, child: Child) -> list[Report]:
        """The reports that a child sent before it exited.

        A process that its job has left behind may have its socket, and send reports without end.
        """
        reports: list[Report] = []
        for _ in range(_LAST_READS):
            if not (found := self.receive(child)):
                break
            reports += found
        return reports

    def mark_disconnected(self, child: Child) -> None:
        """Note that a child's connection is closed. The child has exited or will soon, or its job closed the socket."""
        if child.disconnected_at is None:
            child.disconnected_at = time.monotonic()
            child.ready = False
            self._selector.unregister(child.connection)

    def close(self, child: Child) -> None:
        """Close our side of the connection once everything is sent: no more orders follow."""
        child.ready = False
        child.closing = True
        self.flush(child)

    def kill(self, child: Child, reason: KillReason) -> None:
        """Kill a child now. The supervisor handles its exit like any other."""
        if child.kill_reason is None:
            child.kill_reason = reason
            child.ready = False
            if reason.cause == Cause.TIMEOUT:
                child.stacks = child.stack_file.ask(child.process.pid)
        kill_group(child)

    def kill_exceeding(
        self, exceeded: Callable[[Child], KillReason | None], kill: Callable[[Child, KillReason], None]
    ) -> None:
        """Kill the children that exceed a limit, from a background thread.

        Meanwhile the main thread may forget a child that has exited. If one cannot be examined, go on with the others:
        without this thread, nobody ends jobs in native code at their timeouts or leases.
        """
        for child in list(self.children):
            try:
                if child.orders and child.kill_reason is None and (reason := exceeded(child)) is not None:
                    kill(child, reason)
            except Exception:
                if child in self.children:
                    logger.exception("could not examine a child process", extra={"child_pid": child.process.pid})

    def forget(self, child: Child) -> None:
        """Remove an exited child, and close its connection."""
        self.children.remove(child)
        if child.disconnected_at is None:
            self._selector.unregister(child.connection)
        child.connection.close()
        child.stack_file.close()
        if child.pidfd is not None:
            self._selector.unregister(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = None

    def stop_all(self) -> list[Child]:
        """Kill the children that still hold orders, wait until all have exited, and return them."""
        children = list(self.children)
        for child in children:
            if child.orders:
                kill_group(child)
            self.forget(child)
        for child in children:
            try:
                child.process.wait(5)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            if child.orders:
                kill_processes_of(child)
        return children


def starts_beside(starting: int, missing: int, processors: int) -> int:
    """Return how many missing children may start beside others that run jobs.

    To import an application takes all of a processor, perhaps for seconds. Starts leave half of the processors to the
    jobs, but one child may always start.
    """
    return min(missing, max(0, max(1, processors // 2) - starting))


def kill_group(child: Child) -> None:
    """Kill a child's process group: the child, and the processes of its jobs that have not left the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)


def kill_processes_of(child: Child) -> None:
    """Kill the processes that the jobs of a child, which has exited, have left behind."""
    kill_group(child)
    if child.mark:
        kill_marked(child.mark)


def _open_pidfd(pid: int) -> int | None:
    """Open a pidfd; None on a system without them, where the exit is detected at the next poll."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGTERM."""
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return f"signal {number}"


MARK = "SPOKE_WORKER_CHILD"
"""The variable. Its value is random for each child process."""
_PAUSE_SECONDS = 0.05
"""Between the two scans. The worker does nothing else meanwhile."""


def kill_marked(mark: str) -> None:
    """Kill the processes whose environment has this mark.

    Look twice: a process may start another one during the first scan, and has no environment for a moment when it
    begins another program.
    """
    _kill_all_with(f"{MARK}={mark}".encode())
    time.sleep(_PAUSE_SECONDS)
    _kill_all_with(f"{MARK}={mark}".encode())


def _kill_all_with(entry: bytes) -> None:
    for pid in _processes():
        if entry in _environment(pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):  # not Linux
        names = [entry.name for entry in Path("/proc").iterdir()]
        yield from (int(name) for name in names if name.isdigit() and int(name) != os.getpid())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or is another user's
        return []
