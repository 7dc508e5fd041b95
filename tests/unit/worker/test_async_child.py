"""The child process for `async def` jobs: its connections, and orders that come too late."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session
from tests.contract.ledger import LEASE, new_job

from spoke_jobs import JobContext, Registry
from spoke_jobs.contract.termination import ExitCode
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Pulse
from spoke_jobs.worker import async_child
from spoke_jobs.worker.child_messages import Order, Report, decode, encode
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


@pytest.mark.parametrize(
    ("payload_read", "end"), [(True, ExitCode.NOT_STARTED), (False, ExitCode.DONE)], ids=["read before", "read here"]
)
def test_an_order_that_has_become_too_late_while_it_waited_for_a_slot_is_not_started(
    sqlite_ledger_url: str, monkeypatch: pytest.MonkeyPatch, payload_read: bool, end: ExitCode
) -> None:
    """Unless its payload was read meanwhile: one that takes long to read would never start."""
    engine = async_child.engine_for(sqlite_ledger_url, 2)
    ledger, registry, ran = SqlLedger(engine), Registry(), list[int]()

    async def report(ctx: JobContext, _payload: Any) -> None:
        ran.append(ctx.job.id)
        await asyncio.sleep(0.02)

    registry.job("report")(report)
    ledger.insert_many([new_job(), new_job()])
    first, second = map(Order.of, ledger.claim_batch("legacy", ["report"], "w", LEASE, 2))
    assert second.job is not None
    second = replace(second, job=second.job if payload_read else None)
    monkeypatch.setattr(async_child, "PATIENCE_SECONDS", 60.0)  # however slow the machine is
    # It becomes late as soon as the first one has begun.
    monkeypatch.setattr(async_child, "is_late", lambda job_id, _start_by: job_id == second.job_id and bool(ran))
    ours, theirs = socket.socketpair()
    ours.sendall(encode(first) + encode(second))
    ours.shutdown(socket.SHUT_WR)
    output: Any = SimpleNamespace(tail=lambda _token: "", of=lambda _id, _token: nullcontext(), kept_after=9.0)
    shared, descriptor = SharedState.make(2)
    loop = async_child.AsyncOrderLoop(
        ledger, registry, lambda: Session(engine), 1, SharedState.open(descriptor), output
    )
    asyncio.run(loop.run(theirs))
    reports = [decode(line) for line in ours.recv(65536).splitlines()]
    ends = {report.token: report.exit_code for report in reports if isinstance(report, Report)}
    assert ends == {None: None, first.token: ExitCode.DONE, second.token: end}
    assert ran == [first.job_id] + [second.job_id] * (end is ExitCode.DONE)
    assert not shared.lists(second.token)
    ours.close()
    engine.dispose()
