"""Several tickers at once, some killed, dispatch each occurrence once (PostgreSQL: SQLite has one write lock)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from tests.integration.ledger.test_ticks import declared, row, tick
from tests.waiting import eventually

from spoke_jobs import Every, Registry
from spoke_jobs.ledger.audit import audit_events
from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.sql_ledger import SqlLedger
from spoke_jobs.ledger.tables import job_request
from spoke_jobs.runners.ticker import Ticker, ticker_of


@pytest.fixture
def engine(postgres_ledger_url: str) -> Iterator[Engine]:
    engine = create_engine(postgres_ledger_url)
    yield engine
    engine.dispose()


def test_several_tickers_dispatch_each_occurrence_once(engine: Engine) -> None:
    """Each begins at another time, and some are stopped in the middle of a transaction, as by kill -9."""
    names = [f"s{number}" for number in range(12)]
    registry = declared(*((name, Every(seconds=1, misfire="all")) for name in names))
    tick(engine, registry)
    begins = {name: row(engine, name).next_due_at for name in names}
    stop = threading.Event()
    tickers = 4

    def work(number: int) -> None:
        turn = 0
        while not stop.is_set():
            ticker = ticker_of(SqlLedger(engine), registry, "legacy")
            for _ in range(3):
                turn += 1
                if (turn + number) % 4 == 0:
                    _tick_and_die(engine, registry)
                ticker.tick_if_due()
                stop.wait(min(ticker.due_in(), 0.1))

    with ThreadPoolExecutor(tickers) as pool:
        running = [pool.submit(work, number) for number in range(tickers)]
        eventually(lambda: count(engine) >= 12 * 3, "three seconds of jobs")
        stop.set()
        for each in running:
            each.result()
    with engine.connect() as connection:
        for name in names:
            found = connection.scalars(
                select(job_request.c.scheduled_for).where(job_request.c.schedule == name).order_by(job_request.c.id)
            ).all()
            assert found[0] <= begins[name], "the first tick may dispatch already"
            assert sorted(found) == [found[0] + timedelta(seconds=number) for number in range(len(found))]
            assert row(engine, name).next_due_at == max(found) + timedelta(seconds=1)
            assert row(engine, name).error == "", "no ticker gets in the way of another"
        assert audit_events.events(connection, which=audit_events.EventFilter(action="fail schedule")) == []


def _tick_and_die(engine: Engine, registry: Registry) -> None:
    class Died(Exception):
        pass

    class Dying:
        def __enter__(self) -> Any:
            self.connection = engine.connect()
            self.transaction = self.connection.begin()
            return self.connection

        def __exit__(self, *_: object) -> None:
            self.transaction.rollback()  # what the server does with the transaction of a process that is gone
            self.connection.close()
            raise Died

    ticker = Ticker(registry, "legacy", engine.connect, Dying)
    ticker._next_declaration = float("inf")
    ticker._served = {schedule.digest for schedule in registry.schedules()}
    with contextlib.suppress(Died):
        ticker.tick_if_due()


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(job_request)) or 0
