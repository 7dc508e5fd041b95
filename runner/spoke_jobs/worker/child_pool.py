"""The child processes of a worker: start them, exchange messages with them, detect their exit."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from spoke_jobs.worker.child_messages import Order, Report, Stop, decode, encode
from spoke_jobs.worker.shared_state import SharedState

PATIENCE_SECONDS = 1.0
"""How long an order may wait for a slot in an async child before its claim is released."""
DISCONNECTED_SECONDS = 3.0
"""How long a child may live after its connection was closed. It can no longer report, and normally exits soon."""
_LONG_SECONDS = 0.25
"""A child that has run one job for this long gets no orders ahead. Another child may start them sooner."""
_STUCK_SECONDS = 1.0
"""An async child whose event loop a job has blocked for this long gets no orders."""


class Kind(Enum):
    """The kind of jobs that a child runs; the value is the child's module."""

    THREAD = "spoke_jobs.worker.child"
    """``def`` jobs, one at a time."""
    LOOP = "spoke_jobs.worker.async_child"
    """``async def`` jobs, many at a time on one event loop."""


@dataclass(eq=False)
class Child:
    """A child process and its orders."""

    kind: Kind
    slots: int
    """How many attempts it runs at once."""
    ahead: int
    """How many orders it may hold beyond ``slots``. With short attempts it need not wait for the next claim then."""
    process: subprocess.Popen[bytes]
    connection: socket.socket
    pidfd: int | None
    """Readable once the process has exited, even if another process keeps its connection open."""
    shared: SharedState
    disconnected_at: float | None = None
    received: bytes = b""
    unsent: bytes = b""
    """Bytes that its socket has not accepted yet, for example because its interpreter is blocked."""
    closing: bool = False
    """Whether to close our side of the connection once everything is sent."""
    ready: bool = False
    started_once: bool = False
    orders: dict[UUID, Assignment] = field(default_factory=dict)
    kill_reason: KillReason | None = None
    """Why the supervisor killed it; None if it did not."""

    def room(self, *, ahead: bool) -> int:
        """The number of further orders that it accepts now."""
        if not self.ready or self.disconnected_at is not None:
            return 0
        if self.kind is Kind.LOOP and self.shared.at[1] > _STUCK_SECONDS:
            return 0
        return max(0, self.slots + (self.takes_ahead if ahead else 0) - len(self.orders))

    @property
    def takes_ahead(self) -> int:
        """The number of orders that it may hold ahead now."""
        return 0 if self.kind is Kind.THREAD and self.shared.at[1] > _LONG_SECONDS else self.ahead


@dataclass
class Assignment:
    """An order that a child holds, and when it was sent and cancelled."""

    order: Order
    limit: float | None
    """Its timeout in seconds; None if it has none."""
    locks_queue: bool
    sent_at: float = field(default_factory=time.monotonic)
    cancelled_at: float | None = None


@dataclass(frozen=True, slots=True)
class KillReason:
    """Why the supervisor killed a child."""

    token: UUID | None
    """The order that it was killed for; None if that is unknown."""
    cause: str
    message: str = ""
    """Unless empty, recorded in place of the cause's meaning."""


class ChildPool:
    """All children of a worker."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self.children: list[Child] = []

    def start(self, kind: Kind, slots: int, ahead: int) -> Child:
        """Start a child."""
        ours, theirs = socket.socketpair()
        shared, descriptor = SharedState.make()
        process = subprocess.Popen(
            [sys.executable, "-m", kind.value, str(theirs.fileno()), str(descriptor), str(slots)],
            pass_fds=(theirs.fileno(), descriptor),
            stdin=subprocess.DEVNULL,
            process_group=0,  # a terminal's Ctrl-C goes to the supervisor only, which then stops its children
        )
        theirs.close()
        os.close(descriptor)
        child = Child(kind, slots, ahead, process, ours, _open_pidfd(process.pid), shared)
        self.children.append(child)
        self._selector.register(ours, selectors.EVENT_READ, child)
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ)
        return child

    def of(self, kind: Kind) -> list[Child]:
        """The children of a kind."""
        return [child for child in self.children if child.kind is kind]

    def assignments(self) -> Iterable[tuple[Child, Assignment]]:
        """Every child with each of its assignments."""
        for child in self.children:
            for assignment in list(child.orders.values()):
                yield child, assignment

    def order(self, child: Child, order: Order, limit: float | None, locks_queue: bool) -> None:
        """Send a child the order to run an attempt."""
        child.orders[order.token] = Assignment(order, limit, locks_queue)
        self.send(child, order)

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
        *lines, child.received = (child.received + data).split(b"\n")
        return [report for report in map(decode, lines) if isinstance(report, Report)]

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
        kill_group(child)

    def forget(self, child: Child) -> None:
        """Remove an exited child, and close its connection."""
        self.children.remove(child)
        if child.disconnected_at is None:
            self._selector.unregister(child.connection)
        child.connection.close()
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
        return children


def kill_group(child: Child) -> None:
    """Kill a child's process group: the child, and the processes of its jobs that have not left the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)


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
