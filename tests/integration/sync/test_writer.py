"""The writing connection: its session, and the lock, end with the process that has it, however that goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from tests.integration.sync.proxy import Proxy
from tests.waiting import eventually

from spoke_jobs.errors import DatabaseUnreachable
from spoke_jobs.ledger.access.privileges import Process
from spoke_jobs.sync.writer import LOCK, ConnectionLost, Writer


@pytest.fixture
def writer(postgres_ledger_url: str) -> Iterator[Writer]:
    made = Writer(postgres_ledger_url)
    yield made
    made.close()


def test_the_server_notices_within_half_a_minute_that_a_node_is_gone(writer: Writer) -> None:
    """What the server asks of the session's connection: its defaults are the kernel's, two hours and eleven minutes."""
    with writer.transaction() as connection:
        idle, interval, count = (
            int(connection.scalar(text(f"SELECT current_setting('tcp_keepalives_{name}')")) or 0)
            for name in ("idle", "interval", "count")
        )
        unanswered = int(connection.scalar(text("SELECT current_setting('tcp_user_timeout')")) or 0)
    assert 0 < idle + interval * count <= 30
    assert 0 < unanswered <= 30_000


def test_one_that_is_frozen_in_a_transaction_loses_it_and_the_lock(writer: Writer, postgres_ledger_url: str) -> None:
    assert writer.lead()
    with writer.transaction() as connection:
        assert connection.scalar(text("SELECT current_setting('idle_in_transaction_session_timeout')")) == "20s"
    other = Writer(postgres_ledger_url)
    assert not other.lead()
    with pytest.raises(ConnectionLost), writer.transaction() as connection:
        connection.execute(text("SET idle_in_transaction_session_timeout = '50ms'"))
        eventually(other.lead, "the lock is free")
        connection.execute(text("SELECT 1"))
    assert not writer.lead()
    other.close()


@pytest.mark.parametrize("process", [Process.JOBS, Process.READER])
def test_a_role_that_takes_the_lock_and_is_no_sync_is_named(role_urls: dict[Process, str], process: Process) -> None:
    intruder = create_engine(role_urls[process], connect_args={"application_name": "curious"})
    writer = Writer(role_urls[Process.APPLICATION])
    with intruder.connect() as connection:
        assert connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK})
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        assert not writer.lead()
        reason = writer.foreign_holder()
    intruder.dispose()
    assert f"role '{make_url(role_urls[process]).username}' (server process {pid}, application 'curious')" in reason
    assert eventually(writer.lead, "the lock is free")
    writer.close()


def test_one_of_several_holders_is_named(role_urls: dict[Process, str]) -> None:
    intruder = create_engine(role_urls[Process.JOBS])
    writer = Writer(role_urls[Process.APPLICATION])
    with intruder.connect() as first, intruder.connect() as second:
        for connection in (first, second):
            connection.execute(text("SELECT pg_advisory_lock_shared(:lock)"), {"lock": LOCK})
        assert not writer.lead()
        assert "holds sync's advisory lock" in writer.foreign_holder()
    intruder.dispose()
    writer.close()


def test_after_a_wait_in_vain_it_leaves_locked_rows_at_once(writer: Writer, postgres_ledger_url: str) -> None:
    other = create_engine(postgres_ledger_url)
    with other.begin() as holder:
        holder.execute(text("CREATE TABLE held AS SELECT 1 AS id"))
    with other.connect() as holder:
        holder.execute(text("SELECT id FROM held FOR UPDATE"))
        waited = []
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(DBAPIError), writer.transaction() as connection:
                connection.execute(text("UPDATE held SET id = 2"))
            waited.append(time.monotonic() - began)
    other.dispose()
    assert waited[0] > 2.5
    assert max(waited[1:]) < 1


def test_another_sync_is_no_intruder(role_urls: dict[Process, str]) -> None:
    first, second = Writer(role_urls[Process.APPLICATION]), Writer(role_urls[Process.APPLICATION])
    assert first.lead()
    assert (second.lead(), second.foreign_holder()) == (False, "")
    for writer in (first, second):
        writer.close()


def test_one_that_is_lost_is_told_as_lost_whatever_is_raised(writer: Writer) -> None:
    """Otherwise its next use would connect again, without the lock."""
    assert writer.lead()
    with pytest.raises(ConnectionLost), writer.transaction() as connection:
        with suppress(DBAPIError):
            connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        raise ValueError("of one row")


@pytest.mark.parametrize("moment", ["before it writes", "before it commits", "between two transactions"])
def test_a_connection_that_is_cut_is_told_as_lost(postgres_ledger_url: str, moment: str) -> None:
    url = make_url(postgres_ledger_url)
    proxy = Proxy((url.host or "", url.port or 5432))
    writer = Writer(url.set(port=proxy.port).render_as_string(hide_password=False))
    assert writer.lead()
    if moment == "between two transactions":
        proxy.cut()
    with pytest.raises(ConnectionLost), writer.transaction() as connection:
        if moment == "before it writes":
            proxy.cut()
        connection.execute(text("CREATE TABLE written (id int)"))
        proxy.cut()
    with pytest.raises((ConnectionLost, DatabaseUnreachable)):
        writer.lead()
    proxy.mend()
    assert eventually(writer.lead, "it leads again")
    with writer.transaction() as connection:
        assert connection.scalar(text("SELECT to_regclass('written')")) is None
    writer.close()
    proxy.close()
