"""The writing connection: its session, and the lock, end with the process that has it, however that goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from tests.integration.sync.proxy import Proxy
from tests.waiting import wait_for

from spoke_jobs.errors import DatabaseUnreachable
from spoke_jobs.sync.writer import ConnectionLost, Writer


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
        wait_for("the lock is free", other.lead, 10)
        connection.execute(text("SELECT 1"))
    assert not writer.lead()
    other.close()


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
    assert wait_for("it leads again", writer.lead)
    with writer.transaction() as connection:
        assert connection.scalar(text("SELECT to_regclass('written')")) is None
    writer.close()
    proxy.close()
