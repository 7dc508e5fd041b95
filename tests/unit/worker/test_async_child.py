"""The child process for `async def` jobs: its connections."""

from __future__ import annotations

from contextlib import ExitStack
from uuid import uuid4

from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.model import Pulse
from spoke_jobs.worker import async_child

SLOTS = 30


def test_when_each_job_keeps_a_connection_the_ledger_still_has_its_own(sqlite_ledger_url: str) -> None:
    """Otherwise the jobs' leases would lapse, because no heartbeat gets a connection."""
    engine, token = async_child.engine_for(sqlite_ledger_url, SLOTS), uuid4()
    with ExitStack() as connections:
        for _ in range(SLOTS + async_child._THREADS + 1):  # the last one records successes
            connections.enter_context(engine.connect())
        assert SqlLedger(engine).heartbeats({token: None}, 30.0) == {token: Pulse.GONE}
    engine.dispose()
