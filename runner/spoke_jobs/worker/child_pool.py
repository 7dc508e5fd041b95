"""The child processes of a worker: starting them, talking to them, seeing them end. What they run is theirs alone."""

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

from spoke_jobs.worker.messages import Order, Report, Stop, decode, encode
from spoke_jobs.worker.shared_state import SharedState

PATIENCE_SECONDS = 1.0
"""How long an order may wait for room in an event loop's child before it is given back."""
CUT_OFF_SECONDS = 3.0
"""How long a child may live on whose connection is closed. It can't report any more; most are just ending."""
_LONG_SECONDS = 0.25
"""A child that has run one job for so long gets nothing in hand: it would be kept from others."""
_STUCK_SECONDS = 1.0
"""An event loop that one step of a job has held up for so long gets no orders."""


class Kind(Enum):
    """What a child runs; the value is its module."""

    THREAD = "spoke_jobs.worker.child"
    """``def`` jobs, one at a time."""
    LOOP = "spoke_jobs.worker.async_child"
    """``async def`` jobs, many together."""


@dataclass(eq=False)
class Child:
    """A child, and what it was told to run."""

    kind: Kind
    slots: int
    """How many attempts it runs at once."""
    ahead: int
    """How many more it may have in hand, so that it needn't wait for the next; only while attempts are short."""
    process: subprocess.Popen[bytes]
    connection: socket.socket
    pidfd: int | None
    """Readable once the process has ended, whoever else holds its connection open."""
    shared: SharedState
    cut_off_at: float | None = None
    received: bytes = b""
    unsent: bytes = b""
    """What its socket has no room for: a child whose interpreter is held up reads nothing."""
    let_go: bool = False
    """No more orders come, once what is unsent is sent."""
    ready: bool = False
    started_once: bool = False
    orders: dict[UUID, Assignment] = field(default_factory=dict)
    kill_reason: KillReason | None = None
    """Why we killed it, if we did."""

    def room(self, *, ahead: bool) -> int:
        """How many more attempts it takes."""
        if not self.ready or self.cut_off_at is not None:
            return 0
        if self.kind is Kind.LOOP and self.shared.at[1] > _STUCK_SECONDS:
            return 0
        return max(0, self.slots + (self.takes_ahead if ahead else 0) - len(self.orders))

    @property
    def takes_ahead(self) -> int:
        """How many orders it may have in hand just now."""
        return 0 if self.kind is Kind.THREAD and self.shared.at[1] > _LONG_SECONDS else self.ahead


@dataclass
class Assignment:
    """An order that a child has, and what we have asked of it since."""

    order: Order
    limit: float | None
    """Its timeout in seconds; None if it has none."""
    locks_queue: bool
    sent_at: float = field(default_factory=time.monotonic)
    cancelled_at: float | None = None


@dataclass(frozen=True, slots=True)
class KillReason:
    """Why a child was killed: for the sake of one of its orders (or of none)."""

    token: UUID | None
    cause: str
    message: str = ""
    """Where the cause's own meaning doesn't say it."""


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
            process_group=0,  # a terminal's Ctrl-C is for the supervisor, which decides what becomes of them
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
        """Everything that is being run."""
        for child in self.children:
            for assignment in list(child.orders.values()):
                yield child, assignment

    def order(self, child: Child, order: Order, limit: float | None, locks_queue: bool) -> None:
        """Have a child run an attempt."""
        child.orders[order.token] = Assignment(order, limit, locks_queue)
        self.send(child, order)

    def send(self, child: Child, message: Order | Stop) -> None:
        """Tell a child something."""
        if child.cut_off_at is None:
            child.unsent += encode(message)
            self.flush(child)

    def flush(self, child: Child) -> None:
        """Send what a child's socket takes now, and the rest once it is writable: nobody waits for a child."""
        if child.cut_off_at is not None:
            return
        try:
            while child.unsent:
                child.unsent = child.unsent[child.connection.send(child.unsent, socket.MSG_DONTWAIT) :]
            if child.let_go:
                child.connection.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            self._selector.modify(child.connection, selectors.EVENT_READ | selectors.EVENT_WRITE, child)
        except OSError:
            self.cut_off(child)
        else:
            self._selector.modify(child.connection, selectors.EVENT_READ, child)

    def receive(self, child: Child) -> list[Report] | None:
        """What a child has reported; None once nothing more can come."""
        if child.cut_off_at is not None:
            return None
        try:
            data = child.connection.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.cut_off(child)
            return None
        *lines, child.received = (child.received + data).split(b"\n")
        return [report for report in map(decode, lines) if isinstance(report, Report)]

    def cut_off(self, child: Child) -> None:
        """A child's connection is closed: the child has ended or is about to, or its job closed what isn't its own."""
        if child.cut_off_at is None:
            child.cut_off_at = time.monotonic()
            child.ready = False
            self._selector.unregister(child.connection)

    def let_go(self, child: Child) -> None:
        """Tell a child that no more orders come."""
        child.ready = False
        child.let_go = True
        self.flush(child)

    def kill(self, child: Child, why: KillReason) -> None:
        """End a child now; its end is noticed as any other's."""
        if child.kill_reason is None:
            child.kill_reason = why
            child.ready = False
        end_group(child)

    def forget(self, child: Child) -> None:
        """Let go of what we hold of a child."""
        self.children.remove(child)
        if child.cut_off_at is None:
            self._selector.unregister(child.connection)
        child.connection.close()
        if child.pidfd is not None:
            self._selector.unregister(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = None

    def end_all(self) -> list[Child]:
        """Kill what still runs something, wait for every child's end, and give them back."""
        children = list(self.children)
        for child in children:
            if child.orders:
                end_group(child)
            self.forget(child)
        for child in children:
            try:
                child.process.wait(5)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        return children


def end_group(child: Child) -> None:
    """Kill a child with all that its jobs started, but for what has made itself a session or group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.process.pid, signal.SIGKILL)


def _open_pidfd(pid: int) -> int | None:
    """None where there is no such thing: the end is then seen at the next poll."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def signal_name(number: int) -> str:
    """A signal as people call it."""
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names of their own
        return f"signal {number}"
