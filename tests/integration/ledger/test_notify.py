"""Notifications after a commit."""

from __future__ import annotations

import threading

import psycopg
import pytest
from sqlalchemy.engine import make_url

from spoke_jobs.ledger.engine import create_engine
from spoke_jobs.ledger.notify import Notifier


def test_a_notification_without_a_thread_does_not_prevent_later_ones(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    engine = create_engine(postgres_url)
    notifier = Notifier(engine, "spoke_test")
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("LISTEN spoke_test")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuses)
            notifier.notify()
        notifier.notify()
        assert list(connection.notifies(timeout=10, stop_after=1))
    notifier.close()
    engine.dispose()
