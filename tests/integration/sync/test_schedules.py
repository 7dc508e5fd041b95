"""The active sync dispatches the jobs of schedules, for the runner `kubernetes`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import select, update

from spoke_jobs import Every, Registry
from spoke_jobs.ledger.tables import job_request, job_schedule
from spoke_jobs.sync.leader_loop import Intervals, LeaderLoop
from spoke_jobs.sync.sync_metrics import SyncHealth
from spoke_jobs.sync.writer import Writer

NO_CLUSTER: Any = cast(Any, None)


@pytest.fixture
def writer(postgres_ledger_url: str) -> Iterator[Writer]:
    writer = Writer(postgres_ledger_url)
    yield writer
    writer.close()
    writer.engine.dispose()


def loop_of(writer: Writer, registry: Registry | None) -> LeaderLoop:
    return LeaderLoop(writer, NO_CLUSTER, SyncHealth(), Intervals(), registry=registry)


def make_due(writer: Writer) -> None:
    with writer.transaction() as connection:
        due: datetime | None = connection.scalar(select(job_schedule.c.next_due_at))
        assert due is not None
        connection.execute(update(job_schedule).values(next_due_at=due - timedelta(hours=1)))


def dispatched(writer: Writer) -> list[tuple[str, str]]:
    with writer.transaction() as connection:
        found = connection.execute(select(job_request.c.schedule, job_request.c.runner))
        return [(row.schedule, row.runner) for row in found]


def test_sync_dispatches_and_launches_at_once(writer: Writer) -> None:
    registry = Registry()
    registry.job("report", schedule=Every(hours=1))(lambda _ctx: None)
    loop_of(writer, registry)._tick()
    make_due(writer)
    loop = loop_of(writer, registry)
    loop._tick()
    assert dispatched(writer) == [("report", "kubernetes")]
    assert loop._inbox.take_notified(), "the job is launched in this turn, without the wait for a dispatching process"


def test_sync_without_the_application_dispatches_none(writer: Writer) -> None:
    registry = Registry()
    registry.job("report", schedule=Every(hours=1))(lambda _ctx: None)
    loop_of(writer, registry)._tick()
    make_due(writer)
    loop_of(writer, None)._tick()
    assert dispatched(writer) == []
