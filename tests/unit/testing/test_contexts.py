"""Calling a registered function directly just calls it, with a context that needs no run."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection
from sqlalchemy.orm import Session, sessionmaker
from tests.unit.testing.application import Words, awrite, lines, note, ran, write

from spoke_jobs import Cancelled, ConfigurationError
from spoke_jobs.testing.contexts import fake_context, fake_task_context


def test_a_job_s_function_is_called_with_the_test_s_session(session: Session, connection: Connection) -> None:
    ctx = fake_context("write", session=session)
    assert ctx.result is None
    write(ctx, Words(text="called"))
    assert (ctx.result, ctx.completed, lines(connection)) == ({"wrote": "called"}, True, ["called"])
    write(fake_context("write", session=session), Words(text="called again"))
    session.commit()
    assert lines(connection) == ["called", "called again"]


def test_or_with_what_makes_one(connection: Connection) -> None:
    sessions = sessionmaker(bind=connection, join_transaction_mode="create_savepoint")
    write(fake_context(sessions=sessions), Words(text="called"))
    assert lines(connection) == ["called"]


async def test_an_async_one(session: Session) -> None:
    assert await awrite(fake_context(session=session), Words(text="called")) == "called"


def test_what_it_says_can_be_looked_at() -> None:
    ctx = fake_context("import")
    ctx.progress(50, "half-way")
    assert [(report.percent, report.message) for report in ctx.reports] == [(50, "half-way")]
    assert (ctx.job.job_type, ctx.attempt, ctx.cancelled) == ("import", 1, False)
    ctx.cancel()
    with pytest.raises(Cancelled):
        ctx.raise_if_cancelled()


def test_without_a_session_it_says_so() -> None:
    with pytest.raises(ConfigurationError, match="fake_context"):
        _ = fake_context().session


def test_a_task_s_function() -> None:
    note(fake_task_context(), Words(text="called"))
    assert ran == ["called"]
