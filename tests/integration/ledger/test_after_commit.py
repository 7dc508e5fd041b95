"""What follows a commit on PostgreSQL: the driver's word is taken, and where it has none the row is looked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from spoke_jobs.ledger.after_commit import launch_after_commit, wait_for_outer_commits
from spoke_jobs.ledger.engine import create_engine


class Book:
    """What was looked for, and what was launched."""

    def __init__(self) -> None:
        self.looks: list[list[int]] = []
        self.launches: list[list[int]] = []

    def visible(self, rows: Sequence[int]) -> Sequence[int]:
        self.looks.append(list(rows))
        return rows

    def launch(self, rows: Sequence[int]) -> None:
        self.launches.append(list(rows))

    def follow(self, session: Session, *rows: int, background: bool = False) -> None:
        session.execute(text("SELECT 1"))
        launch_after_commit(session, rows, self.visible, self.launch, background=background)


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = create_engine(postgres_url)
    yield made
    made.dispose()


def test_a_commit_that_the_driver_vouches_for_is_not_looked_after(engine: Engine, book: Book) -> None:
    with Session(engine) as session:
        with session.begin_nested():
            book.follow(session, 1)
        session.commit()
        book.follow(session, 2)
        session.commit()
    assert (book.launches, book.looks) == ([[1], [2]], [])


async def test_nor_is_an_asynchronous_one(engine: Engine, book: Book) -> None:
    asynchronous = create_async_engine(engine.url)
    async with AsyncSession(asynchronous) as session:
        await session.run_sync(lambda inner: book.follow(inner, 1, background=True))
        await session.commit()
    await asynchronous.dispose()
    wait_for_outer_commits()
    assert (book.launches, book.looks) == ([[1]], [])


def test_a_commit_that_becomes_a_rollback_launches_nothing(engine: Engine, book: Book) -> None:
    with Session(engine) as session:
        book.follow(session, 1)
        with pytest.raises(DBAPIError):
            session.execute(text("SELECT 1 / 0"))
        session.commit()
        book.follow(session, 2)
        session.commit()
    assert (book.launches, book.looks) == ([[2]], [])


def test_a_failure_that_a_savepoint_took_back_is_none(engine: Engine, book: Book) -> None:
    with Session(engine) as session:
        book.follow(session, 1)
        with pytest.raises(DBAPIError), session.begin_nested():
            book.follow(session, 2)
            session.execute(text("SELECT 1 / 0"))
        session.commit()
    assert (book.launches, book.looks) == ([[1]], [])


def test_where_the_driver_knows_of_no_transaction_the_row_is_looked_for(engine: Engine, book: Book) -> None:
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        book.follow(session, 1)
        session.commit()
    assert (book.launches, book.looks) == ([[1]], [[1]])


def test_an_outer_transaction_s_commit_is_looked_after(engine: Engine, book: Book) -> None:
    """Its driver can't be asked for it: what hears of it hears too early."""
    with engine.begin() as connection, Session(connection, join_transaction_mode="create_savepoint") as session:
        book.follow(session, 1)
        session.commit()
        assert book.launches == []
    wait_for_outer_commits()
    assert (book.launches, book.looks) == ([[1]], [[1]])
