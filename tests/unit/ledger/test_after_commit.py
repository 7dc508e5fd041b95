"""Effects after a commit: one call for all of a transaction, and never an error in the transaction."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from tests.waiting import patient

from spoke_jobs.ledger import after_commit as module
from spoke_jobs.ledger.after_commit import after_commit, launch_after_commit, wait_for_outer_commits
from spoke_jobs.ledger.engine import create_engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path}/jobs.sqlite3")
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE note (id integer PRIMARY KEY)"))
    yield made
    made.dispose()


class Effects:
    """Records the rows of each call; a row is visible once it is in the table."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.calls: list[list[int]] = []
        self.threads: set[int] = set()

    def visible(self, rows: Sequence[int]) -> Sequence[int]:
        with self.engine.connect() as connection:
            there = set(connection.scalars(text("SELECT id FROM note")))
        return [row for row in rows if row in there]

    def effect(self, rows: Sequence[int]) -> None:
        self.calls.append(list(rows))
        self.threads.add(threading.get_ident())

    def write(self, session: Session, *rows: int, **how: Any) -> None:
        for row in rows:
            session.execute(text("INSERT INTO note VALUES (:id)"), {"id": row})
        launch_after_commit(session, rows, self.visible, self.effect, **how)


@pytest.mark.parametrize("background", [False, True])
def test_the_effects_of_one_transaction_are_one_call(engine: Engine, background: bool) -> None:
    effects = Effects(engine)
    with Session(engine) as session:
        for number in range(1, 300):
            effects.write(session, number, background=background)
        session.commit()
        wait_for_outer_commits()
        effects.write(session, 300)
        session.commit()
    assert effects.calls == [list(range(1, 300)), [300]]
    assert len(effects.threads) == (2 if background else 1)


@pytest.mark.parametrize("background", [False, True])
def test_an_effect_that_checks_rows_is_called_at_once_in_the_committing_thread(
    engine: Engine, background: bool
) -> None:
    effects = Effects(engine)
    with Session(engine) as session:
        session.execute(text("SELECT 1"))
        launch_after_commit(session, [1, 2], effects.visible, effects.effect, background=background, checks_rows=True)
        assert effects.calls == []
        session.commit()
        assert effects.calls == [[1, 2]]
    assert effects.threads == {threading.get_ident()}


def test_an_effect_that_checks_rows_waits_for_an_outer_transaction_too(engine: Engine) -> None:
    effects = Effects(engine)
    with engine.begin() as connection, Session(connection, join_transaction_mode="create_savepoint") as session:
        effects.write(session, 1, checks_rows=True)
        session.commit()
        assert effects.calls == []
    wait_for_outer_commits()
    assert effects.calls == [[1]]


def test_a_row_of_a_savepoint_that_is_rolled_back_is_not_among_them(engine: Engine) -> None:
    effects = Effects(engine)
    with Session(engine) as session:
        effects.write(session, 1)
        savepoint = session.begin_nested()
        effects.write(session, 2)
        savepoint.rollback()
        effects.write(session, 3)
        session.commit()
    assert effects.calls == [[1, 3]]


def test_a_row_that_existed_before_does_not_prove_the_others(engine: Engine) -> None:
    """A unique key in use, together with new rows, and an outer transaction that fails at its commit."""
    effects = Effects(engine)
    with Session(engine) as session:
        effects.write(session, 1)
        session.commit()
    with engine.connect() as connection:
        outer = connection.begin()
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            session.execute(text("INSERT INTO note VALUES (2)"))
            launch_after_commit(session, [1, 2], effects.visible, effects.effect)
            session.commit()
        connection.connection.driver_connection.rollback()  # type: ignore[union-attr]  # what the database does
        outer.commit()
        wait_for_outer_commits()
    assert effects.calls == [[1], [1]]


@pytest.mark.parametrize("joined", [False, True])
def test_a_thread_that_cannot_start_is_no_failure_of_the_commit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, joined: bool
) -> None:
    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    effects = Effects(engine)
    monkeypatch.setattr(threading.Thread, "start", refuses)
    if joined:
        with engine.begin() as connection, Session(connection, join_transaction_mode="create_savepoint") as session:
            effects.write(session, 1)
            session.commit()
    else:
        with Session(engine) as session:
            effects.write(session, 1, background=True)
            session.commit()
    assert effects.visible([1]) == [1]
    assert effects.calls == []


def test_closing_waits_a_limited_time_for_a_check_that_hangs(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spoke_jobs.ledger.after_commit._WAIT_SECONDS", 0.1)
    hang = threading.Event()
    with Session(engine) as session:
        session.execute(text("INSERT INTO note VALUES (1)"))
        after_commit(session, lambda: True, lambda: hang.wait(patient(30)), background=True)
        session.commit()
    began = time.monotonic()
    wait_for_outer_commits()
    assert time.monotonic() - began < 30
    hang.set()
    wait_for_outer_commits()


def test_a_child_that_was_forked_as_a_thread_was_started_can_close() -> None:
    with module._threads_lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            wait_for_outer_commits()
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
