"""The child process for `async def` jobs: its connections, and orders that come too late."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import OperationalError
from tests.contract.ledger import LEASE, new_job

from spoke_jobs import JobContext, Registry
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.memory_ledger import MemoryLedger
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Pulse
from spoke_jobs.worker import async_child
from spoke_jobs.worker.child_messages import Order, Report, Stop, decode, encode
from spoke_jobs.worker.shared_state import SharedState

SLOTS = 30


def test_when_each_job_keeps_a_connection_the_ledger_still_has_its_own(sqlite_ledger_url: str) -> None:
    """Otherwise the jobs' leases would lapse, because no heartbeat gets a connection."""
    engine, token = async_child.engine_for(sqlite_ledger_url, SLOTS), uuid4()
    with ExitStack() as connections:
        for _ in range(SLOTS + async_child._THREADS + 1):  # the last one records successes
            connections.enter_context(engine.connect())
        assert SqlLedger(engine).heartbeats({token: None}, 30.0) == {token: Pulse.GONE}
    engine.dispose()


class Loop:
    """An event loop's child whose supervisor is the test. Its jobs are of the type `report`."""

    def __init__(self, function: Any) -> None:
        self.ledger, registry = MemoryLedger(), Registry()
        registry.job("report")(function)
        self.ours, self._theirs = socket.socketpair()
        output: Any = SimpleNamespace(tail=lambda _token: "", of=lambda _id, _token: nullcontext(), kept_after=9.0)
        self.shared, descriptor = SharedState.make(2)
        self._loop = async_child.AsyncOrderLoop(
            self.ledger, registry, lambda: None, 1, SharedState.open(descriptor), output
        )

    def order(self) -> Order:
        self.ledger.insert(new_job())
        return Order.of(self.ledger.claim_batch("legacy", ["report"], "w", LEASE, 1)[0])

    def run(self, *messages: Order | Stop) -> dict[UUID | None, int | None]:
        """Send messages at once, let all orders end, and return how they did."""
        with self.ours, self._theirs:
            self.ours.sendall(b"".join(map(encode, messages)))
            self.ours.shutdown(socket.SHUT_WR)
            asyncio.run(self._loop.run(self._theirs))
            reports = [decode(line) for line in self.ours.recv(65536).splitlines()]
        return {report.token: report.exit_code for report in reports if isinstance(report, Report)}


@pytest.mark.parametrize(
    ("payload_read", "end"), [(True, ExitCode.NOT_STARTED), (False, ExitCode.DONE)], ids=["read before", "read here"]
)
def test_an_order_that_has_become_too_late_while_it_waited_for_a_slot_is_not_started(
    monkeypatch: pytest.MonkeyPatch, payload_read: bool, end: ExitCode
) -> None:
    """Unless its payload was read meanwhile: one that takes long to read would never start."""
    ran: list[int] = []

    async def report(ctx: JobContext, _payload: Any) -> None:
        ran.append(ctx.job.id)
        await asyncio.sleep(0.02)

    loop = Loop(report)
    first, second = loop.order(), loop.order()
    second = second if payload_read else replace(second, job=None)
    monkeypatch.setattr(async_child, "PATIENCE_SECONDS", 60.0)  # however slow the machine is
    # It becomes late as soon as the first one has begun.
    monkeypatch.setattr(async_child, "is_late", lambda job_id, _start_by: job_id == second.job_id and bool(ran))
    assert loop.run(first, second) == {None: None, first.token: ExitCode.DONE, second.token: end}
    assert ran == [first.job_id] + [second.job_id] * (end is ExitCode.DONE)
    assert not loop.shared.lists(second.token)


@pytest.mark.parametrize("payload_read", [True, False])
def test_an_order_that_is_cancelled_before_the_loop_has_begun_it_is_not_started(payload_read: bool) -> None:
    """Its order and its end may be read at once, or its end while its payload is read."""
    ran: list[int] = []

    async def report(ctx: JobContext, _payload: Any) -> None:
        ran.append(ctx.job.id)

    loop = Loop(report)
    order = loop.order()
    order = order if payload_read else replace(order, job=None)
    other = Stop(uuid4())  # its order has ended
    assert loop.run(order, Stop(order.token), other)[order.token] == ExitCode.NOT_STARTED
    assert not ran
    assert not loop._loop._stops


def test_a_success_whose_commit_was_not_answered_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: the job's row says so. Otherwise its run would count nowhere."""

    async def report(_ctx: JobContext, _payload: Any) -> None:
        pass

    loop = Loop(report)
    succeed_many, calls = loop.ledger.succeed_many, list[object]()

    def unanswered(*arguments: Any) -> Any:
        answer = succeed_many(*arguments)
        calls.append(answer)
        if len(calls) == 1:
            raise OperationalError("COMMIT", {}, Exception("the connection was lost"), connection_invalidated=True)
        return answer

    monkeypatch.setattr(loop.ledger, "succeed_many", unanswered)
    order = loop.order()
    assert loop.run(order)[order.token] == ExitCode.DONE
    assert len(calls) == 2
